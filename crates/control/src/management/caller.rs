//! Who calls the management API: the operator, or an instance.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use identity::{Cnf, dpop};
use jiff::Timestamp;
use model::Lifecycle;

use super::problem::Refused;
use crate::engine::Actor;
use crate::http_api::Shared;
use crate::oauth::TASKS_SCOPE;

/// An authenticated caller: the operator, or an enabled instance of an active agent.
pub(crate) struct Caller(pub(crate) Actor);

/// The operator.
pub(crate) struct Operator;

impl FromRequestParts<Arc<Shared>> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refused> {
        let actor = authenticate(shared, parts, Timestamp::now());
        actor
            .map(Self)
            .inspect_err(|refused| note(shared, parts, None, refused))
    }
}

impl FromRequestParts<Arc<Shared>> for Operator {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refused> {
        match Caller::from_request_parts(parts, shared).await?.0 {
            Actor::Operator => Ok(Self),
            actor => {
                let refused =
                    Refused::forbidden(format!("{actor} may not do this: it takes the operator"));
                note(shared, parts, Some(actor.to_string()), &refused);
                Err(refused)
            }
        }
    }
}

/// Records a refusal, if there were not too many.
fn note(shared: &Shared, parts: &Parts, caller: Option<String>, refused: &Refused) {
    let endpoint = format!("{} {}", parts.method, parts.uri.path());
    shared.refuse(&endpoint, caller, refused.denial());
}

fn authenticate(shared: &Shared, parts: &Parts, now: Timestamp) -> Result<Actor, Refused> {
    let mut values = parts.headers.get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Err(Refused::unauthenticated("no credentials were sent")),
        (Some(value), None) => value.to_str().ok().and_then(|value| value.split_once(' ')),
        (Some(_), Some(_)) => None,
    };
    let (scheme, token) = value.ok_or_else(|| {
        Refused::unauthenticated("exactly one Authorization header with a scheme is needed")
    })?;
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        if shared.operator.is(token) {
            return Ok(Actor::Operator);
        }
        return Err(Refused::unauthenticated(
            "this is not the operator's token; instances must use the DPoP scheme",
        ));
    }
    if scheme.eq_ignore_ascii_case("dpop") {
        return instance(shared, parts, token, now);
    }
    Err(Refused::unauthenticated(
        "the scheme must be Bearer or DPoP",
    ))
}

/// Authenticates an instance by an access token for this listener and a proof for this request.
fn instance(shared: &Shared, parts: &Parts, token: &str, now: Timestamp) -> Result<Actor, Refused> {
    let refused = |why: &str| Refused::unauthenticated(why);
    let base = &shared.engine.settings().control_url;
    let verified = shared.engine.keys().verify(token, base, now);
    let claims = verified.map_err(|error| refused(&error.to_string()))?;
    if !claims.is_for(base) || !claims.scope.split(' ').any(|scope| scope == TASKS_SCOPE) {
        return Err(refused("the token was not made for the control listener"));
    }
    let Some(Cnf::Key { jkt }) = &claims.cnf else {
        return Err(refused("the token is not bound to a key"));
    };
    let proof =
        one_proof(&parts.headers).ok_or_else(|| refused("exactly one DPoP header is needed"))?;
    let url = format!("{base}{}", parts.uri.path());
    let request = dpop::Request {
        method: parts.method.as_str(),
        url: &url,
        access_token: Some(token),
    };
    let proved = shared.proofs.verify_by(proof, &request, jkt, now);
    proved.map_err(|error| match error {
        dpop::ProofError::NonceNeeded => Refused::nonce_needed(error.to_string()),
        error => refused(&error.to_string()),
    })?;
    let live = shared.engine.live();
    if live.is_revoked(&identity::token_id(token)) {
        return Err(refused("the token was revoked"));
    }
    if live.refuses_issued(&claims.agent, claims.iat) {
        return Err(refused("all tokens that the agent had then were revoked"));
    }
    if live.is_disabled(&claims.client_id) {
        return Err(refused("the instance was disabled"));
    }
    let state = live
        .world()
        .agent(&claims.agent)
        .map(|facts| facts.lifecycle);
    if state != Some(Lifecycle::Active) {
        return Err(Refused::forbidden("the agent is not active"));
    }
    live.pace_at_control(&claims.agent)
        .map_err(|(denial, wait)| {
            shared.engine.pipeline().metrics().too_fast("control");
            Refused::too_fast(&denial, wait)
        })?;
    Ok(Actor::Instance {
        id: claims.client_id,
        agent: claims.agent,
    })
}

fn one_proof(headers: &HeaderMap) -> Option<&str> {
    gateway::single(headers, "dpop")
}
