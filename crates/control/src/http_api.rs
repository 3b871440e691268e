//! The control listener: what every request must pass, and the way from there to its handler.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use gateway::Body;
use gateway::refusals::{Refusals, Whom};
use gateway::serve::Handler;
use http::header::{HOST, ORIGIN};
use http::{HeaderValue, Method, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use identity::assertion::Assertions;
use identity::dpop::Proofs;
use jiff::Timestamp;
use model::{Denial, Instance};
use tower::ServiceExt;

use crate::api;
use crate::engine::Engine;
use crate::management;
use crate::management::problem::{Refused, refusal};
use crate::nonces;
use crate::oauth;
use crate::operator::OperatorToken;
use crate::probes::{self, Gauges};
use crate::respond::Responder;
use crate::signals::{Signals, streams};
use crate::sources::{self, Source};

/// Longest body of a request, in bytes.
const BODY_BYTES: usize = 64 << 10;
/// Longest answer, in bytes: a page of the longest list is far below.
const ANSWER_BYTES: usize = 64 << 20;
/// How long a request may take, with its body. A change that was begun goes on after that.
const REQUEST: Duration = Duration::from_secs(30);
/// Client assertions and proofs that are remembered against replay.
const REMEMBERED: usize = 100_000;

/// Reads what people wrote anew and takes it into use, [`Engine::reload`] included.
pub type Reloader = Arc<
    dyn Fn() -> Pin<Box<dyn Future<Output = Result<api::Reloaded, ReloadError>> + Send>>
        + Send
        + Sync,
>;

/// Why what people wrote was not taken into use. Everything stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// There are mistakes in it, each in words, with its place.
    #[error("there are mistakes in the setup: {}", .0.join("; "))]
    Mistakes(Vec<String>),
    /// Something else went wrong.
    #[error("{0}")]
    Failed(String),
}

/// How the listener treats requests.
pub struct ControlSettings {
    /// The operator's token.
    pub operator: OperatorToken,
    /// Whether the listener is on a loopback address. Then the `Host` of requests must be one too,
    /// so that no page in a browser gets here under a name of its own (DNS rebinding), and metrics
    /// need no token.
    pub loopback: bool,
    /// What `POST /v1/reload` does; without one it is refused.
    pub reload: Option<Reloader>,
    /// What carries out playbooks; without one there are none.
    pub responder: Option<Arc<Responder>>,
    /// Signals to and from other systems; without them there are none.
    pub signals: Option<Arc<Signals>>,
}

/// What all handlers share.
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) operator: OperatorToken,
    pub(crate) loopback: bool,
    pub(crate) reload: Option<Reloader>,
    pub(crate) responder: Option<Arc<Responder>>,
    pub(crate) signals: Option<Arc<Signals>>,
    pub(crate) assertions: Assertions,
    pub(crate) proofs: Proofs,
    pub(crate) gauges: Gauges,
    /// A window of its own, so that a flood here hides nothing at the gateway.
    refusals: Refusals,
}

impl Shared {
    /// Records a request that was refused, if there were not too many in this second.
    pub(crate) fn refuse(&self, endpoint: &str, caller: Option<String>, denial: Denial) {
        self.refusals
            .note(Timestamp::now(), endpoint, caller, denial);
    }

    /// The same, of an instance that is known.
    pub(crate) fn refuse_instance(&self, endpoint: &str, instance: &Instance, denial: Denial) {
        let whom = Whom {
            caller: Some(instance.id.to_string().into()),
            agent: Some(&instance.agent),
            task: None,
        };
        self.refusals
            .note_of(Timestamp::now(), endpoint, &whom, denial);
    }
}

/// The control listener's handler.
pub struct Control {
    router: Router,
    shared: Arc<Shared>,
}

impl Control {
    /// Puts the engine on the listener.
    #[must_use]
    pub fn new(engine: Arc<Engine>, settings: ControlSettings) -> Self {
        let start = Timestamp::now();
        let shared = Arc::new(Shared {
            gauges: Gauges::new(engine.pipeline().metrics()),
            refusals: Refusals::new(Arc::clone(engine.live())),
            proofs: nonces::proofs(&engine, REMEMBERED).since(start),
            engine,
            operator: settings.operator,
            loopback: settings.loopback,
            reload: settings.reload,
            responder: settings.responder,
            signals: settings.signals,
            assertions: Assertions::new(REMEMBERED).since(start),
        });
        let closed = Router::new()
            .merge(oauth::routes())
            .merge(streams::routes())
            .merge(management::routes())
            .merge(probes::routes())
            .layer(middleware::from_fn(no_browser));
        let router = Router::new()
            .merge(oauth::public_routes())
            .merge(management::public_routes())
            .merge(streams::public_routes())
            .merge(closed)
            .fallback(unknown)
            .method_not_allowed_fallback(wrong_method)
            .layer(DefaultBodyLimit::max(BODY_BYTES))
            .layer(middleware::from_fn_with_state(
                Arc::clone(&shared),
                nonces::offer,
            ))
            .layer(middleware::from_fn_with_state(
                Arc::clone(&shared),
                sources::put_off,
            ))
            .layer(middleware::from_fn_with_state(
                Arc::clone(&shared),
                known_host,
            ))
            .layer(middleware::from_fn(in_time))
            .layer(middleware::map_response(plain))
            .with_state(Arc::clone(&shared));
        Self { router, shared }
    }

