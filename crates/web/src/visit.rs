//! One request, from the door to the API.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use gateway::caller::Caller;
use gateway::front::Knock;
use gateway::live::CutSignal;
use gateway::pipeline::Digest;
use gateway::problem::{denied, problem};
use gateway::resource::challenge;
use gateway::{Body, BodyError, full};
use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use model::{Action, Denial, Operation, Rule};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::account::Account;
use crate::answer::{self, Answer};
use crate::api::Api;
use crate::arguments::{self, Reading, Refusal, Sent};
use crate::routes::{Found, WEBSOCKET};
use crate::upgrade::Upgraded;
use crate::{Shared, call_token, headers, path};

/// Answers one request.
pub(crate) async fn answer(shared: &Arc<Shared>, knock: Knock) -> Response<Body> {
    let base_url = &knock.settings.base_url;
    let caller = shared.pipeline.authenticate(
        knock.request.method(),
        &knock.route,
        &knock.rest,
        base_url,
        knock.request.headers(),
    );
    let caller = match caller {
        Ok(caller) => caller,
        Err(refused) => return challenge(&refused, &knock.route, base_url),
    };
    let api = shared.apis.load().get(&knock.route.server).cloned();
    let visit = Visit {
        shared,
        caller: &caller,
        knock_path: format!("{}{}", knock.route.path(), knock.rest),
    };
    // One that is not there and one that is not granted read the same: the decision says so.
    let Some(api) = api else {
        return visit.not_there(&knock).await;
    };
    match visit.carry_out(&api, knock).await {
        Ok(response) => response,
        Err(refusal) => visit.refuse(&refusal),
    }
}

struct Visit<'a> {
    shared: &'a Arc<Shared>,
    caller: &'a Caller,
    /// For the record of a refusal.
    knock_path: String,
}

