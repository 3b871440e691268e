//! What a line of the client is: just enough of JSON-RPC to carry it on. The bytes themselves pass
//! untouched, so that the gateway judges what the client wrote and not what was read here.

use bytes::Bytes;
use serde_json::{Value, json};

/// The field of `_meta` that names the revision of a stateless request (2026-07-28, `basic/index`).
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// One line of the client.
pub(super) struct Line {
    /// The line as it was written, without its end.
    pub(super) bytes: Bytes,
    /// What it is.
    pub(super) kind: Kind,
    /// The line as JSON.
    pub(super) body: Value,
}

/// The kinds of lines.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Wants an answer.
    Request {
        /// Its id, as it was written.
        id: Value,
        /// Its method.
        method: String,
        /// The revision that it names for itself; none in the legacy era.
        revision: Option<String>,
    },
    /// Wants no answer.
    Notification {
        /// Its method.
        method: String,
        /// The revision that it names for itself; none in the legacy era.
        revision: Option<String>,
    },
    /// Answers a request of the server.
    Answer,
    /// Several messages at once (revision 2025-03-26), with the ids of its requests.
    Batch(Vec<Value>),
}

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// The answer to give instead, when it is not JSON-RPC (JSON-RPC 2.0 §5.1).
    pub(super) fn read(bytes: Bytes) -> Result<Self, Bytes> {
        let body: Value = serde_json::from_slice(&bytes)
            .map_err(|error| refusal(&Value::Null, -32700, &format!("not JSON: {error}")))?;
        let kind = match &body {
            Value::Array(items) if !items.is_empty() => {
                let ids = items.iter().filter_map(|item| match kind(item) {
                    Some(Kind::Request { id, .. }) => Some(id),
                    _ => None,
                });
                Some(Kind::Batch(ids.collect()))
            }
            one => kind(one),
        };
        match kind {
            Some(kind) => Ok(Self { bytes, kind, body }),
            None => Err(refusal(&Value::Null, -32600, "not a JSON-RPC message")),
        }
    }

    /// Whether it begins a session of the legacy era.
    pub(super) fn is_initialize(&self) -> bool {
        matches!(&self.kind, Kind::Request { method, revision: None, .. } if method == "initialize")
    }

    /// The id of the request that a cancellation names.
    pub(super) fn cancels(&self) -> Option<&Value> {
        match &self.kind {
            Kind::Notification { method, .. } if method == "notifications/cancelled" => {
                self.body.get("params")?.get("requestId")
            }
            _ => None,
        }
    }
}

fn kind(message: &Value) -> Option<Kind> {
    let message = message.as_object()?;
    let id = message.get("id");
    let Some(method) = message.get("method") else {
        let answers = message.contains_key("result") || message.contains_key("error");
        return (answers && id.is_some()).then_some(Kind::Answer);
    };
    let method = method.as_str()?.to_owned();
    let revision = message
        .get("params")
        .and_then(|params| params.get("_meta"))
        .and_then(|meta| meta.get(VERSION))
        .and_then(Value::as_str)
        .map(str::to_owned);
    match id {
        Some(id @ (Value::String(_) | Value::Number(_))) => Some(Kind::Request {
            id: id.clone(),
            method,
            revision,
        }),
        Some(_) => None,
        None => Some(Kind::Notification { method, revision }),
    }
}

/// A JSON-RPC error that this program found, as one line.
pub(super) fn refusal(id: &Value, code: i64, message: &str) -> Bytes {
    error(id, &json!({ "code": code, "message": message }))
}

/// A JSON-RPC answer with an error object, as one line.
pub(super) fn error(id: &Value, error: &Value) -> Bytes {
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
        .to_string()
        .into()
}

/// The bytes of a JSON text as one line; none when they are not JSON. Outside of strings a line
/// break is white space, and inside of them JSON does not allow one.
pub(super) fn one_line(text: Bytes) -> Option<Bytes> {
    let text = text.slice_ref(text.trim_ascii());
    serde_json::from_slice::<serde::de::IgnoredAny>(&text).ok()?;
    if !text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Some(text);
    }
    let mut line = text.to_vec();
    for byte in &mut line {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    Some(line.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(text: &'static str) -> Kind {
        Line::read(Bytes::from_static(text.as_bytes()))
            .ok()
            .unwrap()
            .kind
    }

    #[test]
    fn lines_are_told_apart() {
        let modern = r#"{"jsonrpc":"2.0","id":"a","method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
        assert_eq!(
            kind_of(modern),
            Kind::Request {
                id: json!("a"),
                method: "tools/list".into(),
                revision: Some("2026-07-28".into())
            }
        );
        assert_eq!(
            kind_of(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
            Kind::Answer
        );
        assert_eq!(
            kind_of(r#"[{"jsonrpc":"2.0","id":7,"method":"ping"},{"jsonrpc":"2.0","method":"x"}]"#),
            Kind::Batch(vec![json!(7)])
        );
        for bad in [
            "",
            "{",
            "[]",
            "7",
            r#"{"id":null,"method":"ping"}"#,
            r#"{"id":1}"#,
        ] {
            assert!(
                Line::read(Bytes::from_static(bad.as_bytes())).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn answers_become_one_line_and_keep_their_value() {
        let pretty = Bytes::from_static(b"{\r\n  \"a\": \"x\\ny\",\n  \"n\": 1.10\n}\n");
        let line = one_line(pretty.clone()).unwrap();
        assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
        let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        assert_eq!(value(&line), value(&pretty));
        assert_eq!(one_line(Bytes::from_static(b"<html>")), None);
        let plain = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1.0}"#);
        assert_eq!(one_line(plain.clone()), Some(plain));
    }

    #[test]
    fn a_cancellation_names_its_request() {
        let text =
            br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}"#;
        let line = Line::read(Bytes::from_static(text)).ok().unwrap();
        assert_eq!(line.cancels(), Some(&json!(9)));
    }
}
