//! Documents whose texts are not all alike, and what a server says of itself to everybody.

use std::borrow::Cow;

use model::inspection::{Response, Severity};
use model::{Denial, ServerName};
use monitor::content::Scan;
use monitor::{Asi, Atlas, Finding, Subject};

use super::text::{Sort, Texts};
use super::{About, Inspection, Verdict, What, verdict};

impl<T> Verdict<T> {
    /// What passes in place of the message, if something does.
    ///
    /// # Errors
    /// The denial when it does not pass.
    pub fn taken(self) -> Result<Option<T>, Denial> {
        match self {
            Self::Pass => Ok(None),
            Self::Redacted(other) => Ok(Some(other)),
            Self::Blocked(denial) => Err(denial),
        }
    }
}

impl Inspection {
    /// Looks at a JSON document, which must have been read as JSON before, by the roles of its texts: what
    /// is base64 by the protocol is looked into, or left alone.
    #[must_use]
    pub fn sorted(&self, about: &About<'_>, document: &[u8], sort: Sort<'_>) -> Verdict<Vec<u8>> {
        if !self.looks(about) {
            return Verdict::Pass;
        }
        let texts = Texts::sorted("", &[document], Some(sort));
        let scan = self.scan(about, &texts.joined);
        let verdict = self.judge(about, scan, |scan| {
            texts.replaced(0, document, &scan.redactions)
        });
        verdict.flat()
    }

    /// Says that not all of an answer was looked at.
    ///
    /// # Errors
    /// The denial when what was not looked at must not pass.
    pub(super) fn not_all_looked_at(&self, about: &About<'_>, why: String) -> Result<(), Denial> {
        let rule = "not-all-scanned";
        let response = self.rules().policy(about).unscanned;
        if response == Response::Ignore {
            return Ok(());
        }
        let finding = Finding {
            rule: rule.to_owned(),
            severity: Severity::Low,
            asi: Some(Asi::Asi01),
            atlas: Atlas::parse(Atlas::OBFUSCATION).ok(),
            subject: Subject::default(),
            evidence: None,
            explanation: why,
        };
        let scan = Scan {
            findings: vec![finding],
            response,
            redactions: Vec::new(),
            complete: false,
            blocked_by: Some(rule.to_owned()),
        };
        self.judge(about, scan, |_| ()).taken().map(|_| ())
    }

    /// Looks at what a server says of itself to whoever asks, without a caller: the server's own policy
    /// counts.
    #[must_use]
    pub fn published(
        &self,
        server: &ServerName,
        target: &str,
        document: &[u8],
    ) -> Verdict<Vec<u8>> {
        let what = What::ToolDefinition;
        let texts = Texts::of(&[document]);
        let scan = self.scan_by(what, &texts.joined, |rules| {
            Cow::Borrowed(rules.at_server(server))
        });
        let verdict = verdict(what, server, &scan, |scan| {
            texts.replaced(0, document, &scan.redactions)
        });
        for mut finding in scan.findings {
            finding.subject = Subject {
                server: Some(server.clone()),
                target: Some(target.to_owned()),
                ..Subject::default()
            };
            self.put(what, None, finding, scan.response);
        }
        verdict.flat()
    }
}

impl<T> Verdict<Option<T>> {
    /// Nothing in place of the message is the message itself.
    pub(super) fn flat(self) -> Verdict<T> {
        match self {
            Self::Pass | Self::Redacted(None) => Verdict::Pass,
            Self::Redacted(Some(other)) => Verdict::Redacted(other),
            Self::Blocked(denial) => Verdict::Blocked(denial),
        }
    }
}
