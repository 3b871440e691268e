//! One HTTP exchange with an upstream: the calls that it carries, and what became of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use model::config::Limits;
use model::record::Ended;
use model::{Action, Operation, ServerName};
use serde_json::value::RawValue;

use super::Shared;
use super::message::Id;
use super::recheck::Learnt;
use super::refusal::Refusal;
use super::revision::{Method, Revision};
use super::sessions::Session;
use crate::caller::Caller;
use crate::pipeline::{Denied, Digest, Permit};
use crate::slots::Slot;

/// One request of the agent that was permitted and is not answered yet.
pub(super) struct Call {
    /// Its id.
    pub(super) id: Id,
    /// Its method.
    pub(super) method: Method,
    /// What it touches: a tool, a resource, a prompt.
    pub(super) target: String,
    /// The leave for each of its operations; mostly one.
    pub(super) permits: Vec<Permit>,
    /// For a listing of the tools from their beginning: up to which announcement of the server it is good.
    pub(super) listing_since: Option<u64>,
    /// Whether it asks to be told when the tools change.
    pub(super) hears_of_tools: bool,
}

impl Call {
    /// Notes what a tool answered, where calls are checked by where their arguments come from.
    pub(super) fn note_result(&self, result: &RawValue) {
        let mut noting = self.permits.iter().filter(|permit| permit.notes_result());
        if let Some(permit) = noting.next()
            && let Ok(result) = serde_json::from_str(result.get())
        {
            permit.note_result(&result, false);
        }
    }

    /// Records what became of it.
    fn finish(self, ended: Ended, digest: &Digest) {
        for permit in self.permits {
            permit.finish(ended, digest.clone());
        }
    }

    /// What the agent is told when it was cut off.
    pub(super) fn cut_off(&self) -> Refusal {
        let denied = self.permits.first().map(Permit::cut_off);
        match denied {
            Some(denied) => Refusal::denied(&denied, Some(&self.id)),
            None => Refusal::upstream(Some(&self.id), "the request was cut off"),
        }
    }
}

/// One HTTP exchange with an upstream.
pub(super) struct Exchange {
    pub(super) shared: Arc<Shared>,
    pub(super) caller: Arc<Caller>,
    pub(super) server: ServerName,
    pub(super) limits: Limits,
    /// The revision that messages are read by.
    pub(super) revision: Revision,
    /// The session that it is part of (revisions before 2026-07-28).
    pub(super) session: Option<Arc<Session>>,
    /// Requests that are not answered yet.
    pub(super) calls: Vec<Call>,
    /// The leave for what is no request: a notification, an answer, a stream that the agent opens.
    pub(super) others: Vec<Permit>,
    /// Whether the agent opens a stream without a request (GET).
    pub(super) opens_stream: bool,
    /// Counts as an open stream of the task while it lasts.
    pub(super) slot: Option<Slot>,
    /// Where the gateway learns how the listing goes on that it asked for itself.
    pub(super) learns: Option<Learnt>,
    /// Answered by what is about to be delivered.
    pub(super) answered: Vec<(Call, Ended)>,
    pub(super) digest: Digest,
    /// How often the log was told what the server may not say.
    pub(super) warned: AtomicU32,
}

/// Most warnings about the messages of one exchange: a server could fill the log with them.
const WARNINGS: u32 = 8;

impl Exchange {
    /// Whether messages stand for themselves.
    pub(super) fn is_modern(&self) -> bool {
        self.revision.is_modern()
    }

    /// Whether one more warning about what the server says goes into the log.
    pub(super) fn may_warn(&self) -> bool {
        self.warned.fetch_add(1, Ordering::Relaxed) < WARNINGS
    }

    /// Takes in bytes that are delivered to the agent, and records the calls that they answer.
    pub(super) fn deliver(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        for (call, ended) in self.answered.drain(..) {
            call.finish(ended, &self.digest);
        }
    }

    /// Ends what is not answered: the errors to tell the agent, which are taken as delivered.
    pub(super) fn abandon(&mut self, ended: Ended, tell: impl Fn(&Call) -> Refusal) -> Vec<Bytes> {
        let mut errors = Vec::with_capacity(self.calls.len());
        for call in std::mem::take(&mut self.calls) {
            let error = Bytes::from(tell(&call).to_bytes());
            self.digest.update(&error);
            call.finish(ended, &self.digest);
            errors.push(error);
        }
        self.finish_others(ended);
        errors
    }

    /// Records what became of what is no request.
    pub(super) fn finish_others(&mut self, ended: Ended) {
        for other in self.others.drain(..) {
            other.finish(ended, self.digest.clone());
        }
    }

    /// Steps 4 and 5 for something that comes up while an answer passes.
    ///
    /// # Errors
    /// [`Denied`], recorded.
    pub(super) async fn attempt(
        &self,
        method: &str,
        operation: Operation,
    ) -> Result<Permit, Denied> {
        let action = Action::new(self.server.clone(), method.to_owned(), operation);
        self.shared
            .pipeline
            .attempt_expected(&self.caller, action)
            .await
    }

    /// Whether the task may ever use an item.
    pub(super) fn may_list(&self, item: policy::Listed<'_>) -> bool {
        self.shared
            .pipeline
            .may_list(&self.caller, &self.server, item)
    }
}
