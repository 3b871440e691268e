//! A notification of another agent: it came to an address that only that agent knows, about the task
//! that the address was made for, while the task that asked is open. It is recorded as an action of that
//! task, and delivered to where the configuration allows.

use std::time::Duration;

use bytes::Bytes;
use gateway::caller::Caller;
use gateway::front::Settings;
use gateway::inspection::What;
use gateway::intake;
use gateway::outbound::Post;
use gateway::pipeline::Permit;
use gateway::problem::problem;
use gateway::resource::Route;
use gateway::{Body, single};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use model::record::Ended;
use model::{Action, Denial, Operation, Rule, json};

use super::hook::Hook;
use super::{NotFound, Registration};
use crate::owned::Kind;
use crate::refusal::json_response;
use crate::watch::{self, Told};
use crate::{Shared, inspect};

/// Where notifications come to, behind the agent's own path.
pub(crate) const BEHIND: &str = "/push/";
/// The header that carries the token (0.3, §9.5; 1.0, §4.3).
static TOKEN: HeaderName = HeaderName::from_static("x-a2a-notification-token");
/// The method in records.
const METHOD: &str = "push-notification";

/// Why a notification is not delivered: the status for the other agent, and why.
struct Unwelcome {
    status: StatusCode,
    why: String,
    /// Whether the log has it already.
    recorded: bool,
}

impl Unwelcome {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self {
            status,
            why: why.into(),
            recorded: false,
        }
    }

    fn recorded(status: StatusCode, why: impl Into<String>) -> Self {
        Self {
            recorded: true,
            ..Self::new(status, why)
        }
    }
}

impl Shared {
    /// Answers the other agent.
    pub(crate) async fn notified(
        &self,
        request: Request<Incoming>,
        route: &Route,
        address: &str,
        settings: &Settings,
    ) -> Response<Body> {
        match self.deliver(request, route, address, settings).await {
            Ok(()) => json_response(StatusCode::OK, "{}"),
            Err(unwelcome) => {
                let Unwelcome { status, why, .. } = &unwelcome;
                if !unwelcome.recorded {
                    let denial = Denial {
                        rule: Rule::ProtocolViolation,
                        reason: format!("a notification was refused: {why}"),
                        remedy: "see the task's webhooks; nothing was delivered".to_owned(),
                    };
                    let endpoint = format!("{}{BEHIND}", route.path());
                    self.pipeline.refuse(&endpoint, None, denial);
                }
                problem(*status, why, "the task is told of by asking for it, too")
            }
        }
    }

    async fn deliver(
        &self,
        request: Request<Incoming>,
        route: &Route,
        address: &str,
        settings: &Settings,
    ) -> Result<(), Unwelcome> {
        let (head, body) = request.into_parts();
        if head.method != Method::POST || head.headers.contains_key(CONTENT_ENCODING) {
            let why = "notifications are POSTed, without a content encoding";
            return Err(Unwelcome::new(StatusCode::BAD_REQUEST, why));
        }
        let token = token(&head.headers).unwrap_or_default();
        let found = self.pushes.arrived(&route.server, address, token);
        let registered = found.map_err(|not| match not {
            NotFound::Unknown => Unwelcome::new(StatusCode::NOT_FOUND, "there is nothing here"),
            NotFound::TooMany => Unwelcome::new(
                StatusCode::TOO_MANY_REQUESTS,
                "more notifications come than may: 20 a second for one webhook",
            ),
        })?;
        let caller = self
            .pipeline
            .expecting(registered.principal, registered.proof)
            .ok_or_else(|| Unwelcome::new(StatusCode::GONE, "the task that asked is over"))?;
        let slot = self
            .slots
            .take(caller.task.task().id, settings.limits.streams_per_task);
        let _slot = slot.ok_or_else(|| {
            Unwelcome::new(
                StatusCode::TOO_MANY_REQUESTS,
                "the task has too much under way",
            )
        })?;
        let limit = settings.limits.response_bytes;
        let collected = intake::collect(body, limit, &self.room);
        let longest = Duration::from_secs(settings.limits.request_seconds);
        let text = match tokio::time::timeout(longest, collected).await {
            Ok(Ok(text)) => text,
            Ok(Err(broken)) => {
                let why = format!("the body cannot be taken in: {broken:?}, at most {limit} bytes");
                return Err(Unwelcome::new(StatusCode::BAD_REQUEST, why));
            }
            Err(_) => {
                let why = "the body did not arrive in time";
                return Err(Unwelcome::new(StatusCode::REQUEST_TIMEOUT, why));
            }
        };
        let limits = json::Limits {
            bytes: limit,
            depth: settings.limits.json_depth,
        };
        let told = watch::told(&text, limits)
            .map_err(|none| Unwelcome::new(StatusCode::BAD_REQUEST, none.0))?;
        self.about(&registered, &told)?;
        self.pass(&registered, &caller, &told, text).await
    }

