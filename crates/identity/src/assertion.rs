//! Client assertions (RFC 7523 §3, `private_key_jwt`): an instance shows who it is to the token
//! endpoint.

use jiff::Timestamp;
use model::InstanceId;

use crate::CLOCK_SKEW_SECONDS;
use crate::jws::{Compact, Header, Malformed, bounded};
use crate::members::Members;
use crate::public_key::PublicKey;
use crate::replay::{Memory, Refused};

/// Longest assertion, in bytes.
const LIMIT: usize = 4096;
/// Furthest that an assertion may expire in the future, in seconds; a clock that is ahead included.
const LIFETIME_SECONDS: i64 = 300 + CLOCK_SKEW_SECONDS;
/// Longest `jti`, in bytes.
const JTI_LIMIT: usize = 256;
/// Most audiences that one assertion may name.
const AUDIENCES_LIMIT: usize = 8;

/// Why an assertion was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// The text is no acceptable signed text, or a claim is missing.
    #[error("the client assertion is malformed: {0}")]
    Malformed(#[from] Malformed),
    /// A token of another kind: an access token or a proof is no assertion.
    #[error("the client assertion's `typ` must be `JWT` or absent")]
    WrongType,
    /// Another algorithm than the registered key's.
    #[error("the client assertion must be signed with {0}, the algorithm of the enrolled key")]
    WrongAlgorithm(&'static str),
    /// Not the registered key's signature.
    #[error("the client assertion was not signed with the enrolled key")]
    BadSignature,
    /// Issuer or subject is another client.
    #[error("the client assertion's `iss` and `sub` must both be the client id")]
    OtherClient,
    /// Made for another authorization server as well, or only.
    #[error("the client assertion's `aud` must name this authorization server and nobody else")]
    WrongAudience,
    /// Past its time.
    #[error("the client assertion has expired: make a new one for each request")]
    Expired,
    /// Good for longer than allowed.
    #[error("the client assertion must expire within {LIFETIME_SECONDS} seconds")]
    TooLongLived,
    /// Issued in the future, or not good yet.
    #[error("the client assertion is from the future: check the clocks")]
    NotYetValid,
    /// Used before.
    #[error("the client assertion was used before: make a new one for each request")]
    Replayed,
    /// It may have been used before this process started.
    #[error(
        "the client assertion was made before this server started: make a new one for each request"
    )]
    BeforeStart,
    /// The client sends more than are remembered.
    #[error("too many client assertions within five minutes: use tokens until they expire")]
    TooMany,
}

/// Verifies assertions, each once.
pub struct Assertions {
    used: Memory,
    /// The second since which all assertions are remembered.
    since: i64,
}

impl Assertions {
    /// Remembers up to about `capacity` assertions at a time (at least a few thousand). One client
    /// can never take all of the room.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            used: Memory::new(capacity, LIFETIME_SECONDS),
            since: i64::MIN,
        }
    }

    /// Refuses assertions that may have been accepted before this moment, by a process that ran here
    /// before and whose memory is gone.
    #[must_use]
    pub fn since(mut self, start: Timestamp) -> Self {
        self.since = start.as_second();
        self
    }

    /// Checks that an assertion was made by the key for this client and for one of the audiences
    /// (the issuer and the token endpoint), and was not used before.
    ///
    /// # Errors
    /// [`AssertionError`]
    pub fn verify(
        &self,
        assertion: &str,
        client: &InstanceId,
        key: &PublicKey,
        audiences: &[&str],
        now: Timestamp,
    ) -> Result<(), AssertionError> {
        let compact = Compact::<LIMIT>::read(assertion)?;
        check_header(compact.header_text, key)?;
        if !compact.is_signed_by(key) {
            return Err(AssertionError::BadSignature);
        }
        let claims = compact.claims()?;
        let required = |name| claims.required(name).map_err(Malformed::claims);
        let client = client.to_string();
        if required("iss")? != client || required("sub")? != client {
            return Err(AssertionError::OtherClient);
        }
        check_audience(&claims, audiences)?;
        let now = now.as_second();
        let Times { from, until } = check_times(&claims, now)?;
        if from < self.since {
            return Err(AssertionError::BeforeStart);
        }
        let id = bounded(&claims, "jti", JTI_LIMIT)?;
        let used = self.used.use_once(key.thumbprint_bytes(), &id, until, now);
        used.map_err(|refused| match refused {
            Refused::Used | Refused::Forgotten => AssertionError::Replayed,
            Refused::NoRoom => AssertionError::TooMany,
        })
    }
}

/// Who an assertion says it is from. Nothing about it was checked: it only tells which key to
/// check it with.
#[must_use]
pub fn unverified_subject(assertion: &str) -> Option<String> {
    let compact = Compact::<LIMIT>::read(assertion).ok()?;
    let claims = compact.claims().ok()?;
    bounded(&claims, "sub", 256)
        .ok()
        .map(std::borrow::Cow::into_owned)
}

fn check_header(text: &str, key: &PublicKey) -> Result<(), AssertionError> {
    let header = Header::<2048>::decode(text)?;
    let parameters = header.parameters()?;
    if parameters.has("jwk") {
        return Err(Malformed::RefusedParameter("jwk").into());
    }
    let kind = parameters.text("typ").map_err(Malformed::header)?;
    let known = kind.is_none_or(|kind| {
        kind.eq_ignore_ascii_case("JWT") || kind.eq_ignore_ascii_case("client-authentication+jwt")
    });
    if !known {
        return Err(AssertionError::WrongType);
    }
    let algorithm = key.kind().algorithm();
    if parameters
        .text("alg")
        .map_err(Malformed::header)?
        .as_deref()
        != Some(algorithm)
    {
        return Err(AssertionError::WrongAlgorithm(algorithm));
    }
    Ok(())
}

/// Every audience must be this server: an assertion that others accept as well could be sent on by
/// them.
fn check_audience(claims: &Members<'_>, audiences: &[&str]) -> Result<(), AssertionError> {
    let named = match claims.typed::<String>("aud") {
        Ok(Some(one)) => vec![one],
        Ok(None) => Vec::new(),
        Err(_) => claims
            .typed::<Vec<String>>("aud")
            .ok()
            .flatten()
            .unwrap_or_default(),
    };
    let ours = |audience: &String| audiences.contains(&audience.as_str());
    if (1..=AUDIENCES_LIMIT).contains(&named.len()) && named.iter().all(ours) {
        Ok(())
    } else {
        Err(AssertionError::WrongAudience)
    }
}

/// Within which seconds an assertion is acceptable.
struct Times {
    from: i64,
    until: i64,
}

fn check_times(claims: &Members<'_>, now: i64) -> Result<Times, AssertionError> {
    let seconds = |name| claims.seconds(name).map_err(Malformed::claims);
    let expires = seconds("exp")?.ok_or_else(|| Malformed::claims("`exp` is missing"))?;
    if now >= expires {
        return Err(AssertionError::Expired);
    }
    if expires > now + LIFETIME_SECONDS {
        return Err(AssertionError::TooLongLived);
    }
    let latest = now + CLOCK_SKEW_SECONDS;
    let issued = seconds("iat")?;
    if [issued, seconds("nbf")?]
        .into_iter()
        .flatten()
        .any(|from| from > latest)
    {
        return Err(AssertionError::NotYetValid);
    }
    let earliest = expires.saturating_sub(LIFETIME_SECONDS);
    Ok(Times {
        from: issued.map_or(earliest, |issued| issued.max(earliest)),
        until: expires,
    })
}

#[cfg(test)]
mod tests;
