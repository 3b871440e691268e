//! What was seen in a text, and what follows from it.

use std::borrow::Cow;

use super::policy::{Policy, Response};
use crate::finding::{Asi, Atlas, Finding, Severity, Subject};

/// The name of the finding that not all of a message was looked at.
pub const NOT_ALL: &str = "not-all-scanned";
/// Most findings of one text.
const FINDINGS: usize = 64;

/// What was seen in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// What was seen, the worst first; at most [`FINDINGS`].
    pub findings: Vec<Finding>,
    /// What is to be done: the strongest response to anything seen.
    pub response: Response,
    /// The bytes to take out, in order and without overlap, with what stands there afterwards.
    pub redactions: Vec<(usize, usize, String)>,
    /// Whether all of it was looked at.
    pub complete: bool,
    /// The first rule that does not let it pass, when the response is to block it.
    pub blocked_by: Option<String>,
}

impl Scan {
    /// Nothing was seen.
    pub(super) fn clear() -> Self {
        Self {
            findings: Vec::new(),
            response: Response::Ignore,
            redactions: Vec::new(),
            complete: true,
            blocked_by: None,
        }
    }

    /// Takes in what was seen in another text of the same message, but not its redactions: they are of that
    /// text.
    pub fn absorb(&mut self, other: Self) {
        for finding in other.findings {
            self.note(finding);
        }
        self.response = self.response.max(other.response);
        self.complete &= other.complete;
        self.blocked_by = self.blocked_by.take().or(other.blocked_by);
    }

    /// Takes in what was seen in another part of the same text, which begins at a byte of it.
    pub fn absorb_part(&mut self, mut other: Self, begin: usize) {
        let redactions = other.redactions.drain(..);
        let shifted = redactions.map(|(start, end, instead)| (start + begin, end + begin, instead));
        self.redactions.extend(shifted);
        self.absorb(other);
        self.settle();
    }

    /// Notes that not all was looked at, and what follows from it by a policy.
    pub fn not_all(&mut self, policy: &Policy, explanation: String) {
        self.complete = false;
        let finding = Finding {
            rule: NOT_ALL.to_owned(),
            severity: Severity::Low,
            asi: Some(Asi::Asi01),
            atlas: Atlas::known(Atlas::OBFUSCATION),
            subject: Subject::default(),
            evidence: None,
            explanation,
        };
        self.add(finding, policy.unscanned);
    }

    /// Nothing can be taken out of the message: if something should be, it does not pass.
    pub fn whole_or_nothing(&mut self) {
        if !self.redactions.is_empty() {
            self.withhold();
        }
    }

    /// The message does not pass, since something should be taken out of it and cannot be.
    pub fn withhold(&mut self) {
        self.redactions.clear();
        self.response = Response::Block;
        let withheld = |finding: &&Finding| {
            finding.rule == "canary"
                || finding.rule.starts_with("secret-")
                || finding.rule.starts_with("personal-")
        };
        let rule = self
            .findings
            .iter()
            .find(withheld)
            .map(|finding| finding.rule.clone());
        self.blocked_by = self.blocked_by.take().or(rule);
    }

    /// Adds a finding, once for each rule; the worse one stays. The response always counts.
    pub(super) fn add(&mut self, finding: Finding, response: Response) {
        if response == Response::Ignore {
            return;
        }
        if response == Response::Block && self.blocked_by.is_none() {
            self.blocked_by = Some(finding.rule.clone());
        }
        self.response = self.response.max(response);
        self.note(finding);
    }

    fn note(&mut self, finding: Finding) {
        let findings = &mut self.findings;
        match findings.iter().position(|known| known.rule == finding.rule) {
            Some(at) if findings[at].severity < finding.severity => findings[at] = finding,
            Some(_) => {}
            None if findings.len() < FINDINGS => findings.push(finding),
            None => self.complete = false,
        }
    }

    /// Puts findings and redactions into order.
    pub(super) fn settle(&mut self) {
        self.findings.sort_by(|a, b| {
            b.severity
                .cmp(&a.severity)
                .then_with(|| a.rule.cmp(&b.rule))
        });
        let redactions = &mut self.redactions;
        redactions.sort();
        redactions.dedup();
        // Overlapping ones become one, so that nothing between them is left.
        let mut merged: Vec<(usize, usize, String)> = Vec::with_capacity(redactions.len());
        for (start, end, instead) in redactions.drain(..) {
            match merged.last_mut() {
                Some(last) if start < last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end, instead)),
            }
        }
        *redactions = merged;
    }

    /// The text without what is to be taken out.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.redactions.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for (start, end, instead) in &self.redactions {
            out.push_str(text.get(at..*start).unwrap_or_default());
            out.push_str(instead);
            at = *end;
        }
        out.push_str(text.get(at..).unwrap_or_default());
        Cow::Owned(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::inspection::Inspection;

    fn with(rule: &str, response: Response, redactions: &[(usize, usize)]) -> Scan {
        let mut scan = Scan::clear();
        let finding = Finding {
            rule: rule.to_owned(),
            severity: Severity::High,
            asi: None,
            atlas: None,
            subject: Subject::default(),
            evidence: None,
            explanation: String::new(),
        };
        scan.add(finding, response);
        let redactions = redactions.iter();
        scan.redactions = redactions
            .map(|(from, to)| (*from, *to, "[x]".to_owned()))
            .collect();
        scan
    }

    #[test]
    fn parts_of_one_text_become_one() {
        let mut whole = with("secret-a", Response::Redact, &[(2, 8)]);
        whole.absorb_part(with("secret-a", Response::Redact, &[(0, 4)]), 6);
        whole.absorb(with("rule", Response::Report, &[(0, 1)]));
        assert_eq!(whole.redact("0123456789ab"), "01[x]ab");
        let rules: Vec<&str> = whole.findings.iter().map(|one| one.rule.as_str()).collect();
        assert_eq!(
            (rules, whole.response),
            (vec!["secret-a", "rule"], Response::Redact)
        );
    }

    #[test]
    fn what_cannot_be_altered_passes_as_it_is_or_not_at_all() {
        let mut reported = with("rule", Response::Report, &[]);
        reported.whole_or_nothing();
        assert_eq!(
            (reported.response, &reported.blocked_by),
            (Response::Report, &None)
        );
        let mut redacted = with("secret-a", Response::Redact, &[(0, 1)]);
        redacted.whole_or_nothing();
        assert_eq!(redacted.response, Response::Block);
        assert_eq!(redacted.blocked_by.as_deref(), Some("secret-a"));
        assert!(redacted.redactions.is_empty());
    }

    #[test]
    fn not_having_looked_at_all_of_it_is_what_the_policy_says() {
        for (unscanned, expected) in [
            (None, Response::Report),
            (Some(Response::Ignore), Response::Ignore),
            (Some(Response::Block), Response::Block),
        ] {
            let written = Inspection {
                unscanned,
                ..Inspection::default()
            };
            let mut scan = Scan::clear();
            scan.not_all(&Policy::of(&written), "long".to_owned());
            assert_eq!((scan.response, scan.complete), (expected, false));
            assert_eq!(scan.blocked_by.is_some(), expected == Response::Block);
        }
    }
}
