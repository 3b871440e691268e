//! What the proxy says of itself: that it lives, who issues its tokens, and the certificate of the
//! authority of a task.

use gateway::resource::describe;
use gateway::{Body, full};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use model::config::ServerKind;
use model::{Rule, TaskStatus};

use super::refusal::Refusal;
use super::{METADATA, Proxy, Refused};

/// Where the certificate of the caller's task is.
const AUTHORITY: &str = "/ca.pem";

impl Proxy {
    pub(super) fn own(&self, request: &Request<Incoming>) -> Result<Response<Body>, Refused> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/livez") => Ok(text("text/plain; charset=utf-8", "ok\n".to_owned())),
            (&Method::GET, METADATA) => {
                let issuer = &self.settings.load().issuer;
                let name = "Sallyport: forward proxy";
                Ok(describe(
                    &self.resource,
                    ServerKind::Http.as_str(),
                    name,
                    issuer,
                    self.resource.starts_with("https:"),
                ))
            }
            (&Method::GET, AUTHORITY) => self.authority(request),
            _ => Err(Box::new(
                Refusal::new(
                    StatusCode::NOT_FOUND,
                    Rule::ProtocolViolation,
                    "this is a proxy, which has nothing at this path",
                    "use it as HTTPS_PROXY and HTTP_PROXY; /ca.pem has the certificate of a task",
                )
                .response(),
            )),
        }
    }

    /// The certificate of the authority of the caller's task.
    fn authority(&self, request: &Request<Incoming>) -> Result<Response<Body>, Refused> {
        let headers = request.headers();
        let name = if headers.contains_key(AUTHORIZATION) {
            AUTHORIZATION
        } else {
            PROXY_AUTHORIZATION
        };
        let caller = self.authenticate(AUTHORITY, &AUTHORITY[1..], request, &name)?;
        let task = caller.task.task();
        if caller.task.status_at(Timestamp::now()) != TaskStatus::Open {
            let refusal = Refusal::new(
                StatusCode::FORBIDDEN,
                Rule::TaskNotOpen,
                "the task has ended, and its certification authority with it",
                "open a new task",
            );
            return Err(self.refuse(AUTHORITY, Some(&caller), &refusal));
        }
        let hosts = self.shared.apis.load().hosts.terminated(task);
        if hosts.is_empty() {
            let refusal = Refusal::new(
                StatusCode::NOT_FOUND,
                Rule::ProtocolViolation,
                "no tunnel of this task is looked into, so it has no certification authority",
                "an operator can have tunnels looked into with `inspect = true`",
            );
            return Err(self.refuse(AUTHORITY, Some(&caller), &refusal));
        }
        let made = self.shared.tunnels.authorities.of(task, || hosts);
        match made {
            Ok(authority) => Ok(text("application/x-pem-file", authority.pem().to_owned())),
            Err(error) => {
                tracing::error!(%error, "a task's certification authority");
                Err(Box::new(
                    Refusal::unreachable("the certificate cannot be made").response(),
                ))
            }
        }
    }
}

fn text(kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(full(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
