//! What is reported of programs that are not what was pinned.

use std::sync::OnceLock;

use jiff::Timestamp;
use model::ServerName;
use model::inspection::{Response, Severity};
use monitor::{Asi, Atlas, Finding, Subject};

use super::NotPinned;
use crate::inspection::{Observed, Sink, What};

/// The way to where findings go, once it is known.
#[derive(Debug, Default)]
pub(super) struct Findings(OnceLock<Sink>);

impl Findings {
    /// Findings go here from now on. The first time counts: there is one sink in a process.
    pub(super) fn report_to(&self, sink: Sink) {
        let _ = self.0.set(sink);
    }

    /// Reports that a server's program was not started.
    pub(super) fn report(&self, server: &ServerName, because: &NotPinned) {
        let Some(sink) = self.0.get() else { return };
        sink.put(Observed {
            at: Timestamp::now(),
            what: What::Program,
            decision: None,
            response: Response::Block,
            finding: Finding {
                rule: "program-not-pinned".to_owned(),
                severity: Severity::High,
                asi: Some(Asi::Asi04),
                atlas: Atlas::parse(Atlas::SUPPLY_CHAIN).ok(),
                subject: Subject {
                    server: Some(server.clone()),
                    ..Subject::default()
                },
                evidence: None,
                explanation: format!("The server's program was not started: {because}"),
            },
        });
    }
}
