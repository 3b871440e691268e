//! JSON-RPC 2.0 messages as MCP uses them, read strictly.
//!
//! Whatever two readers could take differently is refused here: members that JSON-RPC does not
//! know, ids that are neither text nor whole numbers, parameters that are no object, and member
//! names that differ from the protocol's own only in case (some upstreams match without case).

use std::fmt;

use model::json::{self, StrictJsonError};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// Most messages in one batch (revision 2025-03-26 only).
pub const BATCH_LIMIT: usize = 64;

/// The id of a request: text or a whole number, never null (MCP, `basic/index`, Requests).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Id {
    /// Text.
    Text(Box<str>),
    /// A whole number.
    Number(i64),
}

impl Id {
    /// Reads an id; `None` when the value is neither text nor a whole number.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.as_str().into())),
            Value::Number(number) => number.as_i64().map(Self::Number),
            _ => None,
        }
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_i64(*number),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.pad(text),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// One message of a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Wants an answer.
    Request(Request),
    /// Wants none.
    Notification(Notification),
    /// Answers a request of the server.
    Response(Answer),
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Its id.
    pub id: Id,
    /// Its method.
    pub method: String,
    /// Its parameters; empty when there are none.
    pub params: Map<String, Value>,
}

/// A notification.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// Its method.
    pub method: String,
    /// Its parameters; empty when there are none.
    pub params: Map<String, Value>,
}

/// A response of the client to a request of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The id of the request that it answers.
    pub id: Id,
    /// Whether it carries an error instead of a result.
    pub is_error: bool,
}

/// The body of a POST.
#[derive(Debug, Clone, PartialEq)]
pub enum Posted {
    /// A single message.
    One(Message),
    /// A batch, not empty (revision 2025-03-26 only).
    Batch(Vec<Message>),
}

/// Why a body is not JSON-RPC.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is not JSON, or not strict enough JSON.
    #[error(transparent)]
    Json(#[from] StrictJsonError),
    /// It is JSON, but no message.
    #[error("not a JSON-RPC 2.0 message: {because}")]
    Shape {
        /// What is wrong with it.
        because: &'static str,
        /// The id to answer with, if one could be read.
        id: Option<Id>,
    },
}

/// Reads the body of a POST.
///
/// # Errors
/// [`Unreadable`] when it is not strict JSON within the limits, or not JSON-RPC 2.0.
pub fn read(body: &[u8], limits: json::Limits) -> Result<Posted, Unreadable> {
    match json::parse(body, limits)? {
        Value::Array(items) => {
            let refuse = |because| Err(Unreadable::Shape { because, id: None });
            match items.len() {
                0 => refuse("an empty batch"),
                1..=BATCH_LIMIT => {
                    let messages = items.into_iter().map(message).collect::<Result<_, _>>()?;
                    Ok(Posted::Batch(messages))
                }
                _ => refuse("a batch of more than 64 messages"),
            }
        }
        value => message(value).map(Posted::One),
    }
}

