//! Step 6: to the upstream, with nothing of the agent's credentials (R3).
//!
//! Headers are not filtered but chosen: what is not named here does not travel on.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, Response};

use super::agreement::{LAST_EVENT, METHOD, NAME, PARAM_PREFIX, SESSION, VERSION};
use super::revision::{Method, Revision};
use super::sessions::Session;
use crate::Body;
use crate::caller::Principal;
use crate::live::CutSignal;
use crate::pipeline::Dispatch;
use crate::upstream::{Outgoing, Upstream, UpstreamError};

const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");
/// Longest `tracestate` that is passed on, in bytes (Trace Context, §3.3.1.5).
const TRACE_STATE_LIMIT: usize = 512;

/// Why there is no answer of the upstream.
#[derive(Debug)]
pub(super) enum Lost {
    /// The task, agent or server was ended meanwhile.
    Cut,
    /// The upstream could not be reached or did not answer.
    Upstream(UpstreamError),
}

/// Sends one request and waits for the head of the answer. Gives up at once when the signal is
/// cut. Whoever ends the task waits for `leave` to be dropped, and nothing leaves without one.
///
/// # Errors
/// [`Lost`]
pub(super) async fn send(
    upstream: &Upstream,
    outgoing: Outgoing,
    leave: Vec<Dispatch>,
    signal: &CutSignal,
) -> Result<Response<Body>, Lost> {
    if leave.is_empty() {
        return Err(Lost::Cut);
    }
    let sent = tokio::select! {
        biased;
        () = signal.cut() => Err(Lost::Cut),
        sent = upstream.send(outgoing) => sent.map_err(Lost::Upstream),
    };
    drop(leave);
    sent
}

/// A POST of the revisions that stand for themselves. `Mcp-Name` travels on only where it was
/// compared with the body.
pub(super) fn modern(
    headers: &HeaderMap,
    method: Method,
    body: Bytes,
    principal: Principal,
) -> Outgoing {
    let mut chosen = posted();
    let name = method.named_by().map(|_| NAME);
    for name in [VERSION, METHOD].into_iter().chain(name) {
        if let Some(value) = headers.get(&name) {
            chosen.insert(name, value.clone());
        }
    }
    for (name, value) in headers {
        if name.as_str().starts_with(PARAM_PREFIX) {
            chosen.append(name.clone(), value.clone());
        }
    }
    trace(headers, &mut chosen);
    Outgoing {
        method: HttpMethod::POST,
        headers: chosen,
        body,
        principal,
    }
}

/// A POST within a session, or one that begins a session.
pub(super) fn legacy(
    headers: &HeaderMap,
    body: Bytes,
    principal: Principal,
    session: Option<&Session>,
) -> Outgoing {
    let mut chosen = posted();
    in_session(headers, session, &mut chosen);
    trace(headers, &mut chosen);
    Outgoing {
        method: HttpMethod::POST,
        headers: chosen,
        body,
        principal,
    }
}

/// A GET or DELETE within a session.
pub(super) fn bodiless(
    method: HttpMethod,
    headers: &HeaderMap,
    principal: Principal,
    session: &Session,
) -> Outgoing {
    let mut chosen = HeaderMap::new();
    in_session(headers, Some(session), &mut chosen);
    if method == HttpMethod::GET {
        chosen.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        // All agents share the gateway's credential, so only the session tells whose stream it was.
        if session.upstream_id.is_some()
            && let Some(last) = headers.get(LAST_EVENT)
        {
            chosen.insert(LAST_EVENT, last.clone());
        }
    }
    trace(headers, &mut chosen);
    Outgoing {
        method,
        headers: chosen,
        body: Bytes::new(),
        principal,
    }
}

fn posted() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        ACCEPT,
        HeaderValue::from_static("application/json, text/event-stream"),
    );
    headers
}

/// The upstream's session id, and the revision that the handshake settled: what the gateway reads
/// messages by is also what the upstream is told.
fn in_session(headers: &HeaderMap, session: Option<&Session>, chosen: &mut HeaderMap) {
    if let Some(id) = session.and_then(|session| session.upstream_id.as_ref()) {
        chosen.insert(SESSION, id.clone());
    }
    let stated = headers
        .get(VERSION)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| Revision::parse(text.trim()));
    let revision = match session.and_then(Session::revision) {
        // The header came with 2025-06-18.
        Some(settled) if settled >= Revision::V2025_06_18 || stated.is_some() => Some(settled),
        Some(_) => None,
        None => stated.filter(|revision| !revision.is_modern()),
    };
    if let Some(revision) = revision {
        chosen.insert(VERSION, HeaderValue::from_static(revision.as_str()));
    }
}

