//! A credential for one request (M2): a signed token that says who asks, for which task, by which
//! decision, and for which request; good for a minute, and for this request alone.

use gateway::caller::Caller;
use http::HeaderValue;
use identity::{DocumentType, KeyRing};
use jiff::Timestamp;
use model::DecisionId;
use serde_json::json;

use crate::api::CallTokens;

/// How long one is good, in seconds.
const LIFETIME: i64 = 60;

/// The request that a token is for.
pub(crate) struct For<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) decision: DecisionId,
    pub(crate) issuer: &'a str,
    pub(crate) method: &'a str,
    /// The URL at the API, without the query.
    pub(crate) url: &'a str,
    pub(crate) now: Timestamp,
}

/// Makes one, as the value of its header. Its type keeps it from being taken for an access token, here or
/// anywhere (RFC 8725 §3.11).
///
/// # Errors
/// Why it could not be signed.
pub(crate) fn make(
    tokens: &CallTokens,
    keys: &KeyRing,
    request: &For<'_>,
) -> Result<HeaderValue, String> {
    let now = request.now.as_second();
    let claims = json!({
        "iss": request.issuer,
        "sub": tokens.trust_domain.agent(&request.caller.agent).to_string(),
        "aud": tokens.audience,
        "iat": now,
        "exp": now + LIFETIME,
        "jti": request.decision,
        "agent": request.caller.agent,
        "client_id": request.caller.instance,
        "task": request.caller.task.task().id,
        "htm": request.method,
        "htu": request.url,
    })
    .to_string();
    let signed = keys
        .sign_compact(DocumentType::Call, claims.as_bytes())
        .map_err(|error| error.to_string())?;
    let mut value =
        HeaderValue::try_from(format!("Bearer {signed}")).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}
