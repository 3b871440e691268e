//! The listener on this machine. Who can reach it acts as the agent, so it is on loopback only, and its
//! URL has a password that nobody can guess.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway::problem::problem;
use gateway::serve::Handler;
use gateway::{Body, BodyError, full, named_by_connection};
use http::header::{
    CONNECTION, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;
use web::proxy::target::Target;
use zeroize::Zeroizing;

use super::super::at;
use super::super::channel::Channel;
use super::super::local::join;
use super::super::trouble::Trouble;
use super::onward::{Onward, bare};
use crate::failure::Failure;
use crate::output;

/// The user name in the URL; it says nothing.
const USER: &str = "task";

/// The listener.
pub(super) struct Local {
    channel: Channel,
    onward: Onward,
    secret: Zeroizing<String>,
    /// Ends tunnels, when the process does.
    ending: CancellationToken,
}

impl Local {
    /// In front of the gateway's proxy.
    ///
    /// # Errors
    /// [`Failure`] when there is no randomness.
    pub(super) fn new(channel: Channel, onward: Onward) -> Result<Self, Failure> {
        Ok(Self {
            channel,
            onward,
            secret: at::secret::<16>()?,
            ending: CancellationToken::new(),
        })
    }

    /// The way to the gateway.
    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The URL that programs are given.
    pub(super) fn url(&self, bound: SocketAddr) -> String {
        format!("http://{USER}:{}@{bound}", self.secret.as_str())
    }

    /// Ends all tunnels.
    pub(super) fn end(&self) {
        self.ending.cancel();
    }

    /// Whether a request has the password.
    fn is_known(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(PROXY_AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let shown = value
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
            .and_then(|(_, pair)| STANDARD.decode(pair.trim()).ok())
            .map(Zeroizing::new);
        shown.is_some_and(|pair| {
            let wanted = Zeroizing::new(format!("{USER}:{}", self.secret.as_str()));
            pair.as_slice().ct_eq(wanted.as_bytes()).into()
        })
    }

    async fn tunnel(&self, mut request: Request<Incoming>) -> Response<Body> {
        let Some(target) = target(&request) else {
            return not_a_target();
        };
        let text = target.to_string();
        let sent = self.send(|| {
            let mut request = Request::new(bare());
            *request.method_mut() = Method::CONNECT;
            *request.uri_mut() = text.parse().ok()?;
            let host = HeaderValue::from_str(&text).ok()?;
            request.headers_mut().insert(HOST, host);
            Some((request, format!("/{text}")))
        });
        let mut answer = match sent.await {
            Ok(answer) => answer,
            Err(trouble) => return troubled(&trouble),
        };
        if !answer.status().is_success() {
            return passed(answer, true);
        }
        let client = hyper::upgrade::on(&mut request);
        let server = hyper::upgrade::on(&mut answer);
        let ending = self.ending.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = join(client, server) => {}
                () = ending.cancelled() => {}
            }
        });
        Response::new(full(""))
    }

    /// Sends a request without content; once more with a fresh token, if the first is not accepted.
    async fn send(
        &self,
        make: impl Fn() -> Option<(Request<Body>, String)>,
    ) -> Result<Response<Incoming>, Trouble> {
        let mut again = false;
        loop {
            let (mut request, rest) = make().ok_or_else(not_sendable)?;
            let token = self.channel.authorise_proxy(&mut request, &rest).await?;
            let answer = self.onward.send(request, token.tls()).await?;
            if answer.status() != StatusCode::PROXY_AUTHENTICATION_REQUIRED || again {
                return Ok(answer);
            }
            again = true;
            self.channel.refused(&token, &answer).await;
        }
    }

    async fn plain(&self, request: Request<Incoming>) -> Response<Body> {
        let Some(target) = target(&request) else {
            return not_a_target();
        };
        let rest = format!("/{target}{}", request.uri().path());
        let broke = |_| BodyError("the connection broke".to_owned());
        let (mut parts, body) = request.into_parts();
        onward_headers(&mut parts.headers);
        let onward = Request::from_parts(parts, body.map_err(broke).boxed());
        let sent = async {
            let (mut onward, mut again) = self.channel.repeatable(onward).await?;
            loop {
                let token = self.channel.authorise_proxy(&mut onward, &rest).await?;
                let answer = self.onward.send(onward, token.tls()).await?;
                if answer.status() != StatusCode::PROXY_AUTHENTICATION_REQUIRED {
                    return Ok(answer);
                }
                self.channel.refused(&token, &answer).await;
                match again.take() {
                    Some(same) => onward = same,
                    None => return Ok(answer),
                }
            }
        };
        match sent.await {
            Ok(answer) => passed(answer, false),
            Err(trouble) => troubled(&trouble),
        }
    }
}

