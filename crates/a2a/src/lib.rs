//! The enforcement point for agents behind the Agent2Agent protocol, versions 0.3 and 1.0, in the
//! bindings JSON-RPC (with server-sent events) and, for 1.0, HTTP+JSON. gRPC is not spoken.
//!
//! The path of one request, and where each step lives:
//! 1. `request`, `message`: what it says, strictly;
//! 2. [`gateway::caller`]: who is calling, before anything of the body is read;
//! 3. `visit`: which skill is asked for, and whose the tasks are that it names (`owned`);
//! 4. and 5. [`gateway::pipeline`]: the decision and its durable record; then, for an agent that is
//!    registered here too, a sub-task for it to act under (`delegation`);
//! 6. `forward`: to the other agent, without anything of the caller's credentials;
//! 7. `watch`: whether the answer is one, and which ids it gives out; `inspect`: what it says;
//! 8. `forward`: what became of it.
//!
//! Cards are written anew and signed by the token service: `card`. What the other agent sends by itself
//! about tasks comes in through `push`. What must outlive a restart goes through `kept`.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use gateway::caller::Principal;
use gateway::front::{BoxFuture, Commit, Door, HttpDoor, Knock, Settings};
use gateway::intake::{self, Broken, Room};
use gateway::pipeline::Pipeline;
use gateway::slots::Slots;
use gateway::upstream::{Web, webs};
use gateway::{Body, problem, resource};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method as HttpMethod, Request, Response, StatusCode};
use hyper::body::Incoming;
use identity::KeyRing;
use jiff::Timestamp;
use model::config::{Config, ServerKind};
use model::{Denial, Rule, ServerName, TaskId, TaskStatus, json};
use serde_json::Value;

pub mod card;
pub mod delegation;
mod forward;
mod inspect;
pub mod kept;
pub mod message;
pub mod method;
pub mod owned;
pub mod push;
pub mod refusal;
pub mod request;
mod site;
mod visit;
pub mod watch;

use delegation::{Delegation, Delegations};
use kept::{Keeper, Keeping, Kept};
use method::{Dialect, Method};
use owned::Owned;
use push::Pushes;
use refusal::{Fault, Refusal, json_response};
use request::{Binding, Call, Unreadable};
use site::{CARD_PATHS, Site};
use visit::Visit;

type Sites = BTreeMap<ServerName, Arc<Site>>;

/// The enforcement point.
pub struct Endpoint {
    shared: Arc<Shared>,
}

/// What requests share.
pub(crate) struct Shared {
    pipeline: Arc<Pipeline>,
    keys: Arc<KeyRing>,
    sites: ArcSwap<Sites>,
    owned: Owned,
    pushes: Arc<Pushes>,
    slots: Slots,
    room: Room,
    delegations: OnceLock<Arc<dyn Delegations>>,
}

impl Endpoint {
    /// Puts the enforcement point in front of a configuration's agents. Cards are signed with `keys`.
    ///
    /// # Errors
    /// Every agent that cannot be used, and why.
    pub fn new(
        config: &Config,
        pipeline: Arc<Pipeline>,
        keys: Arc<KeyRing>,
        settings: &ArcSwap<Settings>,
    ) -> Result<Self, Vec<String>> {
        let longest = settings.load().limits.longest();
        let endpoint = Self {
            shared: Arc::new(Shared {
                pipeline,
                keys,
                sites: ArcSwap::default(),
                owned: Owned::default(),
                pushes: Arc::default(),
                slots: Slots::default(),
                room: Room::new(longest),
                delegations: OnceLock::new(),
            }),
        };
        endpoint.prepare(config)?();
        Ok(endpoint)
    }

    /// Takes in what was kept before a restart, and says who keeps it from now on. Once, before anything
    /// is served.
    pub fn remember(&self, kept: Kept, keeper: Arc<dyn Keeper>) {
        let (owned, pushes) = (&self.shared.owned, &self.shared.pushes);
        for given in kept.given {
            owned.give(given.to, &given.at, given.kind, &given.id, &given.begun);
        }
        for registration in kept.registered {
            pushes.restore(registration);
        }
        let keeping = Keeping::with(keeper);
        owned.keep_with(keeping.clone());
        pushes.keep_with(keeping);
    }

