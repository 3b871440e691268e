//! One request: who sends it, what it attempts, and whether it may.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway::Body;
use gateway::caller::{Caller, Credentials, Unauthenticated};
use gateway::front::Knock;
use gateway::intake::{Broken, collect};
use gateway::pipeline::Permit;
use gateway::resource::{self, Route};
use gateway::slots::Slot;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use model::config::{Limits, Surface};
use model::{Action, Operation, Proof};
use serde_json::Value;

use crate::Shared;
use crate::exchange::Exchange;
use crate::meter::Bound;
use crate::provider::Provider;
use crate::refusal::Refusal;
use crate::request::{Asked, Names};
use crate::surface::Api;

/// How the SDK of Anthropic presents its key.
const API_KEY: &str = "x-api-key";
/// The version of the API (Anthropic).
const VERSION: &str = "anthropic-version";
/// Features that are not part of the API's version (Anthropic).
pub(crate) const BETA: &str = "anthropic-beta";
/// Most of those features, and the longest name of one in bytes.
const MOST_BETAS: usize = 32;
const BETA_BYTES: usize = 80;

/// Members that let the provider, or a router of models in its place, do more than answer: each only
/// where the grant names it.
const REACHING: [(&str, &str); 20] = [
    ("api_base", ROUTES),
    ("api_key", ROUTES),
    ("background", "it is answered where nobody counts it"),
    ("base_url", ROUTES),
    ("container", STORED),
    ("conversation", STORED),
    ("deployment_id", ROUTES),
    ("extra_body", ROUTES),
    ("extra_headers", ROUTES),
    ("fallbacks", ROUTES),
    ("inference_geo", "it says where the provider computes"),
    (
        "mcp_servers",
        "the provider would call servers beyond this gateway",
    ),
    ("models", ROUTES),
    ("plugins", "the provider would search beyond this gateway"),
    ("prompt_id", STORED),
    ("route", ROUTES),
    ("service_tier", "it changes what the answer costs"),
    ("speed", "it changes what the answer costs"),
    ("user_config", ROUTES),
    (
        "web_search_options",
        "the provider would search beyond this gateway",
    ),
];
const STORED: &str = "it names what is stored at the provider";
const ROUTES: &str = "it says which model answers, or where";

/// One request of an authenticated caller.
pub(crate) struct Visit {
    pub(crate) shared: Arc<Shared>,
    pub(crate) limits: Limits,
    pub(crate) caller: Caller,
    pub(crate) route: Route,
    pub(crate) provider: Arc<Provider>,
    pub(crate) api: Api,
    /// Held as long as the answer lasts.
    pub(crate) _slot: Slot,
}

/// Answers a request.
pub(crate) async fn answer(shared: &Arc<Shared>, knock: Knock) -> Response<Body> {
    let Knock {
        request,
        route,
        rest,
        settings,
        ..
    } = knock;
    // Until it is known that the task has the server, the request alone decides on the form of what is
    // answered: whether there is such a server is not for everyone to know.
    let guessed = form(&rest, request.headers());
    let caller = match authenticate(shared, &request, &route, &rest, &settings.base_url) {
        Ok(caller) => caller,
        Err(refused) => return challenge(&refused, &route, &settings.base_url, guessed),
    };
    let permissions = &caller.task.task().grant.permissions;
    let is_granted = permissions.iter().any(|of| of.server == route.server);
    let provider = shared.providers.load().get(&route.server).cloned();
    let provider = provider.filter(|_| is_granted);
    let surface = match &provider {
        Some(provider) => provider.llm.surface,
        None => guessed,
    };
    let refuse = |refusal: &Refusal| {
        if refusal.decision.is_none() {
            let endpoint = route.path();
            shared
                .pipeline
                .refuse(&endpoint, Some(&caller), refusal.denial.clone());
        }
        refusal.response(surface)
    };
    let found = Api::find(surface, request.method(), &rest);
    let allowed = found.filter(|_| has_known_query(surface, request.uri().query()));
    let Some(api) = allowed else {
        return refuse(&Refusal::protocol(
            StatusCode::NOT_FOUND,
            "this gateway has no such operation of the provider's API",
            "use chat completions, responses, completions, embeddings, messages or the list of models",
        ));
    };
    let limit = settings.limits.streams_per_task;
    let Some(slot) = shared.slots.take(caller.task.task().id, limit) else {
        return refuse(&Refusal::busy(
            StatusCode::TOO_MANY_REQUESTS,
            format!("the task has {limit} requests under way, which is as many as it may"),
            "wait until one of them has ended",
        ));
    };
    let Some(provider) = provider else {
        // The decision says what a server that is not granted says: there is none.
        let action = Action::new(route.server.clone(), api.name(), Operation::Converse);
        return match shared.pipeline.attempt(&caller, action).await {
            Err(denied) => Refusal::denied(&denied).response(surface),
            Ok(permit) => {
                let reason = "the server is not in use any more";
                Refusal::upstream(permit.decision(), reason).response(surface)
            }
        };
    };
    let visit = Visit {
        shared: Arc::clone(shared),
        limits: settings.limits.clone(),
        caller,
        route: route.clone(),
        provider,
        api,
        _slot: slot,
    };
    match api {
        Api::Models => visit.list().await,
        _ => visit.generate(request).await,
    }
}

