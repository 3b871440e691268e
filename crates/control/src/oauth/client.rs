//! Who asks: client authentication with `private_key_jwt` (RFC 7523 §2.2), and nothing else.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use identity::{PublicKey, assertion};
use jiff::Timestamp;
use model::{Instance, InstanceId, Lifecycle};

use super::error::OAuthError;
use super::form::Form;
use crate::engine::EngineError;
use crate::http_api::Shared;

/// The one kind of assertion (RFC 7523 §2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Whoever authenticated at the token service.
pub(super) enum Client {
    /// An enrolled, enabled instance of an active agent.
    Instance(Instance),
    /// The operator.
    Operator,
}

/// Authenticates an instance by its assertion. What is said about a failure helps whoever has the
/// right key, and tells nobody else which clients there are.
pub(super) async fn instance(
    shared: &Shared,
    headers: &HeaderMap,
    form: &Form,
    now: Timestamp,
) -> Result<Instance, OAuthError> {
    if headers.contains_key(AUTHORIZATION) || form.get("client_secret").is_some() {
        return Err(OAuthError::client(
            "authenticate with a client assertion (private_key_jwt) and nothing else",
        ));
    }
    match form.get("client_assertion_type") {
        Some(ASSERTION_TYPE) => {}
        _ => {
            return Err(OAuthError::client(format!(
                "a client assertion is needed, with client_assertion_type {ASSERTION_TYPE}"
            )));
        }
    }
    let unknown = || OAuthError::client("no instance is known that made this client assertion");
    let text = form
        .get("client_assertion")
        .ok_or_else(|| OAuthError::client("client_assertion is missing"))?;
    let subject = assertion::unverified_subject(text).ok_or_else(unknown)?;
    let id = InstanceId::parse(&subject).map_err(|_| unknown())?;
    if form
        .get("client_id")
        .is_some_and(|client| client != subject)
    {
        return Err(OAuthError::client(
            "client_id is not the subject of the client assertion",
        ));
    }
    let instance = shared
        .engine
        .store()
        .instance(&id)
        .await
        .map_err(EngineError::from)?;
    let instance = instance.ok_or_else(unknown)?;
    let key = PublicKey::parse_jwk(&instance.public_jwk).map_err(|_| unknown())?;
    let issuer = &shared.engine.settings().control_url;
    let endpoint = format!("{issuer}/oauth/token");
    // Some clients compare issuers as URLs and so write a slash at the end.
    let slash = format!("{issuer}/");
    let audiences = [issuer.as_str(), &slash, &endpoint];
    shared
        .assertions
        .verify(text, &id, &key, &audiences, now)
        .map_err(|error| match error {
            assertion::AssertionError::BadSignature
            | assertion::AssertionError::WrongAlgorithm(_) => unknown(),
            other => OAuthError::client(other.to_string()),
        })?;
    if instance.disabled || shared.engine.live().is_disabled(&id) {
        return Err(OAuthError::client("this instance was disabled"));
    }
    Ok(instance)
}

/// Refuses the client of an agent that is not active.
pub(super) fn must_be_active(shared: &Shared, instance: &Instance) -> Result<(), OAuthError> {
    let world = shared.engine.live().world();
    let state = world.agent(&instance.agent).map(|facts| facts.lifecycle);
    match state {
        Some(Lifecycle::Active) => Ok(()),
        Some(state) => Err(OAuthError::unauthorized(format!(
            "the agent is {}",
            state.as_str()
        ))),
        None => Err(OAuthError::unauthorized("the agent is not known")),
    }
}

/// Authenticates an instance, or the operator by bearer token, for looking at and revoking tokens.
pub(super) async fn instance_or_operator(
    shared: &Shared,
    headers: &HeaderMap,
    form: &Form,
    now: Timestamp,
) -> Result<Client, OAuthError> {
    if shared.operator.is_in(headers) {
        return Ok(Client::Operator);
    }
    instance(shared, headers, form, now)
        .await
        .map(Client::Instance)
}
