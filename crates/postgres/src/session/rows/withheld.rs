//! A result that does not pass: its agent is told why, in its place, and the session goes on as after any
//! error. What the database still says of it, and of what was sent behind it, is not passed on.

use bytes::{BufMut as _, Bytes};
use gateway::pipeline::Denied;
use model::Denial;

use super::super::expected::{Expected, denied};
use super::super::relay::Relay;
use crate::wire::backend::put;
use crate::wire::{self, HEADER};

/// What of it is told besides.
const CARRIED_OUT: &str = "The statement was carried out, and what was sent behind it in the same batch may have \
                           been; the transaction, if one is open, can only be rolled back.";

impl Relay<'_> {
    /// Ends the result that is arriving with an error.
    pub(super) fn withhold(&mut self, denial: Denial) {
        let Some(running) = self.running() else {
            return;
        };
        running.permit.note("withheld", denial.rule.as_str());
        let error = denied(&Denied {
            decision: running.permit.decision(),
            denial,
            requested: None,
            retry_after: None,
        });
        let detail = error.detail.clone().unwrap_or_default();
        let told = error.detail(format!("{detail} {CARRIED_OUT}")).to_bytes();
        running.digest.update(&told);
        self.to_client.put_slice(&told);
        self.withholding = true;
        let is_text = matches!(self.expected.front(), Some(Expected::Query(_)));
        let is_ended = |one: &Expected| matches!(one, Expected::Sync(_));
        // As after an error of the database, everything up to the end of the batch is ignored; what was
        // done in it is undone.
        if !is_text && !self.expected.iter().any(is_ended) {
            self.fail_upstream(Bytes::new());
            self.skipping = true;
        }
    }

    /// What follows when the database is ready again after a result was withheld. False when the agent is
    /// not told yet: a transaction that is open must first be one that failed.
    pub(in crate::session) fn passes_ready(&mut self, status: Option<u8>) -> bool {
        if !self.withholding {
            return true;
        }
        if status == Some(b'T') && self.expected.is_empty() {
            self.fail_upstream(Bytes::new());
            self.expected.push_back(Expected::Sync(Vec::new()));
            put(&mut self.to_upstream, b'S', |_| {});
            return false;
        }
        self.withholding = false;
        true
    }

    /// Whether the client's next message must wait: it changes something, or ends the transaction, behind a
    /// result of the same batch that may yet be withheld.
    pub(in crate::session) fn follows_unseen(&self, buffer: &[u8]) -> bool {
        if buffer.first() != Some(&b'E') || self.expected.is_empty() {
            return false;
        }
        let batch = self.expected.iter().rev();
        let mut batch =
            batch.take_while(|one| !matches!(one, Expected::Sync(_) | Expected::Query(_)));
        let may_be_withheld = batch.any(|one| match one {
            Expected::Execute(running) => running.rows.may_be_withheld(),
            _ => false,
        });
        if !may_be_withheld {
            return false;
        }
        let Ok(Some((_, length))) = wire::peek(buffer) else {
            return false;
        };
        let body = buffer
            .get(HEADER..length.min(buffer.len()))
            .unwrap_or_default();
        let name = body.split(|byte| *byte == 0).next().unwrap_or_default();
        let portal = std::str::from_utf8(name)
            .ok()
            .and_then(|name| self.names.portal(name));
        let analysed = portal.and_then(|portal| portal.prepared.analysed.as_ref());
        analysed.is_some_and(|analysed| !super::only_reads(analysed))
    }
}