/// The form that the client of a request understands, by what only one of the SDKs sends.
fn form(rest: &str, headers: &HeaderMap) -> Surface {
    let anthropic = rest.starts_with(Api::Messages.path())
        || headers.contains_key(API_KEY)
        || headers.contains_key(VERSION);
    if anthropic {
        Surface::Anthropic
    } else {
        Surface::OpenAi
    }
}

/// The SDKs add these by themselves; nothing else belongs behind a path.
fn has_known_query(surface: Surface, query: Option<&str>) -> bool {
    match query {
        None | Some("") => true,
        Some("beta=true") => surface == Surface::Anthropic,
        Some(_) => false,
    }
}

/// Step 2. Where there is no `Authorization`, the key that the SDK of Anthropic presents is the token:
/// with a proof as DPoP has it, and else as a bearer token.
fn authenticate(
    shared: &Shared,
    request: &Request<Incoming>,
    route: &Route,
    rest: &str,
    base_url: &str,
) -> Result<Caller, Unauthenticated> {
    let headers = request.headers();
    let pipeline = &shared.pipeline;
    match key(headers) {
        Some(credentials) => {
            let method = request.method().as_str();
            pipeline.authenticate_with(method, route, rest, base_url, &credentials)
        }
        None => pipeline.authenticate(request.method(), route, rest, base_url, headers),
    }
}

/// What is presented as the key of an SDK; the token of an `Authorization` header comes first.
fn key(headers: &HeaderMap) -> Option<Credentials<'_>> {
    if headers.contains_key(AUTHORIZATION) {
        return None;
    }
    let token = single(headers, API_KEY)?.trim();
    let (scheme, proof) = if headers.contains_key("dpop") {
        (Proof::Dpop, single(headers, "dpop"))
    } else {
        (Proof::Bearer, None)
    };
    let credentials = Credentials {
        scheme,
        token,
        proof,
    };
    (!token.is_empty()).then_some(credentials)
}

fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// 401 with the challenge of OAuth, and an error that the SDKs understand.
fn challenge(
    refused: &Unauthenticated,
    route: &Route,
    base_url: &str,
    surface: Surface,
) -> Response<Body> {
    let mut response = resource::challenge(refused, route, base_url);
    let refusal = Refusal::unauthenticated(response.status(), refused.denial());
    let said = refusal.response(surface);
    for (name, value) in said.headers() {
        response.headers_mut().insert(name, value.clone());
    }
    *response.body_mut() = said.into_body();
    response
}

impl Visit {
    /// Records a refusal that no decision is behind, and answers with it.
    pub(crate) fn refuse(&self, refusal: &Refusal) -> Response<Body> {
        if refusal.decision.is_none() {
            let endpoint = self.route.path();
            self.shared
                .pipeline
                .refuse(&endpoint, Some(&self.caller), refusal.denial.clone());
        }
        refusal.response(self.surface())
    }

    /// The API that the provider speaks.
    pub(crate) fn surface(&self) -> Surface {
        self.provider.llm.surface
    }

    async fn generate(self, request: Request<Incoming>) -> Response<Body> {
        match self.ready(request).await {
            Ok((permit, asked, bound, headers)) => {
                Exchange::new(self, permit, asked, bound, headers)
                    .carry_out()
                    .await
            }
            Err(refusal) => self.refuse(&refusal),
        }
    }

