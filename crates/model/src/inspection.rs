//! What is looked for in what passes the gateway, and what is done about it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Odd, and usually harmless.
    Low,
    /// Worth a look.
    Medium,
    /// Probably an attack, or as bad as one.
    High,
    /// Certainly wrong: somebody must act.
    Critical,
}

impl Severity {
    /// The word in the API and in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// Reads the word back; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Info,
            Self::Low,
            Self::Medium,
            Self::High,
            Self::Critical,
        ]
        .into_iter()
        .find(|severity| severity.as_str() == text)
    }

    /// One step more, up to critical.
    #[must_use]
    pub fn raised(self) -> Self {
        match self {
            Self::Info => Self::Low,
            Self::Low => Self::Medium,
            Self::Medium => Self::High,
            Self::High | Self::Critical => Self::Critical,
        }
    }

    /// One step less, down to info.
    #[must_use]
    pub fn lowered(self) -> Self {
        match self {
            Self::Info | Self::Low => Self::Info,
            Self::Medium => Self::Low,
            Self::High => Self::Medium,
            Self::Critical => Self::High,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is done about something that was seen. The later is the stronger.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    /// Nothing, not even a finding.
    Ignore,
    /// It is reported, and passes.
    #[default]
    Report,
    /// It is taken out, the rest passes.
    Redact,
    /// The message does not pass.
    Block,
}

impl Response {
    /// The word in the configuration and in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Report => "report",
            Self::Redact => "redact",
            Self::Block => "block",
        }
    }
}

/// A kind of personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PersonalData {
    /// An address for mail (RFC 5321, without quotes and literals).
    Email,
    /// A telephone number, written internationally (E.164) or in the North American form.
    Phone,
    /// A bank account (ISO 13616, with its length and check digits).
    Iban,
    /// A payment card (ISO/IEC 7812, with its issuer, length and check digit).
    CreditCard,
    /// A social security number of the United States.
    Ssn,
}

impl PersonalData {
    /// The word in the configuration and in findings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Iban => "iban",
            Self::CreditCard => "credit-card",
            Self::Ssn => "ssn",
        }
    }
}

/// What is done about what is seen in contents: `[inspection]` in the configuration is for all servers,
/// `[servers.NAME.inspection]` for one, `[inspection]` of a template for its tasks. Whatever is not
/// stated is as in the wider one; of server and template, the stronger counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Inspection {
    /// Whether texts are read by the rules at all, and for characters that nobody sees; by default they are.
    pub rules: Option<bool>,
    /// Messages with a finding of a rule of at least this severity do not pass; by default all pass.
    pub block_from: Option<Severity>,
    /// What is done about credentials in what agents are given; by default they are taken out.
    pub secrets: Option<Response>,
    /// What is done about a planted canary token; by default the message does not pass.
    pub canaries: Option<Response>,
    /// What is done about personal data, by kind; by default nothing.
    pub personal: BTreeMap<PersonalData, Response>,
    /// What is done about a message that is too large, or too deeply wrapped, to be looked at as a
    /// whole; by default it is reported.
    pub unscanned: Option<Response>,
}

impl Inspection {
    /// This one, with what it does not state taken from a wider one.
    #[must_use]
    pub fn within(&self, wider: &Self) -> Self {
        let mut personal = wider.personal.clone();
        personal.extend(&self.personal);
        Self {
            rules: self.rules.or(wider.rules),
            block_from: self.block_from.or(wider.block_from),
            secrets: self.secrets.or(wider.secrets),
            canaries: self.canaries.or(wider.canaries),
            personal,
            unscanned: self.unscanned.or(wider.unscanned),
        }
    }
}

/// What becomes of the tools of an MCP server that nobody has approved yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstContact {
    /// What the server lists when it is first seen is approved, unless a detector finds something high
    /// in it; whatever is new or different later waits for a review.
    #[default]
    TrustFirst,
    /// Everything waits for a review.
    Review,
}

impl FirstContact {
    /// The word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TrustFirst => "trust-first",
            Self::Review => "review",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_go_up_and_down_and_stay_in_range() {
        assert_eq!(Severity::Critical.raised(), Severity::Critical);
        assert_eq!(Severity::Info.lowered(), Severity::Info);
        assert_eq!(Severity::Low.raised().lowered(), Severity::Low);
    }

    #[test]
    fn the_narrower_wins_where_it_says_something() {
        let wide = Inspection {
            rules: Some(false),
            secrets: Some(Response::Block),
            personal: BTreeMap::from([(PersonalData::Email, Response::Report)]),
            ..Inspection::default()
        };
        let narrow = Inspection {
            personal: BTreeMap::from([
                (PersonalData::Email, Response::Redact),
                (PersonalData::Ssn, Response::Block),
            ]),
            ..Inspection::default()
        };
        let both = narrow.within(&wide);
        assert_eq!(both.rules, Some(false));
        assert_eq!(both.secrets, Some(Response::Block));
        assert_eq!(both.personal[&PersonalData::Email], Response::Redact);
        assert_eq!(both.personal.len(), 2);
    }
}