impl Handler for Local {
    async fn handle(&self, request: Request<Incoming>, _: SocketAddr) -> Response<Body> {
        if !self.is_known(request.headers()) {
            let mut refused = problem(
                StatusCode::PROXY_AUTHENTICATION_REQUIRED,
                "this proxy is for one program, which knows its password",
                "use exactly the URL that `sallyport connect proxy` gives",
            );
            let challenge = HeaderValue::from_static("Basic realm=\"sallyport connect proxy\"");
            refused.headers_mut().insert(PROXY_AUTHENTICATE, challenge);
            return refused;
        }
        if request.method() == Method::CONNECT {
            self.tunnel(request).await
        } else {
            self.plain(request).await
        }
    }
}

/// Where a request leads. What the gateway's proxy would take for nothing is not sent there.
fn target(request: &Request<Incoming>) -> Option<Target> {
    let uri = request.uri();
    if request.method() == Method::CONNECT {
        return Target::parse(uri.authority()?.as_str()).ok();
    }
    (uri.scheme_str() == Some("http")).then(|| Target::of(uri).ok())?
}

/// What is between the program and this listener only stays here. Who wants an upgrade opens a tunnel.
fn onward_headers(headers: &mut HeaderMap) {
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    for name in [CONNECTION, PROXY_AUTHORIZATION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    for name in ["proxy-connection", "keep-alive", "dpop"] {
        headers.remove(name);
    }
}

/// An answer as the program gets it, with its reason. Challenges are this listener's business.
fn passed(mut answer: Response<Incoming>, ends: bool) -> Response<Body> {
    let phrase = answer.extensions_mut().remove::<ReasonPhrase>();
    let broke = |_| BodyError("the connection broke".to_owned());
    let (mut parts, body) = answer.into_parts();
    for name in named_by_connection(&parts.headers) {
        parts.headers.remove(name);
    }
    for name in [CONNECTION, TRANSFER_ENCODING, PROXY_AUTHENTICATE] {
        parts.headers.remove(name);
    }
    if parts.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        parts.status = StatusCode::BAD_GATEWAY;
    }
    if ends {
        let close = HeaderValue::from_static("close");
        parts.headers.insert(CONNECTION, close);
    }
    let mut answer = Response::from_parts(parts, body.map_err(broke).boxed());
    if let Some(phrase) = phrase {
        answer.extensions_mut().insert(phrase);
    }
    answer
}

fn troubled(trouble: &Trouble) -> Response<Body> {
    output::note(format_args!("{trouble}"));
    problem(
        StatusCode::BAD_GATEWAY,
        &trouble.to_string(),
        "see what `sallyport connect proxy` says, and whether the task is still open",
    )
}

fn not_a_target() -> Response<Body> {
    problem(
        StatusCode::BAD_REQUEST,
        "this is neither a CONNECT to a host and port nor a request for an http URL",
        "use the proxy as HTTPS_PROXY and HTTP_PROXY",
    )
}

fn not_sendable() -> Trouble {
    Trouble::Unexpected {
        what: "the target",
        why: "it cannot be sent".to_owned(),
    }
}
