//! Requests of servers to the agent, on the streams of the revisions before 2026-07-28.
//!
//! One that is refused does not reach the agent; the server is told, so that it does not wait.

use std::sync::Arc;

use bytes::Bytes;
use model::Operation;
use model::grant::ServerRequest;
use serde_json::json;
use serde_json::value::RawValue;

use super::agreement::METHOD_NOT_FOUND;
use super::exchange::Exchange;
use super::forward;
use super::inspect::{NoMessage, Seen, read_id};
use super::raw::Members;
use super::sessions::Asked;
use crate::pipeline::Dispatch;

/// What a server is told whose request was refused: `User rejected` of the protocol's sampling.
const REFUSED: i64 = -1;

impl Exchange {
    /// A request of the server.
    pub(super) async fn asked(
        &mut self,
        raw_id: &RawValue,
        method: &str,
        text: &[u8],
        message: &Members<'_>,
    ) -> Result<Seen, NoMessage> {
        let id = read_id(raw_id).ok_or(NoMessage)?;
        let Some(session) = self.session.clone() else {
            self.withhold("a request, where the revision has none");
            return Ok(Seen::Withheld);
        };
        let full = "too many requests of the server wait for an answer";
        if method == "ping" {
            if session.ask(id, Asked::Ping) {
                return Ok(Seen::Pass);
            }
            self.tell_upstream(raw_id, REFUSED, full);
            return Ok(Seen::Withheld);
        }
        let Some(request) = ServerRequest::of_method(method) else {
            self.withhold("a request that no server may send");
            self.tell_upstream(raw_id, METHOD_NOT_FOUND, "no such method");
            return Ok(Seen::Withheld);
        };
        let said = self.said(message);
        if said == Seen::Withheld {
            self.tell_upstream(
                raw_id,
                REFUSED,
                "an inspection does not let the request pass",
            );
            return Ok(Seen::Withheld);
        }
        match self.attempt(method, Operation::Answer { request }).await {
            Ok(permit) => {
                if !session.ask(id, Asked::Request(request)) {
                    self.tell_upstream(raw_id, REFUSED, full);
                    return Ok(Seen::Withheld);
                }
                Ok(if self.pass_on(permit, text) {
                    said
                } else {
                    Seen::Withheld
                })
            }
            Err(_) => {
                self.tell_upstream(raw_id, REFUSED, "the request was refused");
                Ok(Seen::Withheld)
            }
        }
    }

    /// Answers a request of the server in the agent's place. Not waited for: the server may hold
    /// its stream until it has the answer.
    fn tell_upstream(&self, raw_id: &RawValue, code: i64, message: &'static str) {
        let Some(upstream) = self.shared.upstreams.get(&self.server) else {
            return;
        };
        let Some(told) = self.session.as_ref().and_then(|session| session.tell()) else {
            self.withhold("a refusal, since the server asks faster than it can be told");
            return;
        };
        let error = json!({ "code": code, "message": message });
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#,
            raw_id.get()
        );
        let outgoing = forward::legacy(
            &http::HeaderMap::new(),
            Bytes::from(body),
            self.caller.principal(),
            self.session.as_deref(),
        );
        let (caller, server) = (Arc::clone(&self.caller), self.server.clone());
        tokio::spawn(async move {
            let _told = told;
            let Some(leave) = Dispatch::of_refusal(&caller) else {
                return;
            };
            let sent = forward::send(&upstream, outgoing, vec![leave], &caller.signal()).await;
            if let Err(error) = sent {
                tracing::warn!(%server, ?error, "a server was not told of a refusal");
            }
        });
    }
}
