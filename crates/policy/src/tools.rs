//! What was approved of the tools of MCP servers, as far as decisions look at it.

use std::collections::BTreeMap;

use model::inspection::FirstContact;

/// SHA-256 of a tool's definition in canonical form.
pub type DefinitionHash = [u8; 32];

/// The tools of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerTools {
    /// What becomes of tools that nobody has approved yet.
    pub first_contact: FirstContact,
    /// Whether the server's tools have been seen: from then on, what is new waits for a review.
    pub met: bool,
    /// The tools that are known, by name.
    pub tools: BTreeMap<String, ToolStanding>,
}

/// How one tool stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ToolStanding {
    /// The definition that was approved.
    pub approved: Option<DefinitionHash>,
    /// Another definition that the server listed since.
    pub quarantined: Option<Quarantined>,
}

/// A definition that is not to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quarantined {
    /// Its hash.
    pub hash: DefinitionHash,
    /// Whether somebody looked at it and rejected it; else it waits for that.
    pub rejected: bool,
}

/// Why a tool may not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unapproved {
    /// Nobody has approved it yet.
    New,
    /// Its definition is not the one that was approved.
    Changed,
    /// Its definition was rejected.
    Rejected,
}

impl ServerTools {
    /// Whether a tool may be called: it was approved, and the server has not listed it differently since.
    /// A server that is trusted at first contact has not changed anything before that, so until then its
    /// tools may be called without having been listed.
    ///
    /// # Errors
    /// [`Unapproved`] when it may not.
    pub fn may_call(&self, tool: &str) -> Result<(), Unapproved> {
        match self.tools.get(tool) {
            Some(standing) => standing.may_call(),
            None if self.first_contact == FirstContact::TrustFirst && !self.met => Ok(()),
            None => Err(Unapproved::New),
        }
    }

    /// Whether exactly this definition may be shown.
    #[must_use]
    pub fn may_show(&self, tool: &str, hash: &DefinitionHash) -> bool {
        self.tools.get(tool).is_some_and(|standing| {
            standing.approved.as_ref() == Some(hash) && standing.may_call().is_ok()
        })
    }

    /// Whether a definition that the server lists changes nothing of what is known.
    #[must_use]
    pub fn is_settled(&self, tool: &str, hash: &DefinitionHash) -> bool {
        self.tools.get(tool).is_some_and(|standing| {
            match standing.quarantined {
                Some(quarantined) if quarantined.hash == *hash => true,
                // What goes back to what was approved is well again, if the other was rejected.
                Some(quarantined) => {
                    !quarantined.rejected && standing.approved.as_ref() == Some(hash)
                }
                None => standing.approved.as_ref() == Some(hash),
            }
        })
    }
}

impl ToolStanding {
    fn may_call(self) -> Result<(), Unapproved> {
        match (self.approved, self.quarantined) {
            (Some(_), None) => Ok(()),
            (_, Some(quarantined)) if quarantined.rejected => Err(Unapproved::Rejected),
            (Some(_), Some(_)) => Err(Unapproved::Changed),
            (None, _) => Err(Unapproved::New),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: DefinitionHash = [1; 32];
    const B: DefinitionHash = [2; 32];

    fn standing(
        approved: Option<DefinitionHash>,
        other: Option<(DefinitionHash, bool)>,
    ) -> ToolStanding {
        ToolStanding {
            approved,
            quarantined: other.map(|(hash, rejected)| Quarantined { hash, rejected }),
        }
    }

    #[test]
    fn only_what_was_approved_and_has_not_changed_may_be_called() {
        let tools = ServerTools {
            met: true,
            tools: BTreeMap::from([
                ("same".to_owned(), standing(Some(A), None)),
                ("changed".to_owned(), standing(Some(A), Some((B, false)))),
                ("rejected".to_owned(), standing(Some(A), Some((B, true)))),
                ("new".to_owned(), standing(None, Some((A, false)))),
            ]),
            ..ServerTools::default()
        };
        assert_eq!(tools.may_call("same"), Ok(()));
        assert_eq!(tools.may_call("changed"), Err(Unapproved::Changed));
        assert_eq!(tools.may_call("rejected"), Err(Unapproved::Rejected));
        assert_eq!(tools.may_call("new"), Err(Unapproved::New));
        assert_eq!(tools.may_call("never listed"), Err(Unapproved::New));
        assert!(tools.may_show("same", &A) && !tools.may_show("same", &B));
        assert!(!tools.may_show("changed", &A) && !tools.may_show("changed", &B));
        assert!(tools.is_settled("changed", &B) && tools.is_settled("changed", &A));
        assert!(!tools.is_settled("rejected", &A), "it is well again");
        assert!(!tools.is_settled("never listed", &A));
    }

    #[test]
    fn before_the_first_contact_it_depends_on_the_policy() {
        let mut tools = ServerTools::default();
        assert_eq!(tools.may_call("x"), Ok(()));
        tools.first_contact = FirstContact::Review;
        assert_eq!(tools.may_call("x"), Err(Unapproved::New));
    }
}