    /// Says who opens sub-tasks. Once: a second time nothing changes.
    pub fn delegate_with(&self, delegations: Arc<dyn Delegations>) {
        let _ = self.shared.delegations.set(delegations);
    }
}

impl Door for Endpoint {
    fn kind(&self) -> ServerKind {
        ServerKind::A2a
    }

    fn prepare(&self, config: &Config) -> Result<Commit<'_>, Vec<String>> {
        let before = self.shared.sites.load_full();
        let known = |name: &ServerName| before.get(name).map(|site| Arc::clone(&site.web));
        let mut sites = Sites::new();
        let mut wrong = Vec::new();
        for web in webs(config, ServerKind::A2a, known)? {
            let name = web.name().clone();
            let same = before
                .get(&name)
                .filter(|site| Arc::ptr_eq(&site.web, &web));
            match same.map_or_else(|| new_site(web), |site| Ok(Arc::clone(site))) {
                Ok(site) => {
                    sites.insert(name, site);
                }
                Err(why) => wrong.push(why),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let sites = Arc::new(sites);
        Ok(Box::new(move || self.shared.sites.store(sites)))
    }

    fn sweep(&self) {
        let now = Timestamp::now();
        let live = self.shared.pipeline.live();
        let alive = |principal: &Principal| {
            !live.is_disabled(&principal.instance)
                && live
                    .task(&principal.task)
                    .is_some_and(|task| task.status_at(now) == TaskStatus::Open)
        };
        self.shared.owned.retain(alive);
        self.shared.pushes.retain(alive);
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if !self.shared.pushes.kept().await {
                tracing::warn!("not all that other agents gave out is kept over a restart");
            }
        })
    }
}

fn new_site(web: Arc<Web>) -> Result<Arc<Site>, String> {
    Site::new(web).map(Arc::new)
}

impl HttpDoor for Endpoint {
    fn answer(&self, knock: Knock) -> BoxFuture<'_, Response<Body>> {
        Box::pin(self.shared.answer(knock))
    }
}

impl Shared {
    pub(crate) fn site(&self, name: &ServerName) -> Option<Arc<Site>> {
        self.sites.load().get(name).cloned()
    }

    /// Opens a sub-task.
    pub(crate) async fn delegate(&self, wanted: Delegation) -> Result<TaskId, Refusal> {
        let Some(delegations) = self.delegations.get() else {
            return Err(Refusal::of_permitted(
                Fault::Denied(Rule::NotGranted),
                "sub-tasks cannot be opened yet: try again",
            ));
        };
        delegations
            .open(wanted)
            .await
            .map_err(|denial| Refusal::by_rule(&denial))
    }

    /// Ends a sub-task whose work is done, by and by.
    pub(crate) fn close(&self, task: Option<TaskId>) {
        if let (Some(task), Some(delegations)) = (task, self.delegations.get()) {
            let delegations = Arc::clone(delegations);
            tokio::spawn(async move { delegations.close(task).await });
        }
    }

    async fn answer(self: &Arc<Self>, knock: Knock) -> Response<Body> {
        let Knock {
            request,
            route,
            rest,
            settings,
            ..
        } = knock;
        if let (Some(address), None) = (rest.strip_prefix(push::BEHIND), &route.task) {
            return self.notified(request, &route, address, &settings).await;
        }
        let is_card = CARD_PATHS.contains(&rest.as_str()) && *request.method() == HttpMethod::GET;
        if is_card && !request.headers().contains_key(AUTHORIZATION) {
            let public = self
                .site(&route.server)
                .filter(|site| site.about.public_card);
            if let Some(site) = public {
                return self.public_card(&site, &route, &settings).await;
            }
        }
        let authenticated = self
            .pipeline
            .authenticate(&request, &route, &rest, &settings.base_url);
        let caller = match authenticated {
            Ok(caller) => Arc::new(caller),
            Err(refused) => return resource::challenge(&refused, &route, &settings.base_url),
        };
        let visit = Visit {
            shared: Arc::clone(self),
            caller,
            route,
            limits: settings.limits.clone(),
            base_url: settings.base_url.clone(),
            issuer: settings.issuer.clone(),
        };
        if is_card {
            return match visit.own_card("agent-card").await {
                Ok(text) => card_response(text),
                Err(refusal) => visit.refuse(&refusal, &Form::REST),
            };
        }
        visit.request(request, &rest).await
    }

