//! The session of the legacy era (2025-03-26 to 2025-11-25 `basic/transports`, Session Management).

use std::sync::Mutex;

use bytes::Bytes;
use gateway::mcp::agreement::{SESSION, VERSION};
use http::{HeaderMap, HeaderValue};
use serde_json::Value;

/// What is known of the session; nothing before the client initialized.
#[derive(Default)]
pub(super) struct Session(Mutex<State>);

#[derive(Default)]
struct State {
    id: Option<HeaderValue>,
    version: Option<HeaderValue>,
    /// The client's `initialize`, to begin another session with if this one is lost.
    begun_with: Option<(Bytes, Value)>,
    /// Counts the sessions.
    number: u64,
}

impl Session {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A session began: the server answered `initialize`, and named the session or did not.
    pub(super) fn begin(&self, line: &Bytes, id: &Value, answer: &HeaderMap) {
        let mut state = self.state();
        state.id = answer.get(SESSION).cloned();
        state.begun_with = Some((line.clone(), id.clone()));
        state.number += 1;
    }

    /// The result of `initialize` names the revision that was agreed on.
    pub(super) fn agreed(&self, result: &Value) {
        let version = result.get("protocolVersion").and_then(Value::as_str);
        if let Some(version) = version.and_then(|text| HeaderValue::from_str(text).ok()) {
            self.state().version = Some(version);
        }
    }

    /// Adds what every message of the session carries.
    pub(super) fn add_headers(&self, headers: &mut HeaderMap) {
        let state = self.state();
        if let Some(id) = &state.id {
            headers.insert(SESSION, id.clone());
        }
        if let Some(version) = &state.version {
            headers.insert(VERSION, version.clone());
        }
    }

    /// Which session it is, counted; none when the server named none.
    pub(super) fn number(&self) -> Option<u64> {
        let state = self.state();
        state.id.as_ref().map(|_| state.number)
    }

    /// The `initialize` that began it, and its id.
    pub(super) fn begun_with(&self) -> Option<(Bytes, Value)> {
        self.state().begun_with.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_session_has_its_headers_once_it_began() {
        let session = Session::default();
        let headers = |session: &Session| {
            let mut headers = HeaderMap::new();
            session.add_headers(&mut headers);
            headers
        };
        assert!(headers(&session).is_empty());
        assert_eq!(session.number(), None);
        let mut answer = HeaderMap::new();
        answer.insert(SESSION, HeaderValue::from_static("s1"));
        session.begin(&Bytes::from_static(b"{}"), &json!(0), &answer);
        session.agreed(&json!({ "protocolVersion": "2025-11-25" }));
        assert_eq!(headers(&session)[SESSION], "s1");
        assert_eq!(headers(&session)[VERSION], "2025-11-25");
        assert_eq!(session.number(), Some(1));
        // A server without sessions names none.
        session.begin(&Bytes::from_static(b"{}"), &json!(0), &HeaderMap::new());
        assert_eq!(session.number(), None);
        assert!(!headers(&session).contains_key(SESSION));
    }
}
