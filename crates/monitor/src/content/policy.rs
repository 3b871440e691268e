//! What follows from what was seen in a text.

use std::collections::BTreeMap;

pub use model::inspection::Response;
use model::inspection::{Inspection, PersonalData};

use crate::finding::Severity;

/// What an operator wants done, with nothing left open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether texts are read by the rules at all, and for characters that nobody sees; by default they are.
    pub rules: bool,
    /// Texts with a finding of a rule of at least this severity do not pass; by default all pass.
    pub block_from: Option<Severity>,
    /// What is done about credentials; by default they are taken out.
    pub secrets: Response,
    /// What is done about a planted canary token; by default the text does not pass.
    pub canaries: Response,
    /// What is done about personal data, by kind; by default nothing.
    pub personal: BTreeMap<PersonalData, Response>,
    /// What is done about a text that is too large to be looked at as a whole; by default it is reported.
    pub unscanned: Response,
}

impl Default for Policy {
    fn default() -> Self {
        Self::of(&Inspection::default())
    }
}

impl Policy {
    /// What was written, with the defaults for what was not.
    #[must_use]
    pub fn of(written: &Inspection) -> Self {
        Self {
            rules: written.rules.unwrap_or(true),
            block_from: written.block_from,
            secrets: written.secrets.unwrap_or(Response::Redact),
            canaries: written.canaries.unwrap_or(Response::Block),
            personal: written.personal.clone(),
            unscanned: written.unscanned.unwrap_or(Response::Report),
        }
    }

    /// This policy, with everything that another states made at least as strong.
    #[must_use]
    pub fn strengthened(&self, other: &Inspection) -> Self {
        let mut personal = self.personal.clone();
        for (kind, response) in &other.personal {
            let known = personal.entry(*kind).or_insert(Response::Ignore);
            *known = (*known).max(*response);
        }
        let block_from = match (self.block_from, other.block_from) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let stronger = |one: Response, other: Option<Response>| other.map_or(one, |o| o.max(one));
        Self {
            rules: self.rules || other.rules == Some(true),
            block_from,
            secrets: stronger(self.secrets, other.secrets),
            canaries: stronger(self.canaries, other.canaries),
            personal,
            unscanned: stronger(self.unscanned, other.unscanned),
        }
    }

    /// The policy for what an agent itself says: what it passes on can be reported or refused, but
    /// nothing can be taken out of it unnoticed, since it would do something else than it says.
    #[must_use]
    pub fn for_what_agents_say(&self) -> Self {
        let unaltered = |response: Response| match response {
            Response::Redact => Response::Report,
            other => other,
        };
        Self {
            rules: self.rules,
            block_from: self.block_from,
            secrets: unaltered(self.secrets),
            canaries: match self.canaries {
                Response::Redact => Response::Block,
                other => other,
            },
            personal: BTreeMap::new(),
            unscanned: unaltered(self.unscanned),
        }
    }

    /// Whether nothing that could be seen in a text would change anything, so that nobody need look at it.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let mut all = self.personal.values().copied();
        !self.rules
            && all.all(|response| response == Response::Ignore)
            && [self.secrets, self.canaries, self.unscanned] == [Response::Ignore; 3]
    }

    /// What is done about a finding of a rule.
    #[must_use]
    pub fn for_rule(&self, severity: Severity) -> Response {
        match self.block_from {
            _ if !self.rules => Response::Ignore,
            Some(from) if severity >= from => Response::Block,
            _ => Response::Report,
        }
    }

    /// What is done about personal data of a kind.
    #[must_use]
    pub fn for_personal(&self, kind: PersonalData) -> Response {
        self.personal
            .get(&kind)
            .copied()
            .unwrap_or(Response::Ignore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strengthening_never_weakens() {
        let strong = Policy::of(&Inspection {
            rules: Some(true),
            block_from: Some(Severity::High),
            secrets: Some(Response::Block),
            personal: BTreeMap::from([(PersonalData::Iban, Response::Redact)]),
            ..Inspection::default()
        });
        let weak = Inspection {
            rules: Some(false),
            block_from: Some(Severity::Critical),
            secrets: Some(Response::Ignore),
            canaries: Some(Response::Report),
            personal: BTreeMap::from([
                (PersonalData::Iban, Response::Ignore),
                (PersonalData::Email, Response::Report),
            ]),
            unscanned: Some(Response::Block),
        };
        let both = strong.strengthened(&weak);
        assert!(both.rules && !Policy::of(&weak).rules);
        assert_eq!(both.block_from, Some(Severity::High));
        assert_eq!(
            (both.secrets, both.canaries, both.unscanned),
            (Response::Block, Response::Block, Response::Block)
        );
        assert_eq!(both.for_personal(PersonalData::Iban), Response::Redact);
        assert_eq!(both.for_personal(PersonalData::Email), Response::Report);
    }

    #[test]
    fn only_a_policy_that_ignores_everything_is_idle() {
        let ignored = Some(Response::Ignore);
        let nothing = Inspection {
            rules: Some(false),
            secrets: ignored,
            canaries: ignored,
            unscanned: ignored,
            personal: BTreeMap::from([(PersonalData::Email, Response::Ignore)]),
            ..Inspection::default()
        };
        let idle = Policy::of(&nothing);
        assert!(idle.is_idle() && idle.for_what_agents_say().is_idle());
        assert_eq!(idle.for_rule(Severity::Critical), Response::Ignore);
        let more = [
            Inspection {
                rules: Some(true),
                ..Inspection::default()
            },
            Inspection {
                secrets: Some(Response::Report),
                ..Inspection::default()
            },
            Inspection {
                canaries: Some(Response::Block),
                ..Inspection::default()
            },
            Inspection {
                unscanned: Some(Response::Report),
                ..Inspection::default()
            },
            Inspection {
                personal: BTreeMap::from([(PersonalData::Iban, Response::Redact)]),
                ..Inspection::default()
            },
        ];
        for one in more {
            assert!(!idle.strengthened(&one).is_idle(), "{one:?}");
            assert!(!Policy::of(&one.within(&nothing)).is_idle(), "{one:?}");
        }
    }

    #[test]
    fn nothing_is_taken_out_of_what_agents_say() {
        let own = Policy::default().for_what_agents_say();
        assert_eq!(own.secrets, Response::Report);
        assert_eq!(own.canaries, Response::Block);
    }
}
