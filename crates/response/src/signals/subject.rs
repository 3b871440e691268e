//! Whom an event is about: subject identifiers (RFC 9493), simple or complex (SSF 1.0 §3).

use std::collections::BTreeMap;

use model::{AgentName, TaskId};
use serde_json::{Map, Value, json};

/// Most members of a complex subject.
const MEMBERS: usize = 16;
/// Longest text in an identifier, in bytes.
const TEXT_BYTES: usize = 2_048;

/// Whom an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// One identifier.
    Simple(SubjectId),
    /// Several that hold together, by member: `user`, `session`, `device` and so on.
    Complex(BTreeMap<String, SubjectId>),
}

/// An identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectId {
    /// An e-mail address (RFC 9493 §3.2.2).
    Email(String),
    /// A subject of an issuer (§3.2.3).
    IssuerSubject {
        /// The issuer.
        iss: String,
        /// Its name for the subject.
        sub: String,
    },
    /// A name that only the parties understand (§3.2.4).
    Opaque(String),
    /// A URI (§3.2.7); agents have one, their SPIFFE ID.
    Uri(String),
    /// An identifier of another format.
    Other(String),
}

/// Why a subject cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSubject {
    /// It is not an object with a `format`.
    #[error("`sub_id` is not an object with a `format` (RFC 9493 §3)")]
    NoFormat,
    /// A member that its format asks for is missing, or is no text of 1 to 2048 bytes.
    #[error("`sub_id` of the format `{format}` needs `{member}`, a text of 1 to 2048 bytes")]
    Member {
        /// The format.
        format: &'static str,
        /// The member.
        member: &'static str,
    },
    /// A complex subject has none or too many members.
    #[error("a complex subject has 1 to {MEMBERS} members")]
    Members,
}

impl Subject {
    /// The subject that an agent is, with its SPIFFE ID.
    #[must_use]
    pub fn agent(trust_domain: &str, agent: &AgentName) -> Self {
        Self::Simple(SubjectId::Uri(format!(
            "spiffe://{trust_domain}/agent/{agent}"
        )))
    }

    /// The subject that a task of an agent is: a session of it.
    #[must_use]
    pub fn task(trust_domain: &str, agent: &AgentName, task: TaskId) -> Self {
        let user = SubjectId::Uri(format!("spiffe://{trust_domain}/agent/{agent}"));
        let session = SubjectId::Opaque(task.to_string());
        Self::Complex(BTreeMap::from([
            ("session".to_owned(), session),
            ("user".to_owned(), user),
        ]))
    }

    /// The subject that a stream is in events about itself (SSF 1.0 §8.1.4.1).
    #[must_use]
    pub fn stream(id: &str) -> Self {
        Self::Simple(SubjectId::Opaque(id.to_owned()))
    }

    /// Reads the claim `sub_id`.
    ///
    /// # Errors
    /// [`BadSubject`]
    pub fn read(value: &Value) -> Result<Self, BadSubject> {
        let object = value.as_object().ok_or(BadSubject::NoFormat)?;
        if object.get("format").and_then(Value::as_str) != Some("complex") {
            return SubjectId::read(object).map(Self::Simple);
        }
        let members = object.iter().filter(|(name, _)| *name != "format");
        let mut read = BTreeMap::new();
        for (name, value) in members {
            if read.len() == MEMBERS || name.len() > TEXT_BYTES {
                return Err(BadSubject::Members);
            }
            let object = value.as_object().ok_or(BadSubject::NoFormat)?;
            read.insert(name.clone(), SubjectId::read(object)?);
        }
        if read.is_empty() {
            return Err(BadSubject::Members);
        }
        Ok(Self::Complex(read))
    }

