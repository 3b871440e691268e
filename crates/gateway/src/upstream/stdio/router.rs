//! Which line of a child belongs to which request of a client.
//!
//! All messages share one pair of pipes, so ids are made unique on the way in and restored on the
//! way out; everything else stays the bytes that were sent. Pure: no IO, no clock.

use std::collections::{BTreeMap, HashSet, VecDeque};

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::mcp::message::Id;
use crate::mcp::raw::Members;
use crate::upstream::UpstreamError;
use crate::upstream::freshness::TOOLS_CHANGED;

/// The member of `_meta` that names the listen request a message belongs to
/// (2026-07-28 `basic/patterns/subscriptions`).
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// The request for the server's notifications (same page).
const LISTEN: &str = "subscriptions/listen";

/// The error code of a request that its own client cancelled.
const CANCELLED: i64 = 499;

/// How a child is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Era {
    /// One session of one client, begun with `initialize`.
    Legacy,
    /// Requests that stand for themselves; several clients of one task may share the child.
    Modern,
}

/// One message for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// The answer to a request.
    Answer {
        /// The message.
        message: Bytes,
        /// Its error code, if it is an error.
        code: Option<i64>,
    },
    /// A notification or a request of the server.
    Aside(Bytes),
    /// There will be no answer.
    Failed(UpstreamError),
}

/// Where messages for one stream of a client go.
pub(super) trait Sink: Clone {
    /// Hands over a message; does nothing when the client is gone.
    fn put(&self, part: Part);
    /// Whether the client is gone.
    fn is_closed(&self) -> bool;
}

/// Limits of one child's bookkeeping.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Most requests without an answer.
    pub(super) pending: usize,
    /// Most requests of the server without an answer.
    pub(super) asked: usize,
    /// Most messages kept while no stream is open that they could go to.
    pub(super) kept: usize,
    /// Most bytes of those.
    pub(super) kept_bytes: usize,
}

/// Why a message of a client cannot be handed to the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("too many requests are waiting for this server's answer")]
    TooMany,
    #[error("not a JSON-RPC message")]
    NotAMessage,
    #[error("a request with this id is still waiting for its answer")]
    IdInUse,
    #[error("the program has ended")]
    Ended,
}

/// What a line of the child comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Routed<S> {
    /// An answer was handed to who waits for it.
    Answered,
    /// A message was handed to a stream.
    Delivered(S),
    /// It is kept for a stream that may yet be opened.
    Kept,
    /// Nobody waits for it.
    Dropped,
    /// It is no JSON-RPC message.
    NotAMessage,
    /// The child is answered by the bridge itself: a line for it.
    Reply(Bytes),
}

struct Pending<S> {
    /// The client's id, as it wrote it.
    id: Box<RawValue>,
    known: Id,
    /// The client's progress token, as it wrote it.
    token: Option<Box<RawValue>>,
    sink: S,
    /// Of messages that name no request, none may go to its stream.
    quiet: bool,
    /// It asks for the server's notifications, and its stream holds nothing else.
    listens: bool,
}

/// The bookkeeping of one child.
pub(super) struct Router<S> {
    era: Era,
    bounds: Bounds,
    next: u64,
    pending: BTreeMap<u64, Pending<S>>,
    asked: HashSet<Id>,
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    listener: Option<S>,
    /// Whether the child has said that its tools changed, and nobody has asked yet.
    announced: bool,
    ended: bool,
}

impl<S: Sink> Router<S> {
    pub(super) fn new(era: Era, bounds: Bounds) -> Self {
        Self {
            era,
            bounds,
            next: 1,
            pending: BTreeMap::new(),
            asked: HashSet::new(),
            kept: VecDeque::new(),
            kept_bytes: 0,
            listener: None,
            announced: false,
            ended: false,
        }
    }