    /// Whether a notification is about the task that its address was made for. The first one about a
    /// message that is not answered yet says which task that is.
    fn about(&self, registered: &Registration, told: &Told) -> Result<(), Unwelcome> {
        let foreign = || {
            let why = "it is about another task than this address was made for";
            Err(Unwelcome::new(StatusCode::FORBIDDEN, why))
        };
        match (&registered.task, &told.task) {
            (Some(task), Some(about)) if task != about => foreign(),
            (Some(_), _) => Ok(()),
            (None, None) => foreign(),
            (None, Some(about)) => {
                self.pushes.bind(&registered.address, about);
                let (to, at) = (registered.principal, &registered.server);
                let give = |kind, id: &str| self.owned.give(to, at, kind, id, &registered.begun);
                give(Kind::Task, about);
                if let Some(context) = &told.context {
                    give(Kind::Context, context);
                }
                Ok(())
            }
        }
    }

    /// Records a notification as an action, and delivers it.
    async fn pass(
        &self,
        registered: &Registration,
        caller: &Caller,
        told: &Told,
        text: Bytes,
    ) -> Result<(), Unwelcome> {
        let gone = || Unwelcome::recorded(StatusCode::GONE, "the task that asked is over");
        let action = Action::new(registered.server.clone(), METHOD, Operation::Converse);
        let mut permit = self
            .pipeline
            .attempt_expected(caller, action)
            .await
            .map_err(|_| gone())?;
        let hook = &registered.hook;
        if let Some(state) = &told.state {
            permit.note("state", state.as_str());
        }
        let segment = {
            let world = self.pipeline.live().world();
            let facts = world.agent(&caller.agent);
            facts.and_then(|facts| facts.segment.clone())
        };
        // The configuration may say something else than when it was registered.
        let site = self.site(&registered.server).ok_or_else(gone)?;
        let target = match site.allows(&hook.url, segment.as_ref()) {
            Ok(target) => target,
            Err(denial) => {
                permit.note("refused", denial.reason);
                return Err(Unwelcome::recorded(
                    StatusCode::FORBIDDEN,
                    "the configuration does not let it be delivered",
                ));
            }
        };
        permit.note("webhook", target.origin.to_string());
        if told.over {
            self.close(registered.begun.sub_task);
        }
        let Some(text) = self.looked_at(registered, caller, told, text, &mut permit) else {
            let digest = permit.digest();
            permit.finish(Ended::UpstreamError, digest);
            let why = "what it says does not pass here";
            return Err(Unwelcome::recorded(StatusCode::FORBIDDEN, why));
        };
        let post = Post {
            method: Method::POST,
            url: hook.url.clone(),
            reach: target.reach,
            headers: headers(hook),
            body: text.clone(),
        };
        let mut digest = permit.digest();
        digest.update(&text);
        let dispatch = permit.dispatch().map_err(|_| gone())?;
        let signal = permit.signal();
        let sent = tokio::select! {
            biased;
            () = signal.cut() => None,
            sent = target.outbound.send(post) => Some(sent),
        };
        drop(dispatch);
        match sent {
            None => {
                permit.finish(Ended::Cut, digest);
                Err(gone())
            }
            Some(Ok(status)) if status.is_success() => {
                permit.finish(Ended::Answered, digest);
                Ok(())
            }
            Some(other) => {
                let why = match other {
                    Ok(status) => format!("it answered with status {}", status.as_u16()),
                    Err(error) => error.to_string(),
                };
                tracing::warn!(
                    server = %registered.server, webhook = %target.origin, why,
                    "a notification was not delivered"
                );
                permit.note("failed", why);
                permit.finish(Ended::UpstreamFailed, digest);
                let why = "the webhook did not take it";
                Err(Unwelcome::recorded(StatusCode::BAD_GATEWAY, why))
            }
        }
    }
}

impl Shared {
    /// Step 7: the notification as it passes, if it does; together with those that came before it.
    fn looked_at(
        &self,
        registered: &Registration,
        caller: &Caller,
        told: &Told,
        text: Bytes,
        permit: &mut Permit,
    ) -> Option<Bytes> {
        let inspection = self.pipeline.inspection();
        let following = self
            .pushes
            .following(&registered.address, || inspection.follow())?;
        let skill = &registered.begun.skill;
        let about = inspect::about(caller, &registered.server, skill, permit);
        let looked = inspect::event(&mut following.lock(), &about, told.spot, &text);
        match looked {
            Ok(None) => Some(text),
            Ok(Some(other)) => {
                permit.note("redacted", 1);
                Some(other)
            }
            Err(_) => {
                permit.note("blocked", What::AgentAnswer.as_str());
                None
            }
        }
    }
}

/// The token that a notification came with, in either header.
fn token(headers: &HeaderMap) -> Option<&str> {
    single(headers, &TOKEN).or_else(|| single(headers, AUTHORIZATION)?.strip_prefix("Bearer "))
}

/// The headers that a webhook expects.
fn headers(hook: &Hook) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(CONTENT_TYPE, json);
    let mut add = |name: &HeaderName, text: &str| {
        if let Ok(mut value) = HeaderValue::from_str(text) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    };
    if let Some(token) = &hook.token {
        add(&TOKEN, token);
    }
    if let Some((scheme, credentials)) = &hook.authentication {
        match credentials {
            Some(credentials) => add(
                &AUTHORIZATION,
                &format!("{scheme} {}", credentials.as_str()),
            ),
            None => add(&AUTHORIZATION, scheme),
        }
    }
    headers
}