    /// The claim `sub_id`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Simple(id) => id.to_json(),
            Self::Complex(members) => {
                let mut object: Map<String, Value> = members
                    .iter()
                    .map(|(name, id)| (name.clone(), id.to_json()))
                    .collect();
                object.insert("format".to_owned(), json!("complex"));
                Value::Object(object)
            }
        }
    }

    /// Who acted: the simple identifier, or the member `user` of a complex one.
    #[must_use]
    pub fn user(&self) -> Option<&SubjectId> {
        match self {
            Self::Simple(id) => Some(id),
            Self::Complex(members) => members.get("user"),
        }
    }

    /// In which session: the member `session` of a complex subject.
    #[must_use]
    pub fn session(&self) -> Option<&SubjectId> {
        match self {
            Self::Simple(_) => None,
            Self::Complex(members) => members.get("session"),
        }
    }
}

impl SubjectId {
    fn read(object: &Map<String, Value>) -> Result<Self, BadSubject> {
        let format = object
            .get("format")
            .and_then(Value::as_str)
            .ok_or(BadSubject::NoFormat)?;
        let text = |format: &'static str, member: &'static str| {
            object
                .get(member)
                .and_then(Value::as_str)
                .filter(|text| (1..=TEXT_BYTES).contains(&text.len()))
                .map(str::to_owned)
                .ok_or(BadSubject::Member { format, member })
        };
        Ok(match format {
            "email" => Self::Email(text("email", "email")?),
            "iss_sub" => Self::IssuerSubject {
                iss: text("iss_sub", "iss")?,
                sub: text("iss_sub", "sub")?,
            },
            "opaque" => Self::Opaque(text("opaque", "id")?),
            "uri" => Self::Uri(text("uri", "uri")?),
            other => Self::Other(other.chars().take(64).collect()),
        })
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Email(email) => json!({ "format": "email", "email": email }),
            Self::IssuerSubject { iss, sub } => {
                json!({ "format": "iss_sub", "iss": iss, "sub": sub })
            }
            Self::Opaque(id) => json!({ "format": "opaque", "id": id }),
            Self::Uri(uri) => json!({ "format": "uri", "uri": uri }),
            Self::Other(format) => json!({ "format": format }),
        }
    }

    /// The agent that a SPIFFE ID of this trust domain names, whatever form it comes in.
    #[must_use]
    pub fn agent(&self, trust_domain: &str) -> Option<AgentName> {
        let (Self::Uri(text) | Self::Opaque(text) | Self::IssuerSubject { sub: text, .. }) = self
        else {
            return None;
        };
        let path = text.strip_prefix("spiffe://")?.strip_prefix(trust_domain)?;
        AgentName::parse(path.strip_prefix("/agent/")?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_round_trip() {
        for written in [
            json!({ "format": "email", "email": "ada@example.org" }),
            json!({ "format": "iss_sub", "iss": "https://idp", "sub": "7" }),
            json!({ "format": "uri", "uri": "spiffe://example.org/agent/triage" }),
            json!({ "format": "complex", "user": { "format": "opaque", "id": "u" },
                    "session": { "format": "opaque", "id": "s" } }),
        ] {
            assert_eq!(Subject::read(&written).unwrap().to_json(), written);
        }
        for bad in [
            json!("ada"),
            json!({ "email": "ada@example.org" }),
            json!({ "format": "email" }),
            json!({ "format": "email", "email": "" }),
            json!({ "format": "complex" }),
            json!({ "format": "complex", "user": "ada" }),
            json!({ "format": "opaque", "id": "x".repeat(2_049) }),
        ] {
            assert!(Subject::read(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_ids_of_this_trust_domain_name_agents() {
        let agent = |uri: &str| SubjectId::Uri(uri.to_owned()).agent("example.org");
        assert_eq!(
            agent("spiffe://example.org/agent/triage").unwrap().as_str(),
            "triage"
        );
        for other in [
            "spiffe://example.org.evil.org/agent/triage",
            "spiffe://other.org/agent/triage",
            "spiffe://example.org/agent/a/b",
            "triage",
        ] {
            assert_eq!(agent(other), None, "{other}");
        }
    }
}