fn message(value: Value) -> Result<Message, Unreadable> {
    let shape = |because, id: Option<Id>| Unreadable::Shape { because, id };
    let Value::Object(mut members) = value else {
        return Err(shape("not an object", None));
    };
    let id = members.remove("id");
    let known = id.as_ref().and_then(Id::of);
    let refuse = |because| Err(shape(because, known.clone()));
    if id.is_some() && known.is_none() {
        return refuse("an id is text or a whole number");
    }
    if members.remove("jsonrpc").as_ref().and_then(Value::as_str) != Some("2.0") {
        return refuse("`jsonrpc` is not \"2.0\"");
    }
    let method = members.remove("method");
    let params = members.remove("params");
    let result = members.remove("result");
    let error = members.remove("error");
    if !members.is_empty() {
        return refuse("a member that JSON-RPC does not know");
    }
    match (method, result, error) {
        (Some(Value::String(method)), None, None) => {
            let params = match params {
                None => Map::new(),
                Some(Value::Object(params)) => params,
                Some(_) => return refuse("`params` is not an object"),
            };
            if params
                .keys()
                .any(|name| differs_only_in_case(name, &DECIDING))
            {
                return refuse("a parameter whose name differs from the protocol's only in case");
            }
            Ok(match known {
                Some(id) => Message::Request(Request { id, method, params }),
                None => Message::Notification(Notification { method, params }),
            })
        }
        (None, Some(_), None) | (None, None, Some(_)) if params.is_some() => {
            refuse("a response with `params`")
        }
        (None, Some(_), None) => match known {
            Some(id) => Ok(Message::Response(Answer {
                id,
                is_error: false,
            })),
            None => refuse("a response without an id"),
        },
        (None, None, Some(Value::Object(_))) => match known {
            Some(id) => Ok(Message::Response(Answer { id, is_error: true })),
            None => refuse("a response without an id"),
        },
        (Some(_), None, None) => refuse("`method` is not text"),
        (None, None, Some(_)) => refuse("`error` is not an object"),
        _ => refuse("exactly one of `method`, `result` and `error` must be there"),
    }
}

/// The names of parameters that decisions rest on.
const DECIDING: [&str; 10] = [
    "name",
    "arguments",
    "uri",
    "_meta",
    "ref",
    "taskId",
    "notifications",
    "requestState",
    "inputResponses",
    "cursor",
];

/// Whether a name is one of these to a reader that matches without case, but not to others. Such
/// readers go by Unicode's simple folding, where `ſ` is an `s` and the Kelvin sign a `k`.
pub fn differs_only_in_case(name: &str, from: &[&str]) -> bool {
    if from.contains(&name) {
        return false;
    }
    if name.is_ascii() {
        return from.iter().any(|known| known.eq_ignore_ascii_case(name));
    }
    let folded = name.to_uppercase().to_lowercase();
    from.iter().any(|known| known.eq_ignore_ascii_case(&folded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: json::Limits = json::Limits {
        bytes: 1 << 16,
        depth: 16,
    };

    fn one(text: &str) -> Result<Message, Unreadable> {
        match read(text.as_bytes(), LIMITS)? {
            Posted::One(message) => Ok(message),
            Posted::Batch(_) => panic!("a batch"),
        }
    }

    #[test]
    fn the_three_kinds_are_told_apart() {
        let request = one(r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#).unwrap();
        assert!(matches!(request, Message::Request(r) if r.id == Id::Text("a".into())));
        let note = one(r#"{"jsonrpc":"2.0","method":"notifications/initialized","params":{}}"#);
        assert!(matches!(note.unwrap(), Message::Notification(_)));
        let answer = one(r#"{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"no"}}"#).unwrap();
        assert_eq!(
            answer,
            Message::Response(Answer {
                id: Id::Number(7),
                is_error: true
            })
        );
    }

    #[test]
    fn what_readers_could_take_differently_is_refused() {
        for bad in [
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1.0,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
            r#"{"id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskid":"b"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"ta\u017f\u212aId":"b"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
            r#"{"jsonrpc":"2.0","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#""ping""#,
            "[]",
            "",
        ] {
            assert!(read(bad.as_bytes(), LIMITS).is_err(), "{bad}");
        }
        let long = format!("[{}]", vec!["1"; BATCH_LIMIT + 1].join(","));
        assert!(read(long.as_bytes(), LIMITS).is_err());
    }

    #[test]
    fn a_refused_message_still_gives_its_id() {
        let refused = one(r#"{"jsonrpc":"2.0","id":9,"method":7}"#).unwrap_err();
        assert!(matches!(
            refused,
            Unreadable::Shape {
                id: Some(Id::Number(9)),
                ..
            }
        ));
    }

    proptest! {
        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&body, LIMITS);
        }

        #[test]
        fn whole_number_ids_survive(id in any::<i64>()) {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
            let Message::Request(request) = one(&text).unwrap() else { panic!("no request") };
            prop_assert_eq!(serde_json::to_string(&request.id).unwrap(), id.to_string());
        }
    }
}
