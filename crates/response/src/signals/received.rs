//! The claims of a security event token that somebody sent (RFC 8417 §2.2, SSF 1.0 §4).

use jiff::Timestamp;
use serde_json::Value;

use super::event::Event;
use super::subject::{BadSubject, Subject};

/// How far the clock of the other side may be ahead, in seconds.
const SKEW: i64 = 60;
/// Tokens made before that are not taken any more, in seconds: seven days. Whatever they tell is long over,
/// and no token is remembered for longer.
pub const OLDEST: i64 = 7 * 24 * 3_600;
/// Longest `jti`, in bytes.
const JTI_BYTES: usize = 256;
/// Most events in one token; the interoperability profile asks for one.
const EVENTS: usize = 8;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Names the token; its sender uses it once.
    pub jti: String,
    /// When it was made.
    pub issued_at: Timestamp,
    /// The events that are understood.
    pub events: Vec<Event>,
}

/// Why a token is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unacceptable {
    /// A claim is missing or not what it must be.
    #[error("the claim `{0}` is missing or not what it must be (RFC 8417 §2.2)")]
    Claim(&'static str),
    /// Somebody else made it.
    #[error("its issuer is not the one that this sender was configured with")]
    Issuer,
    /// It is for somebody else.
    #[error("it is not for this audience")]
    Audience,
    /// It was made in the future, or too long ago.
    #[error("it was made in the future, or more than seven days ago")]
    Time,
    /// Its subject cannot be read.
    #[error(transparent)]
    Subject(#[from] BadSubject),
}

impl Unacceptable {
    /// The code of the error (RFC 8935 §2.4).
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Issuer => "invalid_issuer",
            Self::Audience => "invalid_audience",
            Self::Claim(_) | Self::Time | Self::Subject(_) => "invalid_request",
        }
    }
}

impl Received {
    /// Reads the claims of a token whose signature was verified with a key of `issuer`.
    ///
    /// # Errors
    /// [`Unacceptable`]
    pub fn read(
        claims: &Value,
        issuer: &str,
        audience: &str,
        now: Timestamp,
    ) -> Result<Self, Unacceptable> {
        let text = |name| claims.get(name).and_then(Value::as_str);
        if text("iss").ok_or(Unacceptable::Claim("iss"))? != issuer {
            return Err(Unacceptable::Issuer);
        }
        let aud = claims.get("aud").ok_or(Unacceptable::Claim("aud"))?;
        let is_for_us = |value: &Value| value.as_str() == Some(audience);
        let for_us = is_for_us(aud) || aud.as_array().is_some_and(|all| all.iter().any(is_for_us));
        if !for_us {
            return Err(Unacceptable::Audience);
        }
        // Neither may be there: so no other kind of token passes for an event (SSF 1.0 §4.1.3, §4.1.7).
        for never in ["sub", "exp"] {
            if claims.get(never).is_some() {
                return Err(Unacceptable::Claim(never));
            }
        }
        let jti = text("jti")
            .filter(|jti| (1..=JTI_BYTES).contains(&jti.len()))
            .ok_or(Unacceptable::Claim("jti"))?;
        let issued_at = claims
            .get("iat")
            .and_then(Value::as_i64)
            .ok_or(Unacceptable::Claim("iat"))?;
        let age = now.as_second().saturating_sub(issued_at);
        if !(-SKEW..=OLDEST).contains(&age) {
            return Err(Unacceptable::Time);
        }
        let events = claims
            .get("events")
            .and_then(Value::as_object)
            .filter(|events| (1..=EVENTS).contains(&events.len()))
            .ok_or(Unacceptable::Claim("events"))?;
        let subject = claims.get("sub_id").ok_or(Unacceptable::Claim("sub_id"))?;
        let subject = Subject::read(subject)?;
        Ok(Self {
            jti: jti.to_owned(),
            issued_at: Timestamp::from_second(issued_at).map_err(|_| Unacceptable::Time)?,
            events: events
                .iter()
                .filter_map(|(uri, body)| Event::read(uri, body, subject.clone()))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::EventKind;
    use super::*;
    use serde_json::json;

    fn claims() -> Value {
        json!({
            "iss": "https://idp", "aud": ["https://us"], "jti": "1", "iat": 1_000_000,
            "sub_id": { "format": "email", "email": "ada@example.org" },
            "events": {
                "https://schemas.openid.net/secevent/caep/event-type/session-revoked": {},
                "urn:of-somebody-else": {}
            }
        })
    }

    fn read(claims: &Value, after: i64) -> Result<Received, Unacceptable> {
        let now = Timestamp::from_second(1_000_000 + after).unwrap();
        Received::read(claims, "https://idp", "https://us", now)
    }

    #[test]
    fn what_is_understood_is_taken_and_the_rest_left() {
        let received = read(&claims(), 5).unwrap();
        assert_eq!(received.jti, "1");
        assert_eq!(received.events.len(), 1);
        assert_eq!(received.events[0].kind, EventKind::SessionRevoked);
    }

    #[test]
    fn no_other_token_passes_for_an_event() {
        let with = |name: &str, value: Value| {
            let mut changed = claims();
            changed[name] = value;
            read(&changed, 0).unwrap_err()
        };
        assert_eq!(with("iss", json!("https://evil")), Unacceptable::Issuer);
        assert_eq!(with("aud", json!("https://them")), Unacceptable::Audience);
        assert_eq!(with("sub", json!("ada")), Unacceptable::Claim("sub"));
        assert_eq!(with("exp", json!(2_000_000)), Unacceptable::Claim("exp"));
        assert_eq!(with("jti", json!("")), Unacceptable::Claim("jti"));
        assert_eq!(with("events", json!({})), Unacceptable::Claim("events"));
        assert_eq!(with("iat", json!("now")), Unacceptable::Claim("iat"));
        assert_eq!(read(&claims(), -61).unwrap_err(), Unacceptable::Time);
        assert_eq!(read(&claims(), OLDEST + 1).unwrap_err(), Unacceptable::Time);
        for name in ["iss", "aud", "jti", "iat", "sub_id", "events"] {
            let mut changed = claims();
            changed.as_object_mut().unwrap().remove(name);
            assert_eq!(read(&changed, 0).unwrap_err(), Unacceptable::Claim(name));
        }
    }
}