    /// Steps 1 to 5: the request is read, decided and recorded.
    async fn ready(
        &self,
        request: Request<Incoming>,
    ) -> Result<(Permit, Asked, Bound, HeaderMap), Refusal> {
        let (head, body) = request.into_parts();
        let body = self.body(&head.headers, body).await?;
        let limits = model::json::Limits {
            bytes: self.limits.request_bytes,
            depth: self.limits.json_depth,
        };
        let asked = Asked::read(self.api, body, limits)?;
        let betas = betas(&head.headers)?;
        let task = self.caller.task.task();
        let names = Names::of(&task.grant, &self.route.server, &asked.model);
        let earlier = self.reaches(&asked, &names)?;
        let price = self.provider.price(&asked.model).copied();
        let mut bound = asked.bound(u64::from(self.provider.llm.max_output_tokens));
        bound.input = bound.input.saturating_add(earlier);
        let action = Action {
            server: self.route.server.clone(),
            method: self.api.name().to_owned(),
            operation: Operation::Generate {
                model: asked.model.clone(),
                arguments: asked.arguments(&names, &betas),
            },
            expected: bound.spent(price.as_ref()),
        };
        let permit = self
            .shared
            .pipeline
            .attempt(&self.caller, action)
            .await
            .map_err(|denied| Refusal::denied(&denied))?;
        let pays = self.caller.task.grant().budget().micro_usd.is_some();
        if price.is_none() && pays {
            let mut refusal = Refusal::not_granted(
                "model",
                "the task has a budget of money, and it is not known what this model costs",
                "an operator can set its price in `llm.prices` of this server",
            );
            refusal.decision = Some(permit.decision());
            return Err(refusal);
        }
        Ok((
            permit,
            asked,
            bound,
            chosen(&head.headers, self.surface(), &betas),
        ))
    }

    async fn body(&self, headers: &HeaderMap, body: Incoming) -> Result<Bytes, Refusal> {
        let json = single(headers, CONTENT_TYPE.as_str()).is_some_and(|kind| {
            let essence = kind.split(';').next().unwrap_or_default();
            essence.trim().eq_ignore_ascii_case("application/json")
        });
        if !json {
            return Err(Refusal::protocol(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body is not announced as JSON",
                "send the header `Content-Type: application/json`",
            ));
        }
        let limit = self.limits.request_bytes;
        let time = Duration::from_secs(self.limits.request_seconds);
        let too_long = || {
            Refusal::protocol(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is longer than {limit} bytes"),
                "send less at once, or have an operator raise `limits.request_bytes`",
            )
        };
        match tokio::time::timeout(time, collect(body, limit, &self.shared.room)).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(Broken::TooLong)) => Err(too_long()),
            Ok(Err(Broken::Off)) => Err(Refusal::protocol(
                StatusCode::BAD_REQUEST,
                "the body broke off",
                "send it again",
            )),
            Ok(Err(Broken::NoRoom)) => Err(Refusal::busy(
                StatusCode::SERVICE_UNAVAILABLE,
                "the gateway holds as many large messages as it may",
                "try again later",
            )),
            Err(_) => Err(Refusal::busy(
                StatusCode::REQUEST_TIMEOUT,
                format!("the body took longer than {} seconds", time.as_secs()),
                "send it faster",
            )),
        }
    }

    /// Checks what would let the provider do more than answer what was sent. Returns the tokens of an
    /// earlier answer that is gone on with.
    fn reaches(&self, asked: &Asked, names: &Names<'_>) -> Result<u64, Refusal> {
        let ask = "do without it, or open a task whose grant names it";
        let stored = asked
            .member("prompt")
            .filter(|_| asked.api == Api::Responses);
        let reaching = REACHING
            .iter()
            .filter(|(name, _)| asked.member(name).is_some());
        let reaching = reaching.copied().chain(stored.map(|_| ("prompt", STORED)));
        for (name, why) in reaching {
            // What it is by default may be said.
            let default = [Value::Bool(false), "auto".into(), "default".into()];
            let said = asked
                .member(name)
                .is_some_and(|value| !default.contains(value));
            if said && !names.name(name) {
                let reason = format!("the task does not grant `{name}`: {why}");
                return Err(Refusal::not_granted(name, reason, ask));
            }
        }
        if let Some(tool) = asked.traffic.run_by_provider()
            && !names.name("tools")
        {
            let name: String = tool
                .name
                .chars()
                .take(64)
                .flat_map(char::escape_debug)
                .collect();
            let reason =
                format!("the provider itself would run the tool `{name}`, beyond this gateway");
            let ask = "do without it, or open a task whose grant has a constraint on `tools`";
            return Err(Refusal::not_granted("tools", reason, ask));
        }
        if let Some(what) = asked.traffic.remote.first()
            && !self.provider.llm.remote_content
        {
            let reason = format!("the provider would fetch content by itself (`{what}`)");
            let remedy = "send the content itself, such as `data:` URLs; an operator can set \
                          `remote_content` of this server";
            return Err(Refusal::not_granted("", reason, remedy));
        }
        match asked.member("previous_response_id") {
            None => Ok(0),
            Some(id) => {
                let id = id.as_str().unwrap_or_default();
                let task = self.caller.task.task().id;
                let found = self.shared.stored.find(task, &self.route.server, id);
                found.ok_or_else(|| {
                    Refusal::not_granted(
                        "previous_response_id",
                        "it is no answer that this task was given",
                        "send the conversation itself in `input`",
                    )
                })
            }
        }
    }
}

