//! Access tokens: what stands in them (RFC 9068 with RFC 9396, RFC 9449 §6.1 and RFC 8705 §3.1).

use jiff::Timestamp;
use model::{AgentName, InstanceId, TaskId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::jws::{Compact, Header, Malformed};
use crate::public_key::PublicKey;
use crate::signing::{SigningFailed, is_low};
use crate::svid::Thumbprint;
use crate::{CLOCK_SKEW_SECONDS, TOKEN_LIFETIME};

/// Longest token, in bytes.
pub(crate) const LIMIT: usize = 8192;
/// The `typ` of access tokens (RFC 9068 §2.1).
pub(crate) const TYPE: &str = "at+jwt";

/// The claims of an access token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccessClaims {
    /// The issuer: base URL of the control listener.
    pub iss: String,
    /// The agent's SPIFFE ID.
    pub sub: String,
    /// The one resource that the token is for (RFC 8707).
    pub aud: String,
    /// When it expires, in seconds since 1970.
    pub exp: i64,
    /// When it was issued, in seconds since 1970.
    pub iat: i64,
    /// Names the token.
    pub jti: String,
    /// The instance that it was issued to.
    pub client_id: InstanceId,
    /// The agent that the instance is a copy of.
    pub agent: AgentName,
    /// The task that the token acts under; none in tokens that open tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// What the token is good for at its resource, separated by blanks.
    pub scope: String,
    /// What the token is bound to; nothing for bearer tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Cnf>,
    /// What was asked for and granted (RFC 9396 §9.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_details: Option<Value>,
}

/// What a token is bound to (RFC 7800): one of two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Cnf {
    /// A key, of which each call carries a proof (RFC 9449 §6.1).
    Key {
        /// The thumbprint of the key (RFC 7638, SHA-256, base64url).
        jkt: String,
    },
    /// A certificate, which the connection of each call was made with (RFC 8705 §3.1).
    Certificate {
        /// The thumbprint of the certificate.
        #[serde(rename = "x5t#S256")]
        x5t: Thumbprint,
    },
}

impl AccessClaims {
    /// Whether the token has expired: it is good until the moment before `exp` (RFC 7519 §4.1.4).
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now.as_second() >= self.exp
    }

    /// Whether the token was made for this resource; the URL must be the very same text.
    #[must_use]
    pub fn is_for(&self, resource: &str) -> bool {
        self.aud == resource
    }
}

/// Why a token was not issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// It would outlive the key that verifies it, or be expired from the start.
    #[error("an access token must live between 1 and {} seconds", TOKEN_LIFETIME.as_secs())]
    Lifetime,
    /// It would be longer than what is accepted.
    #[error("the access token would be longer than {LIMIT} bytes: ask for less in one token")]
    TooLong,
    /// It could not be signed.
    #[error(transparent)]
    Signing(#[from] SigningFailed),
}

/// Why a token was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The text is no acceptable signed text.
    #[error("the access token is malformed: {0}")]
    Malformed(#[from] Malformed),
    /// Another `typ`: an ID token, an assertion or a proof is no access token.
    #[error("the token is no access token: its `typ` must be `at+jwt`")]
    WrongType,
    /// Another algorithm than the key's.
    #[error("the access token must be signed with ES256")]
    WrongAlgorithm,
    /// No key of this authorization server, or one that was rotated out long ago.
    #[error("the access token was signed with a key that is not known here: get a new one")]
    UnknownKey,
    /// The signature is not the key's, or is the other spelling of one.
    #[error("the access token's signature does not verify")]
    BadSignature,
    /// Another issuer.
    #[error("the access token was issued by another authorization server")]
    ForeignIssuer,
    /// Past its time.
    #[error("the access token has expired: get a new one")]
    Expired,
    /// Issued in the future, or not good yet.
    #[error("the access token is from the future: check the clocks")]
    NotYetValid,
}

/// The `kid` that a token names, and the token taken apart; nothing is believed yet.
pub(crate) fn open(token: &str) -> Result<(String, Compact<'_, LIMIT>), TokenError> {
    let compact = Compact::read(token)?;
    let header = Header::<1024>::decode(compact.header_text)?;
    let parameters = header.parameters()?;
    if parameters
        .text("typ")
        .map_err(Malformed::header)?
        .as_deref()
        != Some(TYPE)
    {
        return Err(TokenError::WrongType);
    }
    if parameters
        .text("alg")
        .map_err(Malformed::header)?
        .as_deref()
        != Some("ES256")
    {
        return Err(TokenError::WrongAlgorithm);
    }
    if parameters.has("jwk") {
        return Err(Malformed::RefusedParameter("jwk").into());
    }
    let kid = parameters
        .required("kid")
        .map_err(Malformed::header)?
        .into_owned();
    Ok((kid, compact))
}

/// The claims of a token, when the key signed it and they hold now.
pub(crate) fn verify(
    compact: &Compact<'_, LIMIT>,
    key: &PublicKey,
    issuer: &str,
    now: Timestamp,
) -> Result<AccessClaims, TokenError> {
    if !is_low(compact.signature()) || !compact.is_signed_by(key) {
        return Err(TokenError::BadSignature);
    }
    let not_before = compact
        .claims()?
        .seconds("nbf")
        .map_err(Malformed::claims)?;
    let claims: AccessClaims =
        serde_json::from_slice(compact.claims_bytes()).map_err(Malformed::claims)?;
    if claims.iss != issuer {
        return Err(TokenError::ForeignIssuer);
    }
    if claims.is_expired(now) {
        return Err(TokenError::Expired);
    }
    let latest = now.as_second() + CLOCK_SKEW_SECONDS;
    if claims.iat > latest || not_before.is_some_and(|from| from > latest) {
        return Err(TokenError::NotYetValid);
    }
    Ok(claims)
}