/// Trace context (W3C), if it is well-formed.
fn trace(headers: &HeaderMap, chosen: &mut HeaderMap) {
    let mut parents = headers.get_all(TRACE_PARENT).iter();
    let parent = match (parents.next(), parents.next()) {
        (Some(parent), None) if is_trace_parent(parent.as_bytes()) => parent,
        _ => return,
    };
    chosen.insert(TRACE_PARENT, parent.clone());
    let states = headers.get_all(TRACE_STATE);
    let length: usize = states.iter().map(HeaderValue::len).sum();
    if length <= TRACE_STATE_LIMIT {
        for state in states {
            chosen.append(TRACE_STATE, state.clone());
        }
    }
}

/// Trace Context, §3.2.2.
fn is_trace_parent(text: &[u8]) -> bool {
    let hex = |part: &[u8], length| {
        part.len() == length && part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |part: &[u8]| part.iter().all(|b| *b == b'0');
    let mut parts = text.split(|b| *b == b'-');
    match (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) {
        (Some(version), Some(trace), Some(parent), Some(flags), None) => {
            hex(version, 2)
                && version != b"ff"
                && hex(trace, 32)
                && !zero(trace)
                && hex(parent, 16)
                && !zero(parent)
                && hex(flags, 2)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use model::{InstanceId, TaskId};

    fn principal() -> Principal {
        Principal {
            instance: InstanceId::new(Timestamp::UNIX_EPOCH, [1; 10]),
            task: TaskId::new(Timestamp::UNIX_EPOCH, [1; 10]),
        }
    }

    #[test]
    fn only_what_is_named_travels_on() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let headers: HeaderMap = [
            ("authorization", "DPoP secret"),
            ("dpop", "secret"),
            ("cookie", "secret"),
            ("host", "gw"),
            ("x-api-key", "secret"),
            ("proxy-authorization", "secret"),
            ("mcp-session-id", "secret"),
            ("last-event-id", "7"),
            ("origin", "http://localhost"),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "read"),
            ("mcp-param-region", "eu"),
            ("traceparent", parent),
            ("tracestate", "a=1"),
            ("baggage", "user=secret"),
            ("user-agent", "secret/1"),
        ]
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect();
        let out = modern(&headers, Method::ListTools, Bytes::new(), principal());
        assert!(!out.headers.contains_key(NAME), "nothing that it repeats");
        let out = modern(&headers, Method::CallTool, Bytes::new(), principal());
        let mut names: Vec<_> = out.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "accept",
                "content-type",
                "mcp-method",
                "mcp-name",
                "mcp-param-region",
                "mcp-protocol-version",
                "traceparent",
                "tracestate"
            ]
        );
        assert!(
            out.headers
                .values()
                .all(|v| !v.to_str().unwrap().contains("secret"))
        );
        let out = legacy(&headers, Bytes::new(), principal(), None);
        assert!(!out.headers.contains_key(SESSION) && !out.headers.contains_key(VERSION));
    }

    /// Without sessions at the upstream an event id means something across all of its clients.
    #[test]
    fn a_place_in_a_stream_is_named_only_within_a_session_of_the_upstream() {
        let sessions = crate::mcp::sessions::Sessions::default();
        let (files, limits) = ("files".parse().unwrap(), model::config::Limits::default());
        let headers = HeaderMap::from_iter([(LAST_EVENT, HeaderValue::from_static("7"))]);
        for upstream_id in [None, Some(HeaderValue::from_static("s"))] {
            let is_session = upstream_id.is_some();
            let session = sessions.begin(principal(), &files, upstream_id, &limits);
            let out = bodiless(HttpMethod::GET, &headers, principal(), &session.unwrap());
            assert_eq!(out.headers.contains_key(LAST_EVENT), is_session);
        }
    }

    #[test]
    fn trace_context_is_well_formed_or_dropped() {
        assert!(is_trace_parent(
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        ));
        for bad in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert!(!is_trace_parent(bad.as_bytes()), "{bad}");
        }
    }
}
