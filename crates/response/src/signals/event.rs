//! Events (CAEP 1.0 §3, SSF 1.0 §8.1.4 and §8.1.5).

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::subject::Subject;

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";

/// Longest reason that is told or taken in, in characters.
const REASON_CHARACTERS: usize = 500;

/// What happened, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// To whom.
    pub subject: Subject,
    /// When; none when it is not said.
    pub at: Option<Timestamp>,
    /// Why, for an administrator; empty when it is not said.
    pub reason: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A session is over before its time (CAEP §3.1): a task was ended, or all of an agent's were.
    SessionRevoked,
    /// A credential was created, changed, revoked or deleted (CAEP §3.3).
    CredentialChange(CredentialChange),
    /// How dangerous somebody is has changed (CAEP §3.8).
    RiskLevelChange {
        /// How much now.
        current: Level,
        /// How much before, if it is known.
        previous: Option<Level>,
    },
    /// The stream is alive (SSF §8.1.4.1).
    Verification {
        /// What the receiver gave to be told.
        state: Option<String>,
    },
    /// The status of the stream has changed (SSF §8.1.5).
    StreamUpdated {
        /// The status now.
        status: String,
    },
}

/// What happened to a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialChange {
    /// What kind of credential it is, such as `x509`.
    pub credential_type: String,
    /// `create`, `revoke`, `update` or `delete`.
    pub change_type: String,
}

/// How dangerous somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing speaks against it.
    Low,
    /// Something does.
    Medium,
    /// Much does.
    High,
}

impl Level {
    /// The level of a score of 0 to 100: below 30 it is low, from 70 on high.
    #[must_use]
    pub fn of(score: u8) -> Self {
        match score {
            0..30 => Self::Low,
            30..70 => Self::Medium,
            _ => Self::High,
        }
    }

    /// The word in events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
        }
    }

    /// The level that a word of an event stands for.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        [Self::Low, Self::Medium, Self::High]
            .into_iter()
            .find(|level| level.as_str() == text)
    }
}

/// The URIs of the events that a stream can be asked for.
#[must_use]
pub fn supported() -> [String; 3] {
    ["session-revoked", "credential-change", "risk-level-change"]
        .map(|name| format!("{CAEP}{name}"))
}

impl EventKind {
    /// The URI of the event's type.
    #[must_use]
    pub fn uri(&self) -> String {
        let (base, name) = match self {
            Self::SessionRevoked => (CAEP, "session-revoked"),
            Self::CredentialChange(_) => (CAEP, "credential-change"),
            Self::RiskLevelChange { .. } => (CAEP, "risk-level-change"),
            Self::Verification { .. } => (SSF, "verification"),
            Self::StreamUpdated { .. } => (SSF, "stream-updated"),
        };
        format!("{base}{name}")
    }
}

impl Event {
    /// The claim `events`: one event, as the interoperability profile asks for.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut body = Map::new();
        if let Some(at) = self.at {
            body.insert("event_timestamp".to_owned(), json!(at.as_second()));
        }
        match &self.kind {
            EventKind::SessionRevoked | EventKind::CredentialChange(_) => {
                body.insert("initiating_entity".to_owned(), json!("policy"));
                body.insert("reason_admin".to_owned(), json!({ "en": self.reason }));
                if let EventKind::CredentialChange(change) = &self.kind {
                    body.insert("credential_type".to_owned(), json!(change.credential_type));
                    body.insert("change_type".to_owned(), json!(change.change_type));
                }
            }
            EventKind::RiskLevelChange { current, previous } => {
                // An agent is a workload: the profile's word for who acts by itself.
                body.insert("principal".to_owned(), json!("USER"));
                body.insert("current_level".to_owned(), json!(current.as_str()));
                if let Some(previous) = previous {
                    body.insert("previous_level".to_owned(), json!(previous.as_str()));
                }
                body.insert("risk_reason".to_owned(), json!(self.reason));
            }
            EventKind::Verification { state } => {
                if let Some(state) = state {
                    body.insert("state".to_owned(), json!(state));
                }
            }
            EventKind::StreamUpdated { status } => {
                body.insert("status".to_owned(), json!(status));
                if !self.reason.is_empty() {
                    body.insert("reason".to_owned(), json!(self.reason));
                }
            }
        }
        json!({ self.kind.uri(): body })
    }

    /// Reads one member of the claim `events`; `None` when the type is unknown, or something that it
    /// needs is missing.
    pub(super) fn read(uri: &str, body: &Value, subject: Subject) -> Option<Self> {
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let kind = match uri.strip_prefix(CAEP).or(uri.strip_prefix(SSF))? {
            "session-revoked" => EventKind::SessionRevoked,
            "credential-change" => EventKind::CredentialChange(CredentialChange {
                credential_type: shortened(text("credential_type")?),
                change_type: shortened(text("change_type")?),
            }),
            "risk-level-change" => EventKind::RiskLevelChange {
                current: Level::read(text("current_level")?)?,
                previous: text("previous_level").and_then(Level::read),
            },
            "verification" => EventKind::Verification {
                state: text("state").map(shortened),
            },
            "stream-updated" => EventKind::StreamUpdated {
                status: shortened(text("status")?),
            },
            _ => return None,
        };
        if kind.uri() != uri {
            return None;
        }
        let at = body.get("event_timestamp").and_then(Value::as_i64);
        let reason = body
            .get("reason_admin")
            .and_then(|reason| reason.get("en").or(Some(reason)))
            .and_then(Value::as_str)
            .or(text("risk_reason"))
            .or(text("reason"))
            .unwrap_or_default();
        Some(Self {
            kind,
            subject,
            at: at.and_then(|at| Timestamp::from_second(at).ok()),
            reason: shortened(reason),
        })
    }
}

/// A text of others, so that it can be recorded and shown.
fn shortened(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(REASON_CHARACTERS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_round_trip() {
        let subject = Subject::stream("s");
        for kind in [
            EventKind::SessionRevoked,
            EventKind::CredentialChange(CredentialChange {
                credential_type: "x509".to_owned(),
                change_type: "revoke".to_owned(),
            }),
            EventKind::RiskLevelChange {
                current: Level::High,
                previous: Some(Level::Low),
            },
            EventKind::StreamUpdated {
                status: "paused".to_owned(),
            },
        ] {
            let event = Event {
                kind,
                subject: subject.clone(),
                at: Some(Timestamp::from_second(1_000).unwrap()),
                reason: "a task was ended".to_owned(),
            };
            let events = event.to_json();
            let (uri, body) = events.as_object().unwrap().iter().next().unwrap();
            assert_eq!(Event::read(uri, body, subject.clone()).unwrap(), event);
        }
    }

    #[test]
    fn a_type_of_another_family_is_unknown() {
        let body = json!({});
        for uri in [
            "https://schemas.openid.net/secevent/ssf/event-type/session-revoked",
            "https://schemas.openid.net/secevent/risc/event-type/account-disabled",
            "session-revoked",
        ] {
            assert_eq!(Event::read(uri, &body, Subject::stream("s")), None, "{uri}");
        }
    }

    #[test]
    fn what_others_wrote_is_shortened_and_plain() {
        let body = json!({ "reason_admin": { "en": "a\u{1b}[2J".repeat(900) } });
        let uri = EventKind::SessionRevoked.uri();
        let event = Event::read(&uri, &body, Subject::stream("s")).unwrap();
        assert_eq!(event.reason.chars().count(), REASON_CHARACTERS);
        assert!(!event.reason.contains('\u{1b}'));
    }
}
