//! One request: what it attempts, and whether it may.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway::caller::Caller;
use gateway::front::Knock;
use gateway::intake::{Broken, collect};
use gateway::pipeline::Permit;
use gateway::resource::Route;
use gateway::slots::Slot;
use gateway::{Body, single};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use model::config::{Limits, Surface};
use model::{Action, Operation};

use crate::Shared;
use crate::caller::{authenticate, challenge, form};
use crate::exchange::Exchange;
use crate::headers::{betas, chosen};
use crate::meter::Bound;
use crate::provider::Provider;
use crate::refusal::Refusal;
use crate::request::{Asked, Names};
use crate::surface::Api;

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

/// The SDKs add these by themselves; nothing else belongs behind a path.
fn has_known_query(surface: Surface, query: Option<&str>) -> bool {
    match query {
        None | Some("") => true,
        Some("beta=true") => surface == Surface::Anthropic,
        Some(_) => false,
    }
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
            Ok((mut permit, mut asked, bound, headers)) => {
                if let Err(refusal) = self.inspect(&mut permit, &mut asked) {
                    return refusal.response(self.surface());
                }
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
        let json = single(headers, CONTENT_TYPE).is_some_and(|kind| {
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
}
