//! What a detector saw.

pub use model::inspection::Severity;
use model::{AgentName, ServerName, TaskId};
use serde::{Deserialize, Serialize};

use crate::text;

/// Most characters of evidence that a finding quotes, before escaping.
pub const EVIDENCE_CHARS: usize = 160;

/// Something that a detector saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule that saw it, such as `instruction-override`.
    pub rule: String,
    /// How much it matters.
    pub severity: Severity,
    /// The risk of the OWASP Top 10 for Agentic Applications that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asi: Option<Asi>,
    /// The technique of MITRE ATLAS that it looks like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub atlas: Option<Atlas>,
    /// Whom and what it is about.
    #[serde(default)]
    pub subject: Subject,
    /// Where it was seen, and what was seen there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// What it means, in a sentence for a person.
    pub explanation: String,
}

/// A risk of the OWASP Top 10 for Agentic Applications (2026).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Asi {
    /// Agent goal hijack.
    Asi01,
    /// Tool misuse and exploitation.
    Asi02,
    /// Identity and privilege abuse.
    Asi03,
    /// Agentic supply chain vulnerabilities.
    Asi04,
    /// Unexpected code execution.
    Asi05,
    /// Memory and context poisoning.
    Asi06,
    /// Insecure communication between agents.
    Asi07,
    /// Cascading failures.
    Asi08,
    /// Exploitation of the trust between humans and agents.
    Asi09,
    /// Rogue agents.
    Asi10,
}

/// A technique of MITRE ATLAS: `AML.T0051`, or one of its kinds: `AML.T0051.001`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Atlas(String);

impl Atlas {
    /// Prompt injection through content that an agent reads.
    pub const INDIRECT_INJECTION: &'static str = "AML.T0051.001";
    /// A prompt made unreadable for filters and people.
    pub const OBFUSCATION: &'static str = "AML.T0068";
    /// What an agent has in its context leaks.
    pub const LEAKAGE: &'static str = "AML.T0057";
    /// Data leaves through a tool that an agent calls.
    pub const EXFILTRATION: &'static str = "AML.T0086";
    /// An agent is made to call a tool.
    pub const TOOL_INVOCATION: &'static str = "AML.T0053";
    /// The supply chain of the system is compromised.
    pub const SUPPLY_CHAIN: &'static str = "AML.T0010";
    /// Something pretends to be something else.
    pub const MASQUERADING: &'static str = "AML.T0074";
    /// Credentials lie where they should not.
    pub const UNSECURED_CREDENTIALS: &'static str = "AML.T0055";
    /// The service is made to work too much.
    pub const DENIAL_OF_SERVICE: &'static str = "AML.T0029";
    /// The agent's knowledge of what there is to use is explored.
    pub const DISCOVERY: &'static str = "AML.T0084";
    /// An account is used by somebody else.
    pub const VALID_ACCOUNTS: &'static str = "AML.T0012";

    /// Parses `AML.T` and four digits, optionally followed by a point and three digits.
    ///
    /// # Errors
    /// [`NotATechnique`] for anything else.
    pub fn parse(text: &str) -> Result<Self, NotATechnique> {
        let error = || NotATechnique(text.chars().take(40).flat_map(char::escape_debug).collect());
        let digits = |part: &str, count: usize| {
            part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        let rest = text.strip_prefix("AML.T").ok_or_else(error)?;
        let sound = match rest.split_once('.') {
            None => digits(rest, 4),
            Some((technique, kind)) => digits(technique, 4) && digits(kind, 3),
        };
        if sound {
            Ok(Self(text.to_owned()))
        } else {
            Err(error())
        }
    }

    /// One of the techniques named here.
    pub(crate) fn known(text: &'static str) -> Option<Self> {
        Self::parse(text).ok()
    }

    /// The identifier.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text is no identifier of a technique.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a technique of MITRE ATLAS: write it as AML.T0051 or AML.T0051.001")]
pub struct NotATechnique(String);

impl TryFrom<String> for Atlas {
    type Error = NotATechnique;
    fn try_from(text: String) -> Result<Self, NotATechnique> {
        Self::parse(&text)
    }
}

impl From<Atlas> for String {
    fn from(atlas: Atlas) -> String {
        atlas.0
    }
}

/// Whom and what a finding is about, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// The agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerName>,
    /// The tool, resource, prompt, endpoint, model, skill or tables, escaped and shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// What was seen, fit to be shown: nothing in it can act on a terminal, a page or a model's reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Where: a member of a definition such as `description`, or a text with what it was wrapped in,
    /// such as `text > base64`.
    pub place: String,
    /// The first byte of it there.
    pub start: usize,
    /// The first byte after it.
    pub end: usize,
    /// The text, escaped, and cut to [`EVIDENCE_CHARS`] characters before that.
    pub quote: String,
}

impl Evidence {
    /// Evidence from a text.
    #[must_use]
    pub fn of(place: impl Into<String>, text: &str, start: usize, end: usize) -> Self {
        let end = floor(text, end.min(text.len()));
        let start = floor(text, start.min(end));
        Self {
            place: place.into(),
            start,
            end,
            quote: text::escaped(&text[start..end], EVIDENCE_CHARS),
        }
    }
}

/// The last boundary of a character at or before a byte.
fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn techniques_have_one_form() {
        for good in ["AML.T0051", "AML.T0051.001"] {
            assert_eq!(Atlas::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "AML.T51",
            "AML.T0051.1",
            "aml.t0051",
            "AML.T0051.",
            "T0051",
        ] {
            assert!(Atlas::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_are_written_as_owasp_writes_them() {
        assert_eq!(serde_json::to_string(&Asi::Asi01).unwrap(), r#""ASI01""#);
        assert_eq!(
            serde_json::from_str::<Asi>(r#""ASI10""#).unwrap(),
            Asi::Asi10
        );
    }

    #[test]
    fn evidence_never_splits_a_character() {
        let evidence = Evidence::of("text", "aé\u{1b}[31mz", 2, 40);
        assert_eq!(evidence.start, 1);
        assert_eq!(evidence.quote, "é\\u{1b}[31mz");
    }
}