    /// Writes what was counted of refusals and is no record yet. Called at the end; otherwise it happens by
    /// itself, each second.
    pub fn write_counts(&self) {
        self.shared.refusals.flush();
    }

    /// Answers one request.
    pub async fn answer(&self, request: http::Request<axum::body::Body>) -> http::Response<Body> {
        let answer = self.router.clone().oneshot(request).await;
        let (head, body) = answer.unwrap_or_else(|never| match never {}).into_parts();
        match http_body_util::Limited::new(body, ANSWER_BYTES)
            .collect()
            .await
        {
            Ok(body) => http::Response::from_parts(head, gateway::full(body.to_bytes())),
            Err(error) => {
                tracing::error!(%error, "an answer could not be put together");
                let mut failed = http::Response::new(gateway::full(""));
                *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                failed
            }
        }
    }
}

impl Handler for Control {
    async fn handle(
        &self,
        mut request: http::Request<Incoming>,
        peer: SocketAddr,
    ) -> http::Response<Body> {
        request.extensions_mut().insert(Source(peer.ip()));
        self.answer(request.map(axum::body::Body::new)).await
    }
}

/// Browsers have no business here: what a page sends carries its origin.
async fn no_browser(request: Request, next: Next) -> Response {
    if request.headers().contains_key(ORIGIN) {
        return refusal(
            StatusCode::FORBIDDEN,
            "origin_refused",
            "requests from pages in a browser are refused here",
            "use the command line or another program that sends no Origin header",
        );
    }
    next.run(request).await
}

/// On loopback, only names of loopback lead here.
async fn known_host(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        _ => None,
    };
    let known = host.is_some_and(|host| {
        !shared.loopback || is_loopback(host) || is_own(host, &shared.engine.settings().control_url)
    });
    if !known {
        return refusal(
            StatusCode::MISDIRECTED_REQUEST,
            "host_refused",
            "the Host header does not name this listener",
            "use the URL of the control listener as the configuration has it",
        );
    }
    next.run(request).await
}

/// Whether a `Host` is the one of a base URL.
fn is_own(host: &str, base_url: &str) -> bool {
    let authority = base_url
        .split_once("://")
        .map_or(base_url, |(_, authority)| authority);
    host.eq_ignore_ascii_case(authority)
}

/// Whether a `Host`, with or without a port, is `localhost` or a loopback address.
fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<http::uri::Authority>() else {
        return false;
    };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    !host.contains('@')
        && (name.eq_ignore_ascii_case("localhost")
            || address
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback()))
}

async fn in_time(request: Request, next: Next) -> Response {
    tokio::time::timeout(REQUEST, next.run(request))
        .await
        .unwrap_or_else(|_| {
            refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "timed_out",
                "the request took longer than 30 seconds; a change that was begun goes on",
                "look at what it was to change before you repeat it",
            )
        })
}

/// What every answer says about itself.
async fn plain(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(http::header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    // Bodies over the limit and the like are refused by axum in plain text.
    let status = response.status();
    let is_text = response
        .headers()
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if status.is_client_error() && is_text {
        return refusal(
            status,
            "invalid_request",
            status
                .canonical_reason()
                .unwrap_or("the request was refused"),
            "correct the request and send it again",
        );
    }
    response
}

async fn unknown(uri: Uri) -> Response {
    let path: String = uri.path().chars().take(100).collect();
    Refused::not_found(format!("there is nothing at {path}")).into_response()
}

async fn wrong_method(method: Method) -> Response {
    refusal(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        &format!("{method} is not possible here"),
        "see the Allow header for what is",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_loopback() {
        for good in [
            "localhost",
            "LOCALHOST:8600",
            "127.0.0.1:8600",
            "127.8.8.8",
            "[::1]:8600",
        ] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "u@localhost",
            "127.0.0.1@evil.example",
            "evil.example#localhost",
        ] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }
}
