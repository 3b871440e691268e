//! One request, from the door to the API.

use std::sync::Arc;
use std::time::Duration;

use gateway::caller::Caller;
use gateway::front::Knock;
use gateway::problem::{denied, problem};
use gateway::resource::challenge;
use gateway::upstream::UpstreamError;
use gateway::{Body, full};
use http::header::{CONNECTION, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use model::{Action, Denial, Operation, Rule};

use crate::account::Account;
use crate::answer::{self, Answer};
use crate::api::Api;
use crate::arguments::{self, Reading, Refusal, Sent};
use crate::routes::{Found, WEBSOCKET};
use crate::upgrade::Upgraded;
use crate::upload::{Bounds, Outcome, Upload};
use crate::watch::Watch;
use crate::{Shared, call_token, headers, path};

/// Answers one request.
pub(crate) async fn answer(shared: &Arc<Shared>, knock: Knock) -> Response<Body> {
    let base_url = &knock.settings.base_url;
    let caller = shared
        .pipeline
        .authenticate(&knock.request, &knock.route, &knock.rest, base_url);
    let caller = match caller {
        Ok(caller) => caller,
        Err(refused) => return challenge(&refused, &knock.route, base_url),
    };
    answer_for(shared, &Arc::new(caller), knock, Named::ByGateway).await
}

/// How the agent names the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// By a URL of the gateway.
    ByGateway,
    /// By its own URL, through the forward proxy.
    ByItself,
}

/// Answers one request of a caller.
pub(crate) async fn answer_for(
    shared: &Arc<Shared>,
    caller: &Arc<Caller>,
    knock: Knock,
    named: Named,
) -> Response<Body> {
    let api = shared.apis.load().by_name.get(&knock.route.server).cloned();
    let visit = Visit {
        shared,
        caller,
        named,
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
    caller: &'a Arc<Caller>,
    named: Named,
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
            // A WebSocket over HTTP/2 (RFC 8441) is asked for in a way that is not offered; what comes here
            // tried to do without an upgrade.
            Found::Nothing
                if request.version() == Version::HTTP_2
                    && matches!(api.routes.find(WEBSOCKET, &segments), Found::Route(..)) =>
            {
                return Err(Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "this endpoint is a WebSocket, which is opened over HTTP/1.1",
                    "open it over HTTP/1.1",
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
            opaque_bytes: api.opaque_bytes,
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
        let is_unseen = matches!(sent, Sent::Opaque(_));
        let pipeline = &self.shared.pipeline;
        if is_unseen && !pipeline.may_pass_unseen(&resource.server, &endpoint, "body") {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "what decides in this request could be in its body, and nobody can look into that",
                "send JSON; an operator can say `content = [\"body\"]` in the API's annotations",
            ));
        }
        let redaction = api.redactions.get(&endpoint);
        let target: Arc<str> = endpoint.as_str().into();
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
        if is_unseen && permit.approval().is_some() {
            return Ok(problem(
                StatusCode::FORBIDDEN,
                "a person approved this request, and nobody could see its body",
                "send a body that can be looked into",
            ));
        }
        let watch = Watch::of(
            pipeline.inspection(),
            self.caller,
            &resource.server,
            target,
            permit.decision(),
        );
        let mut credential = None;
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
                Ok(value) => credential = Some((&tokens.header, value)),
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
        let digest = permit.digest();
        let mut account = Account::new(permit, digest);
        let bounds = Bounds {
            bytes: api.opaque_bytes.unwrap_or(0),
            silence: Duration::from_secs(limits.request_seconds),
        };
        let outgoing = |body: Body| {
            let mut onward = headers::onward(&parts.headers, &api.headers, upgrade);
            if watch.is_some() {
                headers::to_be_looked_at(&mut onward, api.ranges);
            }
            if let Some((name, value)) = &credential {
                onward.insert((*name).clone(), value.clone());
            }
            let mut outgoing = Request::new(body);
            *outgoing.method_mut() = parts.method.clone();
            *outgoing.headers_mut() = onward;
            outgoing
        };
        let mut outcome = Outcome::default();
        let mut again = None;
        let first = match sent {
            Sent::Whole(bytes) => {
                // Whether to do it twice is to do it once (RFC 9110 §9.2.2).
                again = (parts.method.is_idempotent() && !upgrade).then(|| bytes.clone());
                outgoing(full(bytes))
            }
            Sent::Opaque(body) => {
                let (upload, broke, guard) = Upload::new(body, bounds, signal.cut());
                account.upload = Some(guard);
                outcome = broke;
                outgoing(upload.boxed())
            }
        };
        let target = match &query {
            Some(query) => format!("{rest}?{query}"),
            None => rest,
        };
        let expires = self.caller.task.task().expires_at;
        let sending = async {
            match (api.web.send(first, &target).await, again) {
                (Err(UpstreamError::Stale), Some(bytes)) => {
                    account
                        .permit
                        .note("retried", "the connection had been closed");
                    api.web.send_afresh(outgoing(full(bytes)), &target).await
                }
                (answered, _) => answered,
            }
        };
        let answered = tokio::select! {
            biased;
            () = signal.cut() => None,
            answered = sending => Some(answered),
        };
        let Some(answered) = answered else {
            return Ok(answer::cut(account));
        };
        drop(dispatch);
        let mut response = match answered {
            Ok(response) => response,
            Err(error) => {
                return Ok(match outcome.refusal(bounds) {
                    Some(refused) => answer::withdrawn(account, refused),
                    None => answer::unreached(account, &error),
                });
            }
        };
        match (agent, response.status()) {
            (Some(agent), StatusCode::SWITCHING_PROTOCOLS) => {
                if watch.is_some() && response.headers().contains_key(SEC_WEBSOCKET_EXTENSIONS) {
                    return Ok(answer::failed(
                        account,
                        "the API uses an extension of WebSocket, though none was asked for",
                    ));
                }
                let upgraded = Upgraded {
                    agent,
                    api: hyper::upgrade::on(&mut response),
                    account,
                    watch,
                    longest: (limits.request_bytes, limits.response_bytes),
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
                    named: self.named,
                    settings: &settings,
                    room: &self.shared.room,
                    redaction,
                    watch,
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
    // What clients of HTTP/2 once asked (RFC 7540 §3.2) may be left unheard, and nothing of it passes.
    if upgrade == "h2c" && headers.get_all(UPGRADE).iter().count() == 1 {
        return Ok(false);
    }
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
