//! What follows from what was seen in a text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::personal;
use crate::finding::Severity;

/// What is done about something in a text. The later is the stronger.
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
    /// The text does not pass.
    Block,
}

/// What an operator wants done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Texts with a finding of a rule of at least this severity do not pass; by default all pass.
    pub block_from: Option<Severity>,
    /// What is done about credentials; by default they are taken out.
    pub secrets: Response,
    /// What is done about a planted canary token; by default the text does not pass.
    pub canaries: Response,
    /// What is done about personal data, by kind; by default nothing.
    pub personal: BTreeMap<personal::Kind, Response>,
    /// What is done about a text that is too large to be looked at as a whole; by default it is reported.
    pub unscanned: Response,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            block_from: None,
            secrets: Response::Redact,
            canaries: Response::Block,
            personal: BTreeMap::new(),
            unscanned: Response::Report,
        }
    }
}

impl Policy {
    /// What is done about a finding of a rule.
    #[must_use]
    pub fn for_rule(&self, severity: Severity) -> Response {
        match self.block_from {
            Some(from) if severity >= from => Response::Block,
            _ => Response::Report,
        }
    }

    /// What is done about personal data of a kind.
    #[must_use]
    pub fn for_personal(&self, kind: personal::Kind) -> Response {
        self.personal
            .get(&kind)
            .copied()
            .unwrap_or(Response::Ignore)
    }
}
