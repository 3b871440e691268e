//! Step 7: every message of an upstream, before the agent sees it.

use bytes::Bytes;
use model::Operation;
use model::grant::ServerRequest;
use model::record::Ended;
use serde_json::value::RawValue;

use super::contents::Whose;
use super::exchange::Exchange;
use super::handles::Kind;
use super::message::Id;
use super::raw::{self, Members};
use super::refusal::Refusal;
use super::results::Looked;
use super::revision::{Method, Revision, is_server_notification};
use crate::upstream::freshness::TOOLS_CHANGED;

/// `URLElicitationRequiredError` of 2025-11-25: an error that asks the user to open a page.
const URL_ELICITATION_REQUIRED: f64 = -32_042.0;

/// What becomes of a message.
#[derive(Debug, PartialEq)]
pub(super) enum Seen {
    /// It passes as it is.
    Pass,
    /// Something was taken out of it.
    Changed(Vec<u8>),
    /// The agent does not get it.
    Withheld,
}

/// What an upstream sent is no message of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server sent what is no message of the protocol")]
pub(super) struct NoMessage;

impl Exchange {
    /// Looks at the text of one event or body: a message, or a batch where there are batches.
    ///
    /// # Errors
    /// [`NoMessage`]; nothing that it says can be relied on then.
    pub(super) async fn inspect(&mut self, text: &[u8]) -> Result<Seen, NoMessage> {
        let begin = text.iter().find(|b| !b.is_ascii_whitespace());
        if begin != Some(&b'[') || self.revision != Revision::V2025_03_26 {
            return self.message(text).await;
        }
        let batch: &RawValue = serde_json::from_slice(text).map_err(|_| NoMessage)?;
        let items = raw::items(batch).ok_or(NoMessage)?;
        let mut kept: Vec<Bytes> = Vec::with_capacity(items.len());
        let mut changed = false;
        for item in items {
            let item = item.get().as_bytes();
            match self.message(item).await? {
                Seen::Pass => kept.push(Bytes::copy_from_slice(item)),
                Seen::Changed(new) => {
                    changed = true;
                    kept.push(new.into());
                }
                Seen::Withheld => changed = true,
            }
        }
        Ok(match (changed, kept.is_empty()) {
            (false, _) => Seen::Pass,
            (true, true) => Seen::Withheld,
            (true, false) => Seen::Changed(raw::array(kept.iter().map(|item| &item[..]))),
        })
    }

    async fn message(&mut self, text: &[u8]) -> Result<Seen, NoMessage> {
        let message = Members::read(text).map_err(|_| NoMessage)?;
        let method = message.get("method");
        let (result, error) = (message.get("result"), message.get("error"));
        let id = message.get("id").filter(|id| id.get() != "null");
        match (method, result, error) {
            (Some(method), None, None) => {
                let method = raw::text(method).ok_or(NoMessage)?;
                match id {
                    Some(id) => self.asked(id, &method, text, &message).await,
                    None => self.notified(&method, &message).await,
                }
            }
            (None, Some(_), None) | (None, None, Some(_)) => {
                self.responded(id, &message, result, error).await
            }
            _ => Err(NoMessage),
        }
    }

    /// A response: of a call of this exchange, or of an earlier one on a resumed stream.
    async fn responded(
        &mut self,
        id: Option<&RawValue>,
        message: &Members<'_>,
        result: Option<&RawValue>,
        error: Option<&RawValue>,
    ) -> Result<Seen, NoMessage> {
        let known = match id {
            Some(id) => Some(read_id(id).ok_or(NoMessage)?),
            None => None,
        };
        let position = match &known {
            Some(id) => self.calls.iter().position(|call| call.id == *id),
            // An error without an id can only be about the only request.
            None => (error.is_some() && self.calls.len() == 1).then_some(0),
        };
        let (id, method) = match (position.and_then(|at| self.calls.get(at)), known) {
            (Some(call), _) => (call.id.clone(), call.method),
            (None, Some(id)) => {
                let method = self
                    .session
                    .as_ref()
                    .and_then(|session| session.method_of(&id));
                let Some(method) = method else {
                    self.withhold("a response to what was not asked");
                    return Ok(Seen::Withheld);
                };
                (id, method)
            }
            (None, None) => return Err(NoMessage),
        };
        let call = position.and_then(|at| self.calls.get(at));
        let whose = call.map(Whose::of).unwrap_or_default();
        let (seen, ended) = match (result, error) {
            (Some(result), _) => match self.result(method, &whose, result).await {
                Looked::Keep => (Seen::Pass, Ended::Answered),
                Looked::Changed(new) => (
                    Seen::Changed(message.with(&[("result", &new)])),
                    Ended::Answered,
                ),
                Looked::Refused(mut refusal) => {
                    refusal.id = Some(id.clone());
                    (Seen::Changed(refusal.to_bytes()), Ended::UpstreamError)
                }
            },
            (None, Some(raw)) => {
                let seen = match self.failed(&id, method, raw).await? {
                    Seen::Pass => self.error_contents(&id, &whose, message, raw),
                    other => other,
                };
                (seen, Ended::UpstreamError)
            }
            (None, None) => return Err(NoMessage),
        };
        let call = match position {
            Some(at) => Some(self.calls.swap_remove(at)),
            None => self
                .session
                .as_ref()
                .and_then(|session| session.take_waiting(&id)),
        };
        if let (Some(call), Some(result), Ended::Answered) = (&call, result, ended) {
            call.note_result(result);
        }
        self.answered.extend(call.map(|call| (call, ended)));
        Ok(seen)
    }