    /// Takes a client's request: the line for the child, and the number that it has there.
    pub(super) fn request(
        &mut self,
        message: &Members<'_>,
        sink: S,
        quiet: bool,
    ) -> Result<(u64, Bytes), Refused> {
        if self.ended {
            return Err(Refused::Ended);
        }
        if self.pending.len() >= self.bounds.pending {
            return Err(Refused::TooMany);
        }
        let id = message.get("id").ok_or(Refused::NotAMessage)?;
        let known = read_id(id).ok_or(Refused::NotAMessage)?;
        let method = message.text("method").ok_or(Refused::NotAMessage)?;
        // Requests of a client that went away may still be running; their answers reach nobody.
        let in_use = |other: &Pending<S>| other.known == known && !other.sink.is_closed();
        if self.era == Era::Legacy && self.pending.values().any(in_use) {
            return Err(Refused::IdInUse);
        }
        let number = self.next;
        self.next += 1;
        let own = number.to_string();
        let meta = message.get("params").and_then(Members::of).and_then(|p| {
            let meta = Members::of(p.get("_meta")?)?;
            Some(meta.get("progressToken")?.to_owned())
        });
        let line = match (&meta, self.era) {
            // A session has one client, whose tokens are unique, and may outlive the request.
            (Some(_), Era::Modern) => {
                let params = set(
                    message.get("params"),
                    &["_meta", "progressToken"],
                    own.as_bytes(),
                );
                message.with(&[("id", own.as_bytes()), ("params", &params)])
            }
            _ => message.with(&[("id", own.as_bytes())]),
        };
        let listens = self.era == Era::Modern && method == LISTEN;
        let pending = Pending {
            id: id.to_owned(),
            known,
            token: meta,
            sink,
            quiet,
            listens,
        };
        self.pending.insert(number, pending);
        Ok((number, one_line(line)))
    }

