//! A listener on this machine for plain HTTP clients: whatever they send goes on with a token and a
//! proof made for it alone.
//!
//! Who can reach the listener acts as the agent, so it is on loopback only, its URL has a part that
//! nobody can guess, and pages in browsers are turned away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway::problem::problem;
use gateway::serve::{Handler, Options};
use gateway::{Body, BodyError, full, named_by_connection};
use http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, HOST, ORIGIN, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;

use super::channel::Channel;
use super::{at, farewell, until};
use crate::failure::Failure;
use crate::output;

/// How clients are served, by the forward proxy too.
pub(super) const OPTIONS: Options = Options {
    // Most connections of clients at once.
    connections: 256,
    // How long a client may take for a request's head.
    head: Duration::from_secs(30),
    // How long what is in flight may take at the end.
    grace: Duration::from_secs(5),
    tls: None,
};

/// What of a request stays here: credentials that are none for the gateway, and what is between two
/// neighbours only. SDKs insist on an API key; whatever it is, it is not the token.
static WITHHELD: [HeaderName; 9] = [
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
    COOKIE,
    HOST,
    TRANSFER_ENCODING,
    HeaderName::from_static("dpop"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("keep-alive"),
];

/// Serves until the signal comes, then completes the task if it was opened here.
///
/// # Errors
/// [`Failure`] when the address cannot be used.
pub(super) async fn serve(
    channel: Channel,
    complete: bool,
    address: SocketAddr,
    signal: impl Future<Output = ()>,
) -> Result<(), Failure> {
    if !address.ip().is_loopback() {
        return Err(Failure::usage(format!(
            "{address} can be reached from elsewhere: whoever reaches it acts as the agent"
        ))
        .hint("listen on 127.0.0.1"));
    }
    let (listener, bound) = at::bind(address).await?;
    let prefix = format!("/{}", at::secret::<16>()?.as_str());
    output::line(format_args!("http://{bound}{prefix}"))?;
    let local = Arc::new(Local {
        channel,
        authority: bound.to_string(),
        prefix,
    });
    let stop = CancellationToken::new();
    let serving = gateway::serve::serve(listener, Arc::clone(&local), OPTIONS, stop.clone());
    until(signal, &stop, serving).await;
    if complete {
        farewell("the task", local.channel.complete_task()).await;
    }
    Ok(())
}

/// The listener, in front of one server.
struct Local {
    channel: Channel,
    /// The host and port that clients know it by.
    authority: String,
    /// The part of the path that clients were told.
    prefix: String,
}

impl Handler for Local {
    async fn handle(&self, request: Request<Incoming>, _: SocketAddr) -> Response<Body> {
        match self.admit(&request) {
            Ok(rest) => self.carry(request, &rest).await,
            Err(refused) => *refused,
        }
    }
}

impl Local {
    /// The path and query behind the URL that clients were told.
    fn admit(&self, request: &Request<Incoming>) -> Result<String, Box<Response<Body>>> {
        let refuse = |detail| {
            Err(Box::new(problem(
                StatusCode::FORBIDDEN,
                detail,
                "use exactly the URL that `sallyport connect` printed, and not from a browser's page",
            )))
        };
        let headers = request.headers();
        if headers.contains_key(ORIGIN) {
            return refuse("pages in browsers may not call");
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let own = host.is_some_and(|host| {
            let port = self.authority.rsplit_once(':').map_or("", |(_, port)| port);
            host == self.authority || host.strip_prefix("localhost:") == Some(port)
        });
        if !own || request.uri().authority().is_some() {
            return refuse("the Host is not this listener's");
        }
        let path = request.uri().path();
        let (own, rest) = path.split_at(path.len().min(self.prefix.len()));
        let known: bool = own.as_bytes().ct_eq(self.prefix.as_bytes()).into();
        if !known || !(rest.is_empty() || rest.starts_with('/')) {
            return refuse("the path is not this listener's");
        }
        Ok(match request.uri().query() {
            Some(query) => format!("{rest}?{query}"),
            None => rest.to_owned(),
        })
    }

    async fn carry(&self, mut request: Request<Incoming>, rest: &str) -> Response<Body> {
        let upgrade = request.headers().contains_key(UPGRADE);
        let client = upgrade.then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let broke = |_| BodyError("the connection broke".to_owned());
        let mut onward = Request::new(body.map_err(broke).boxed());
        *onward.method_mut() = parts.method;
        *onward.headers_mut() = onward_headers(parts.headers, upgrade);
        let mut answer = match self.channel.pass(onward, rest).await {
            Ok(answer) => answer,
            Err(trouble) => {
                output::note(format_args!("{trouble}"));
                return problem(
                    StatusCode::BAD_GATEWAY,
                    &trouble.to_string(),
                    "see what `sallyport connect` says, and whether the task is still open",
                );
            }
        };
        for name in [WWW_AUTHENTICATE, PROXY_AUTHENTICATE] {
            answer.headers_mut().remove(name);
        }
        match client {
            Some(client) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let server = hyper::upgrade::on(&mut answer);
                tokio::spawn(join(client, server));
                answer.map(|_| full(""))
            }
            _ => answer.map(|body| body.map_err(broke).boxed()),
        }
    }
}

/// The headers that go on.
fn onward_headers(mut headers: HeaderMap, upgrade: bool) -> HeaderMap {
    for name in named_by_connection(&headers) {
        if !(upgrade && name == UPGRADE) {
            headers.remove(name);
        }
    }
    if !upgrade {
        headers.remove(CONNECTION);
        headers.remove(UPGRADE);
    }
    for name in &WITHHELD {
        headers.remove(name);
    }
    headers
}

/// Passes bytes both ways after an upgrade, until one side ends.
pub(super) async fn join(client: hyper::upgrade::OnUpgrade, server: hyper::upgrade::OnUpgrade) {
    let Ok((client, server)) = tokio::try_join!(client, server) else {
        return;
    };
    let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn what_clients_hold_for_credentials_stays_here() {
        let of = |headers: &[(&'static str, &'static str)], upgrade| {
            let headers = headers.iter().map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            });
            let mut left: Vec<String> = onward_headers(headers.collect(), upgrade)
                .keys()
                .map(ToString::to_string)
                .collect();
            left.sort();
            left
        };
        let sent = [
            ("authorization", "Bearer sk-unused"),
            ("x-api-key", "sk-unused"),
            ("cookie", "a=b"),
            ("host", "127.0.0.1:1"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("accept", "*/*"),
            ("content-type", "application/json"),
        ];
        assert_eq!(of(&sent, false), ["accept", "content-type"]);
        let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")];
        assert_eq!(of(&upgrade, true), ["connection", "upgrade"]);
        assert!(of(&upgrade, false).is_empty());
    }
}