    /// An error passes, unless it sends the user to a page and the grant leaves no room for that.
    async fn failed(
        &mut self,
        id: &Id,
        method: Method,
        error: &RawValue,
    ) -> Result<Seen, NoMessage> {
        let error = Members::of(error).ok_or(NoMessage)?;
        if method == Method::Initialize
            && let Some(session) = &self.session
        {
            self.shared.sessions.end(session);
        }
        if !error.get("code").is_some_and(opens_a_page) {
            return Ok(Seen::Pass);
        }
        let request = Operation::Answer {
            request: ServerRequest::Elicitation,
        };
        Ok(match self.attempt("elicitation/create", request).await {
            Ok(permit) => {
                self.pass_on(
                    permit,
                    error.get("data").map_or(&[], |data| data.get().as_bytes()),
                );
                Seen::Pass
            }
            Err(denied) => Seen::Changed(Refusal::denied(&denied, Some(id)).to_bytes()),
        })
    }

    /// A notification: those that the revision has, about what the task may see.
    async fn notified(&mut self, method: &str, message: &Members<'_>) -> Result<Seen, NoMessage> {
        if !is_server_notification(self.revision, method) {
            self.withhold("a notification that the revision does not have");
            return Ok(Seen::Withheld);
        }
        let params = match message.get("params") {
            Some(params) => Some(Members::of(params).ok_or(NoMessage)?),
            None => None,
        };
        match method {
            "notifications/resources/updated" => {
                let uri = params.as_ref().and_then(|params| params.text("uri"));
                let theirs = uri.is_some_and(|uri| self.may_list(policy::Listed::Resource(&uri)));
                Ok(if theirs { Seen::Pass } else { Seen::Withheld })
            }
            "notifications/tasks" | "notifications/tasks/status" => {
                let Some(params) = params else {
                    return Ok(Seen::Withheld);
                };
                let task = params.text("taskId");
                let principal = self.caller.principal();
                let theirs = task.is_some_and(|task| {
                    self.shared
                        .handles
                        .has(principal, &self.server, Kind::Task, &task)
                });
                if !theirs {
                    return Ok(Seen::Withheld);
                }
                Ok(match self.inputs(&params).await {
                    Looked::Keep => Seen::Pass,
                    Looked::Changed(new) => Seen::Changed(message.with(&[("params", &new)])),
                    Looked::Refused(_) => Seen::Withheld,
                })
            }
            TOOLS_CHANGED => {
                self.tools_announced();
                Ok(self.said(message))
            }
            _ => Ok(self.said(message)),
        }
    }

    pub(super) fn withhold(&self, what: &str) {
        if self.may_warn() {
            tracing::warn!(server = %self.server, what, "withheld a message of an MCP server");
        }
    }
}

/// Whether an error's code is [`URL_ELICITATION_REQUIRED`] to any client: to many `-32042.0` is the
/// same number, and to some the text is.
fn opens_a_page(code: &RawValue) -> bool {
    let text = raw::text(code);
    let number = text.as_deref().unwrap_or(code.get()).trim().parse();
    number == Ok(URL_ELICITATION_REQUIRED)
}

/// The id of a message, as the upstream wrote it.
pub(super) fn read_id(raw: &RawValue) -> Option<Id> {
    match raw::text(raw) {
        Some(text) => Some(Id::Text(text.into())),
        None => raw.get().parse().ok().map(Id::Number),
    }
}