impl Visit<'_> {
    async fn not_there(&self, knock: &Knock) -> Response<Body> {
        let action = Action::new(
            knock.route.server.clone(),
            knock.request.method().as_str(),
            Operation::Converse,
        );
        match self.shared.pipeline.attempt(self.caller, action).await {
            Err(refused) => denied(&refused),
            Ok(_) => problem(
                StatusCode::NOT_FOUND,
                "there is no such API",
                "name one that the task grants",
            ),
        }
    }

    async fn carry_out(&self, api: &Arc<Api>, knock: Knock) -> Result<Response<Body>, Refusal> {
        let Knock {
            mut request,
            route: resource,
            rest,
            settings,
            ..
        } = knock;
        let limits = &settings.limits;
        let upgrade = is_websocket(request.method(), request.headers())?;
        let segments = path::segments(&rest).map_err(|why| {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                format!("the path could be read in two ways: {why}"),
                "write each segment plainly, and encode only what must be, with capital letters",
            )
        })?;
        let method = if upgrade {
            WEBSOCKET
        } else {
            request.method().as_str()
        };
        let (route, values) = match api.routes.find(method, &segments) {
            Found::Route(route, values) => (route, values),
            Found::Case => {
                return Err(Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "the path is spelt like an endpoint but for small and capital letters",
                    "write it as the endpoint is written",
                ));
            }
            Found::Nothing => {
                return Err(Refusal::new(
                    StatusCode::NOT_FOUND,
                    "the API has no such endpoint",
                    "an operator declares endpoints with `routes` or `openapi`",
                ));
            }
        };
        let slot = self
            .shared
            .slots
            .take(self.caller.task.task().id, limits.streams_per_task)
            .ok_or_else(|| {
                Refusal::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    format!(
                        "the task has {} requests under way, as many as it may",
                        limits.streams_per_task
                    ),
                    "wait until one of them has ended",
                )
            })?;
        let agent: Option<OnUpgrade> = upgrade.then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().map(str::to_owned);
        let reading = Reading {
            limits,
            room: &self.shared.room,
            opaque_bodies: api.opaque_bodies,
        };
        let said = arguments::Parts {
            route,
            path: values,
            query: query.as_deref(),
            headers: &parts.headers,
            body,
        };
        let (arguments, sent) = arguments::of(said, &reading).await?;
        let endpoint = route.name();
        let redaction = api.redactions.get(&endpoint);
        let action = Action::new(
            resource.server.clone(),
            parts.method.as_str(),
            Operation::Request {
                endpoint,
                arguments,
            },
        );
        let mut permit = match self.shared.pipeline.attempt(self.caller, action).await {
            Ok(permit) => permit,
            Err(refused) => return Ok(denied(&refused)),
        };
        let mut onward = headers::onward(&parts.headers, &api.headers, upgrade);
        if let Some(tokens) = &api.call_token {
            let request = call_token::For {
                caller: self.caller,
                decision: permit.decision(),
                issuer: &settings.issuer,
                method: parts.method.as_str(),
                url: &format!("{}{rest}", api.web.base_url()),
                now: Timestamp::now(),
            };
            match call_token::make(tokens, &self.shared.keys, &request) {
                Ok(value) => drop(onward.insert(tokens.header.clone(), value)),
                Err(error) => {
                    tracing::error!(error, "a credential for a request cannot be signed");
                    return Ok(problem(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "the credential for this request cannot be made",
                        "an operator must see to the signing keys",
                    ));
                }
            }
        }
        let dispatch = match permit.dispatch() {
            Ok(dispatch) => dispatch,
            Err(refused) => return Ok(denied(&refused)),
        };
        let signal = permit.signal();
        let account = Account::new(permit, Digest::new(&self.caller.task));
        let body = match sent {
            Sent::Whole(bytes) => full(bytes),
            Sent::Opaque(body) => Cuttable::new(body, &signal).boxed(),
        };
        let mut outgoing = Request::new(body);
        *outgoing.method_mut() = parts.method;
        *outgoing.headers_mut() = onward;
        let target = match &query {
            Some(query) => format!("{rest}?{query}"),
            None => rest,
        };
        let expires = self.caller.task.task().expires_at;
        let answered = tokio::select! {
            biased;
            () = signal.cut() => return Ok(answer::cut(account)),
            answered = api.web.send(outgoing, &target) => answered,
        };
        drop(dispatch);
        let mut response = match answered {
            Ok(response) => response,
            Err(error) => return Ok(answer::failed(account, &error.to_string())),
        };
        match (agent, response.status()) {
            (Some(agent), StatusCode::SWITCHING_PROTOCOLS) => {
                let upgraded = Upgraded {
                    agent,
                    api: hyper::upgrade::on(&mut response),
                    account,
                    expires,
                    slot,
                };
                tokio::spawn(upgraded.run());
                let (mut head, _) = response.into_parts();
                head.headers = headers::back(head.headers, true);
                Ok(Response::from_parts(head, full("")))
            }
            _ => {
                let answer = Answer {
                    api,
                    resource: &resource,
                    settings: &settings,
                    room: &self.shared.room,
                    redaction,
                    expires,
                    slot,
                };
                Ok(answer.pass(account, response).await)
            }
        }
    }

    /// Answers, and records, what did not become an action.
    fn refuse(&self, refusal: &Refusal) -> Response<Body> {
        let denial = Denial {
            rule: Rule::ProtocolViolation,
            reason: refusal.reason.clone(),
            remedy: refusal.remedy.to_owned(),
        };
        self.shared
            .pipeline
            .refuse(&self.knock_path, Some(self.caller), denial);
        problem(refusal.status, &refusal.reason, refusal.remedy)
    }
}

/// Whether a request asks for an upgrade to WebSocket (RFC 6455 §4.1).
///
/// # Errors
/// [`Refusal`] when it asks for another one, or in another way.
fn is_websocket(method: &Method, headers: &HeaderMap) -> Result<bool, Refusal> {
    let Some(upgrade) = headers.get(UPGRADE) else {
        return Ok(false);
    };
    let named = |value: &http::HeaderValue, word: &str| {
        value.to_str().is_ok_and(|text| {
            text.split(',')
                .any(|one| one.trim().eq_ignore_ascii_case(word))
        })
    };
    let asked = headers.get_all(UPGRADE).iter().count() == 1
        && upgrade.as_bytes().eq_ignore_ascii_case(b"websocket")
        && headers
            .get(CONNECTION)
            .is_some_and(|value| named(value, "upgrade"))
        && headers.contains_key(SEC_WEBSOCKET_KEY)
        && method == Method::GET;
    if asked {
        Ok(true)
    } else {
        Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "the only upgrade is to WebSocket, with GET",
            "leave out the Upgrade header",
        ))
    }
}

/// A body that ends with an error when it is cut.
struct Cuttable {
    body: Incoming,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Cuttable {
    fn new(body: Incoming, signal: &CutSignal) -> Self {
        Self {
            body,
            cut: Box::pin(signal.cut()),
        }
    }
}

impl http_body::Body for Cuttable {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(BodyError("the request was cut off".to_owned()))));
        }
        let broke = |_| BodyError("the request broke off".to_owned());
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        // Trailers are headers that nobody looked at.
        Poll::Ready(match frame {
            Some(Ok(frame)) if frame.is_trailers() => None,
            other => other.map(|frame| frame.map_err(broke)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
