//! Validated names. Each is parsed once, at the door, and is safe to print, to put into a path
//! and to compare byte for byte from then on.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a name was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{given}` is not a valid {what}: use 1 to 63 of a-z, 0-9 and `-`, starting and ending with a letter or digit"
)]
pub struct InvalidName {
    /// What kind of name was expected, in words.
    pub what: &'static str,
    /// What was given, shortened and with control characters escaped.
    pub given: String,
}

/// A label of RFC 1123: 1 to 63 lower-case letters, digits and inner hyphens.
fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    matches!(bytes.len(), 1..=63)
        && bytes.iter().all(inner)
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

fn shorten(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses a label of RFC 1123: 1 to 63 of `a-z`, `0-9` and inner `-`.
            ///
            /// # Errors
            /// [`InvalidName`] when the text is anything else.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                if is_label(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidName { what: $what, given: shorten(text) })
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::parse(&text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

label!(
    /// The name of an agent, unique in its trust domain.
    AgentName,
    "agent name"
);
label!(
    /// The name of a protected MCP server, as it appears in its route `/mcp/<name>`.
    ServerName,
    "server name"
);
label!(
    /// The name of a segment.
    SegmentName,
    "segment name"
);
label!(
    /// The name of a task template: its file name without `.toml`.
    TemplateName,
    "template name"
);

/// A SPIFFE trust domain: lower-case DNS labels joined by dots, at most 255 bytes
/// (SPIFFE-ID §2.1, narrowed to names that are also DNS names).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses a trust domain.
    ///
    /// # Errors
    /// [`InvalidName`] when a label between the dots is not one of RFC 1123, or the whole is too long.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if text.len() <= 255 && text.split('.').all(is_label) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName {
                what: "trust domain (labels joined by `.`)",
                given: shorten(text),
            })
        }
    }

    /// The trust domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE ID of an agent here.
    #[must_use]
    pub fn agent(&self, name: &AgentName) -> SpiffeId {
        SpiffeId(format!("spiffe://{}/agent/{name}", self.0).into())
    }

    /// The agent that a SPIFFE ID of this trust domain names; `None` for any other id.
    #[must_use]
    pub fn agent_of(&self, id: &str) -> Option<AgentName> {
        let path = id.strip_prefix("spiffe://")?.strip_prefix(self.as_str())?;
        AgentName::parse(path.strip_prefix("/agent/")?).ok()
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(&text)
    }
}

impl From<TrustDomain> for String {
    fn from(name: TrustDomain) -> String {
        name.0.as_ref().to_owned()
    }
}

/// The SPIFFE ID of an agent, `spiffe://<trust-domain>/agent/<name>` (SPIFFE-ID §2).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct SpiffeId(Arc<str>);

impl SpiffeId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_narrow() {
        for good in ["a", "a-b", "0", "support-agent-7"] {
            assert!(AgentName::parse(good).is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in [
            "", "-a", "a-", "A", "a.b", "a/b", "..", "ä", "a b", "a\n", &long,
        ] {
            assert!(AgentName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn spiffe_ids_round_trip_and_only_at_home() {
        let home = TrustDomain::parse("example.org").unwrap();
        let name = AgentName::parse("triage").unwrap();
        let id = home.agent(&name);
        assert_eq!(id.as_str(), "spiffe://example.org/agent/triage");
        assert_eq!(home.agent_of(id.as_str()), Some(name));
        for foreign in [
            "spiffe://example.org.evil/agent/triage",
            "spiffe://example.orgx/agent/triage",
            "spiffe://example.org/agent/triage/x",
            "spiffe://example.org/agent/",
            "https://example.org/agent/triage",
        ] {
            assert_eq!(home.agent_of(foreign), None, "{foreign}");
        }
    }
}