/// The features that the agent asks for in a header.
fn betas(headers: &HeaderMap) -> Result<Vec<String>, Refusal> {
    let mut betas = Vec::new();
    for value in headers.get_all(BETA) {
        let names = value.to_str().unwrap_or("?").split(',').map(str::trim);
        for name in names.filter(|name| !name.is_empty()) {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
            if name.len() > BETA_BYTES || !name.bytes().all(plain) || betas.len() >= MOST_BETAS {
                let reason = format!("the header `{BETA}` is not a list of features");
                return Err(Refusal::malformed("", reason));
            }
            betas.push(name.to_owned());
        }
    }
    Ok(betas)
}

/// What of the agent's headers the provider gets: chosen, not filtered.
fn chosen(headers: &HeaderMap, surface: Surface, betas: &[String]) -> HeaderMap {
    let mut chosen = HeaderMap::new();
    chosen.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if surface == Surface::Anthropic {
        let date =
            |text: &&str| text.bytes().all(|b| b.is_ascii_digit() || b == b'-') && text.len() == 10;
        let version = single(headers, VERSION).filter(date);
        if let Ok(version) = HeaderValue::from_str(version.unwrap_or("2023-06-01")) {
            chosen.insert(VERSION, version);
        }
        if !betas.is_empty()
            && let Ok(betas) = HeaderValue::from_str(&betas.join(","))
        {
            chosen.insert(BETA, betas);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_key_of_an_sdk_is_the_token_when_nothing_else_is() {
        let of = |of: &[(&'static str, &'static str)]| {
            key(&headers(of)).map(|found| (found.scheme, found.token.to_owned()))
        };
        let bearer = Some((Proof::Bearer, "t".to_owned()));
        assert_eq!(of(&[("x-api-key", "t")]), bearer);
        let dpop = Some((Proof::Dpop, "t".to_owned()));
        assert_eq!(of(&[("x-api-key", "t"), ("dpop", "p")]), dpop);
        assert_eq!(
            of(&[("x-api-key", "t"), ("authorization", "Bearer u")]),
            None
        );
        assert_eq!(of(&[("x-api-key", "t"), ("x-api-key", "u")]), None);
        assert_eq!(of(&[("x-api-key", " ")]), None);
    }

    #[test]
    fn headers_of_agents_do_not_travel_on() {
        let agent = headers(&[
            ("authorization", "Bearer t"),
            ("x-api-key", "t"),
            ("dpop", "p"),
            ("cookie", "c"),
            ("openai-organization", "org-evil"),
            ("openai-project", "proj-evil"),
            ("anthropic-version", "2023-06-01\tx"),
            ("x-forwarded-for", "1.2.3.4"),
        ]);
        let openai = chosen(&agent, Surface::OpenAi, &[]);
        assert_eq!(openai.keys().collect::<Vec<_>>(), ["content-type"]);
        let anthropic = chosen(
            &agent,
            Surface::Anthropic,
            &["files-api-2025-04-14".to_owned()],
        );
        assert_eq!(anthropic["anthropic-version"], "2023-06-01");
        assert_eq!(anthropic.len(), 3);
    }

    #[test]
    fn features_are_a_list_of_plain_names() {
        let of = |value| betas(&headers(&[(BETA, value)]));
        assert_eq!(of("a-1, b-2").unwrap(), ["a-1", "b-2"]);
        assert!(of("a b").is_err());
        assert!(of("a;q=1").is_err());
    }
}