    /// Takes a client's notification; `None` when it says nothing to the child. A cancellation ends
    /// the request that it names, unless several clients have one of that name.
    pub(super) fn notification(&mut self, message: &Members<'_>) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if message.text("method").as_deref() != Some("notifications/cancelled") {
            return Some(one_line(message.with(&[])));
        }
        let params = message.get("params");
        let named = Members::of(params?)?.get("requestId").and_then(read_id)?;
        let mut waiting = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.known == named);
        let number = *waiting.next()?.0;
        if waiting.next().is_some() {
            return None;
        }
        let cancelled = self.pending.remove(&number)?;
        // The child need not answer any more, but the client's POST still waits.
        let message_to_client = error(
            &cancelled.id,
            CANCELLED,
            "the client cancelled this request",
        );
        cancelled.sink.put(Part::Answer {
            message: message_to_client,
            code: Some(CANCELLED),
        });
        let params = set(params, &["requestId"], number.to_string().as_bytes());
        Some(one_line(message.with(&[("params", &params)])))
    }

    /// Takes a client's answer to a request of the server; `None` when none waits for it.
    pub(super) fn response(&mut self, message: &Members<'_>) -> Option<Bytes> {
        let id = read_id(message.get("id")?)?;
        self.asked.remove(&id).then(|| one_line(message.with(&[])))
    }

    /// Gives up on a request: the line that tells the child, if it still waits.
    pub(super) fn abandon(&mut self, number: u64) -> Option<Bytes> {
        self.pending.remove(&number)?;
        let line = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number},"reason":"nobody waits for the answer any more"}}}}"#
        );
        Some(one_line(line.into_bytes()))
    }

    /// Lets a request fail whose answer cannot be passed on. False when none has this number.
    pub(super) fn fail(&mut self, number: u64, error: UpstreamError) -> bool {
        let failed = self.pending.remove(&number);
        failed
            .inspect(|waiting| waiting.sink.put(Part::Failed(error)))
            .is_some()
    }

    /// Opens the stream for messages that belong to no request. False when there is one already.
    pub(super) fn listen(&mut self, sink: S) -> bool {
        if self.ended || self.listener.as_ref().is_some_and(|open| !open.is_closed()) {
            return false;
        }
        for message in self.kept.drain(..) {
            sink.put(Part::Aside(message));
        }
        self.kept_bytes = 0;
        self.listener = Some(sink);
        true
    }

    /// Whether any client waits for something.
    pub(super) fn is_busy(&self) -> bool {
        self.pending
            .values()
            .any(|waiting| !waiting.sink.is_closed())
            || self.listener.as_ref().is_some_and(|open| !open.is_closed())
    }

    /// Ends every stream, and lets the requests that remain without an answer fail. Nothing is
    /// taken from clients any more.
    pub(super) fn close(&mut self, because: &UpstreamError) {
        self.ended = true;
        self.listener = None;
        self.kept.clear();
        self.kept_bytes = 0;
        self.asked.clear();
        for waiting in std::mem::take(&mut self.pending).into_values() {
            waiting.sink.put(Part::Failed(because.clone()));
        }
    }

    /// Whether the child has said since the last time that its tools changed, heard or not.
    pub(super) fn has_announced(&mut self) -> bool {
        std::mem::take(&mut self.announced)
    }

    /// Takes a line of the child.
    pub(super) fn route(&mut self, line: &Bytes) -> Routed<S> {
        let Ok(message) = Members::read(line) else {
            return Routed::NotAMessage;
        };
        let id = message.get("id");
        match (message.text("method"), id) {
            (Some(method), Some(id)) => self.asks(&method, id, line),
            (Some(method), None) => self.tells(&method, &message, line),
            (None, Some(id)) => self.answers(id, &message),
            (None, None) => Routed::NotAMessage,
        }
    }

    fn answers(&mut self, id: &RawValue, message: &Members<'_>) -> Routed<S> {
        let Some(waiting) = number(id).and_then(|number| self.pending.remove(&number)) else {
            return Routed::Dropped;
        };
        let own = waiting.id.get().as_bytes();
        let (answer, code) = match (message.get("result"), message.get("error")) {
            (Some(result), None) => {
                let tagged = waiting.listens && at(result, &["_meta", SUBSCRIPTION]).is_some();
                let answer = if tagged {
                    let result = set(Some(result), &["_meta", SUBSCRIPTION], own);
                    message.with(&[("id", own), ("result", &result)])
                } else {
                    message.with(&[("id", own)])
                };
                (answer, None)
            }
            (None, Some(error)) => {
                let code = at(error, &["code"]).and_then(|code| code.get().parse().ok());
                (message.with(&[("id", own)]), Some(code.unwrap_or(0)))
            }
            _ => {
                waiting.sink.put(Part::Failed(UpstreamError::Protocol(
                    "it must have either a result or an error".to_owned(),
                )));
                return Routed::NotAMessage;
            }
        };
        waiting.sink.put(Part::Answer {
            message: answer.into(),
            code,
        });
        Routed::Answered
    }

    fn asks(&mut self, method: &str, id: &RawValue, line: &Bytes) -> Routed<S> {
        let Some(known) = read_id(id) else {
            return Routed::NotAMessage;
        };
        if self.era == Era::Modern {
            // The modern era knows no requests of servers; only liveness is harmless to answer.
            return Routed::Reply(if method == "ping" {
                one_line(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#).into_bytes())
            } else {
                refusal(id, -32601, "servers of this revision send no requests")
            });
        }
        if self.asked.len() >= self.bounds.asked || !self.asked.insert(known.clone()) {
            return Routed::Reply(refusal(
                id,
                503,
                "too many requests are waiting for the client",
            ));
        }
        match self.deliver(line.clone(), self.beside_requests()) {
            Routed::Dropped => {
                self.asked.remove(&known);
                Routed::Reply(refusal(id, 503, "the client does not listen"))
            }
            routed => routed,
        }
    }

    fn tells(&mut self, method: &str, message: &Members<'_>, line: &Bytes) -> Routed<S> {
        self.announced |= method == TOOLS_CHANGED;
        let params = message.get("params");
        let tag = params.and_then(|params| at(params, &["_meta", SUBSCRIPTION]));
        if let (Era::Modern, Some(tag)) = (self.era, tag) {
            let Some(waiting) = number(tag).and_then(|number| self.pending.get(&number)) else {
                return Routed::Dropped;
            };
            let own = waiting.id.get().as_bytes();
            let params = set(params, &["_meta", SUBSCRIPTION], own);
            let told = message.with(&[("params", &params)]);
            return put(&waiting.sink, told.into());
        }
        if method == "notifications/progress"
            && let Some(token) = params.and_then(|params| at(params, &["progressToken"]))
        {
            match self.progress(token, message, line) {
                Some(routed) => return routed,
                // A token may outlive its request where the revision has tasks.
                None if self.era == Era::Legacy => {
                    return self.deliver(line.clone(), self.beside_nothing());
                }
                None => return Routed::Dropped,
            }
        }
        if method == "notifications/cancelled"
            && let Some(id) = params.and_then(|p| at(p, &["requestId"])).and_then(read_id)
        {
            self.asked.remove(&id);
        }
        let relates = matches!(method, "notifications/message" | "notifications/cancelled");
        let to = if relates || self.era == Era::Modern {
            self.beside_requests()
        } else {
            self.beside_nothing()
        };
        self.deliver(line.clone(), to)
    }

    fn progress(&self, token: &RawValue, message: &Members<'_>, line: &Bytes) -> Option<Routed<S>> {
        match self.era {
            Era::Legacy => {
                let named = read_id(token)?;
                let with_token = |waiting: &&Pending<S>| {
                    waiting.token.as_deref().and_then(read_id).as_ref() == Some(&named)
                };
                let waiting = self.pending.values().find(with_token)?;
                (!waiting.quiet).then(|| put(&waiting.sink, line.clone()))
            }
            Era::Modern => {
                let waiting = self.pending.get(&number(token)?).filter(|one| !one.quiet)?;
                let own = waiting.token.as_ref()?.get().as_bytes();
                let params = set(message.get("params"), &["progressToken"], own);
                Some(put(
                    &waiting.sink,
                    message.with(&[("params", &params)]).into(),
                ))
            }
        }
    }

    /// The stream for a message that belongs to some request, nobody knows which: that of the
    /// only request, else the session's own, else that of the request that waits the longest.
    fn beside_requests(&self) -> Option<S> {
        let mut waiting = self
            .pending
            .values()
            .filter(|waiting| !waiting.quiet && !waiting.listens && !waiting.sink.is_closed())
            .map(|waiting| &waiting.sink);
        let oldest = waiting.next();
        let only = waiting.next().is_none();
        match (oldest, self.beside_nothing()) {
            (Some(sink), _) if only => Some(sink.clone()),
            (_, Some(open)) => Some(open),
            (oldest, None) => oldest.cloned(),
        }
    }

    /// The stream for a message that belongs to no request.
    fn beside_nothing(&self) -> Option<S> {
        self.listener.clone().filter(|open| !open.is_closed())
    }

    fn deliver(&mut self, message: Bytes, to: Option<S>) -> Routed<S> {
        if let Some(sink) = to {
            return put(&sink, message);
        }
        let room = self.kept.len() < self.bounds.kept
            && self.kept_bytes + message.len() <= self.bounds.kept_bytes;
        if self.era == Era::Modern || !room {
            return Routed::Dropped;
        }
        self.kept_bytes += message.len();
        // A copy: the line may be a small part of a large buffer.
        self.kept.push_back(Bytes::copy_from_slice(&message));
        Routed::Kept
    }
}