    /// The card that everyone may read.
    async fn public_card(
        &self,
        site: &Site,
        route: &resource::Route,
        settings: &Settings,
    ) -> Response<Body> {
        let url = route.resource(&settings.base_url);
        let offer = card::Offer {
            url: &url,
            issuer: &settings.issuer,
            pushes: site.pushes(),
        };
        let card = match site.card(&self.room).await {
            Ok(card) => card,
            Err(why) => {
                return problem::problem(
                    StatusCode::BAD_GATEWAY,
                    &format!("the agent's card cannot be used: {why}"),
                    "try again later; the operator finds more in the log",
                );
            }
        };
        let inspection = self.pipeline.inspection();
        let looked_at = card.looked_at(|_| true, &mut |target, document| {
            let published = inspection.published(&route.server, target, document);
            published.taken()
        });
        let card = match looked_at {
            Ok(card) => card,
            Err(denial) => return problem::refused(StatusCode::FORBIDDEN, &denial),
        };
        match card.rewritten(&offer, &self.keys) {
            Ok(card) => card_response(Value::Object(card).to_string().into_bytes()),
            Err(error) => problem::problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                &error.to_string(),
                "try again later",
            ),
        }
    }
}

fn card_response(text: Vec<u8>) -> Response<Body> {
    let mut response = json_response(StatusCode::OK, text);
    let kept = HeaderValue::from_static("private, max-age=60");
    response.headers_mut().insert(CACHE_CONTROL, kept);
    response
}

/// In which form a request is answered.
struct Form {
    id: Option<gateway::mcp::message::Id>,
    dialect: Dialect,
    rest: bool,
}

impl Form {
    const REST: Self = Self {
        id: None,
        dialect: Dialect::V1,
        rest: true,
    };

    fn of(call: &Call) -> Self {
        match &call.binding {
            Binding::JsonRpc(id) => Self {
                id: Some(id.clone()),
                dialect: call.dialect,
                rest: false,
            },
            Binding::Rest => Self::REST,
        }
    }
}

impl Visit {
    /// One request of either binding.
    async fn request(&self, request: Request<Incoming>, rest: &str) -> Response<Body> {
        let (head, body) = request.into_parts();
        let json_rpc = rest.is_empty();
        let form = Form {
            id: None,
            dialect: Dialect::V1,
            rest: !json_rpc,
        };
        let target = if json_rpc {
            (head.method == HttpMethod::POST).then(|| (Method::Send, serde_json::Map::new()))
        } else {
            request::rest_target(&head.method, rest)
        };
        let Some((method, params)) = target else {
            let refusal = Refusal::new(
                Fault::MethodNotFound,
                "there is nothing at this path: JSON-RPC is POSTed to the agent's URL, and the \
                 paths of HTTP+JSON are those of version 1.0",
            );
            return self.refuse(&refusal, &Form::REST);
        };
        let body = match self.body(&head.headers, body).await {
            Ok(body) => body,
            Err(refusal) => return self.refuse(&refusal, &form),
        };
        let limits = json::Limits {
            bytes: self.limits.request_bytes,
            depth: self.limits.json_depth,
        };
        let read = if json_rpc {
            request::json_rpc(&body, limits)
        } else {
            request::rest(method, params, head.uri.query(), &body, limits)
        };
        let call = match read {
            Ok(call) => call,
            Err(Unreadable {
                id,
                dialect,
                refusal,
            }) => {
                let form = Form {
                    id,
                    dialect,
                    rest: !json_rpc,
                };
                return self.refuse(&refusal, &form);
            }
        };
        let form = Form::of(&call);
        match self.call(call, &head.headers).await {
            Ok(response) => response,
            Err(refusal) => self.refuse(&refusal, &form),
        }
    }

    async fn call(&self, call: Call, headers: &HeaderMap) -> Result<Response<Body>, Refusal> {
        agreed(headers, call.dialect)?;
        if matches!(call.method, Method::GetPush | Method::ListPush) {
            return self.read_pushes(call).await;
        }
        if call.method == Method::Card {
            let text = self.own_card(call.method.name(call.dialect)).await?;
            return Ok(match &call.binding {
                Binding::Rest => card_response(text),
                Binding::JsonRpc(id) => {
                    let card: Value = serde_json::from_slice(&text).unwrap_or_default();
                    let answer = serde_json::json!({ "jsonrpc": "2.0", "id": id, "result": card });
                    json_response(StatusCode::OK, answer.to_string())
                }
            });
        }
        let ready = self.decide(call).await?;
        self.forward(ready, headers).await
    }

    /// The body of a request, within its limits.
    async fn body(&self, headers: &HeaderMap, body: Incoming) -> Result<Bytes, Refusal> {
        let invalid = |message: String| Refusal::new(Fault::InvalidRequest, message);
        if headers.contains_key(CONTENT_ENCODING) {
            return Err(invalid(
                "send the body without a content encoding".to_owned(),
            ));
        }
        let limit = self.limits.request_bytes;
        let longest = Duration::from_secs(self.limits.request_seconds);
        let collected = intake::collect(body, limit, &self.shared.room);
        let body = match tokio::time::timeout(longest, collected).await {
            Ok(Ok(body)) => body,
            Ok(Err(Broken::TooLong)) => {
                return Err(invalid(format!("the body is longer than {limit} bytes")));
            }
            Ok(Err(Broken::NoRoom)) => {
                let message = "the gateway holds as many large messages as it may";
                return Err(Refusal::new(Fault::TooMany, message));
            }
            Ok(Err(Broken::Off)) => return Err(invalid("the body broke off".to_owned())),
            Err(_) => return Err(invalid("the body did not arrive in time".to_owned())),
        };
        let mut kinds = headers.get_all(CONTENT_TYPE).iter();
        let kind = kinds.next().and_then(|kind| kind.to_str().ok());
        let kind = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim());
        let json = kind.is_some_and(|kind| {
            kind.eq_ignore_ascii_case("application/json")
                || kind.eq_ignore_ascii_case("application/a2a+json")
        });
        if !body.is_empty() && (!json || kinds.next().is_some()) {
            return Err(invalid(
                "the body's Content-Type is not application/json".to_owned(),
            ));
        }
        Ok(body)
    }

    /// The answer to a request that was refused; recorded, unless its decision already is.
    fn refuse(&self, refusal: &Refusal, form: &Form) -> Response<Body> {
        if !refusal.recorded {
            let denial: Denial = refusal.as_denial();
            self.shared
                .pipeline
                .refuse(&self.route.path(), Some(&self.caller), denial);
        }
        let mut response = if form.rest {
            json_response(refusal.status(), refusal.rest().to_string())
        } else {
            // JSON-RPC clients take other statuses for trouble with the connection.
            let text = refusal.json_rpc(form.id.as_ref(), form.dialect);
            json_response(StatusCode::OK, text.to_string())
        };
        if let Some(wait) = refusal.retry_after() {
            let headers = response.headers_mut();
            headers.insert(http::header::RETRY_AFTER, gateway::pace::retry_after(wait));
        }
        response
    }
}

/// Whether the version that the header asks for is the one that the message is in (1.0, §3.6).
fn agreed(headers: &HeaderMap, dialect: Dialect) -> Result<(), Refusal> {
    let mut versions = headers.get_all("a2a-version").iter();
    let Some(version) = versions.next() else {
        return Ok(());
    };
    let version = version.to_str().unwrap_or_default();
    if versions.next().is_none() && Dialect::of_version(version) == Some(dialect) {
        Ok(())
    } else {
        Err(Refusal::new(
            Fault::Version,
            "versions 0.3 and 1.0 are spoken, and the `A2A-Version` header must say which one the \
             message is in",
        ))
    }
}