fn put<S: Sink>(sink: &S, message: Bytes) -> Routed<S> {
    if sink.is_closed() {
        return Routed::Dropped;
    }
    sink.put(Part::Aside(message));
    Routed::Delivered(sink.clone())
}

/// A JSON-RPC error. The text must need no escapes.
fn error(id: &RawValue, code: i64, message: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{message}"}}}}"#)
        .into()
}

/// The line that refuses a request of the child.
fn refusal(id: &RawValue, code: i64, message: &str) -> Bytes {
    one_line(error(id, code, message).into())
}

/// A number that the router gave to a request.
fn number(raw: &RawValue) -> Option<u64> {
    raw.get().parse().ok()
}

/// An id or a progress token.
fn read_id(raw: &RawValue) -> Option<Id> {
    Id::of(&serde_json::from_str(raw.get()).ok()?)
}

/// The value at a path of member names.
fn at<'a>(value: &'a RawValue, path: &[&str]) -> Option<&'a RawValue> {
    path.iter()
        .try_fold(value, |value, name| Members::of(value)?.get(name))
}

/// The object with the value at a path replaced. What is no object stays as it is.
fn set(value: Option<&RawValue>, path: &[&str], new: &[u8]) -> Vec<u8> {
    let text = value.map_or("null", RawValue::get);
    let (Some((name, rest)), Some(members)) = (path.split_first(), value.and_then(Members::of))
    else {
        return text.as_bytes().to_vec();
    };
    if rest.is_empty() {
        return members.with(&[(name, new)]);
    }
    let inner = set(members.get(name), rest, new);
    members.with(&[(name, &inner)])
}

/// A message must not hold line breaks. In JSON they can only be white space between tokens.
fn one_line(mut message: Vec<u8>) -> Bytes {
    for byte in &mut message {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    message.push(b'\n');
    message.into()
}

#[cfg(test)]
mod tests;
