//! Requests of the two bindings, JSON-RPC and HTTP+JSON (1.0, §9 and §11), read strictly. Pure.

use gateway::mcp::message::Id;
use http::Method as HttpMethod;
use model::json::{self, StrictJsonError};
use serde_json::{Map, Value};

use crate::method::{Dialect, Method};
use crate::refusal::{Fault, Refusal};

/// How a request came, and its answer goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Binding {
    /// JSON-RPC, with the request's id.
    JsonRpc(Id),
    /// HTTP+JSON.
    Rest,
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// What is asked.
    pub method: Method,
    /// In which dialect.
    pub dialect: Dialect,
    /// How it came.
    pub binding: Binding,
    /// Its parameters, as in JSON-RPC.
    pub params: Map<String, Value>,
}

/// A request that cannot be read, with the id to answer with.
#[derive(Debug, Clone, PartialEq)]
pub struct Unreadable {
    /// The id, as far as it could be read.
    pub id: Option<Id>,
    /// In which dialect to answer.
    pub dialect: Dialect,
    /// What is wrong.
    pub refusal: Refusal,
}

fn unreadable(fault: Fault, message: impl Into<String>) -> Unreadable {
    Unreadable {
        id: None,
        dialect: Dialect::V1,
        refusal: Refusal::new(fault, message),
    }
}

/// Reads a JSON object strictly.
fn object(body: &[u8], limits: json::Limits) -> Result<Map<String, Value>, Unreadable> {
    match json::parse(body, limits) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(Value::Array(_)) => Err(unreadable(
            Fault::InvalidRequest,
            "the protocol has no batches: send one request",
        )),
        Ok(_) => Err(unreadable(Fault::InvalidRequest, "the body is no object")),
        Err(error @ StrictJsonError::TooLong { .. }) => {
            Err(unreadable(Fault::InvalidRequest, error.to_string()))
        }
        Err(error) => Err(unreadable(Fault::Parse, error.to_string())),
    }
}

/// Reads a JSON-RPC request.
///
/// # Errors
/// [`Unreadable`]
pub fn json_rpc(body: &[u8], limits: json::Limits) -> Result<Call, Unreadable> {
    let mut members = object(body, limits)?;
    let id = members.remove("id");
    let known = id.as_ref().and_then(Id::of);
    let mut dialect = Dialect::V1;
    let refuse = |fault, dialect, message: &str| Unreadable {
        id: known.clone(),
        dialect,
        refusal: Refusal::new(fault, message),
    };
    let invalid = |message| refuse(Fault::InvalidRequest, dialect, message);
    let Some(id) = known.clone() else {
        return Err(invalid(
            "`id` is missing, or neither text nor a whole number",
        ));
    };
    if members.remove("jsonrpc") != Some(Value::from("2.0")) {
        return Err(invalid("`jsonrpc` is not \"2.0\""));
    }
    let Some(Value::String(name)) = members.remove("method") else {
        return Err(invalid("`method` is missing, or no text"));
    };
    let params = match members.remove("params") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(params)) => params,
        Some(_) => return Err(invalid("`params` is not an object")),
    };
    if !members.is_empty() {
        return Err(invalid("a member that JSON-RPC does not know"));
    }
    let Some((method, spoken)) = Method::parse(&name) else {
        return Err(refuse(
            Fault::MethodNotFound,
            dialect,
            "the protocol has no such method",
        ));
    };
    dialect = spoken;
    Ok(Call {
        method,
        dialect,
        binding: Binding::JsonRpc(id),
        params,
    })
}

/// What an HTTP+JSON request asks (1.0, §11.3), with the ids of its path as parameters; `None` when
/// there is nothing at the path.
#[must_use]
pub fn rest_target(http: &HttpMethod, path: &str) -> Option<(Method, Map<String, Value>)> {
    let (get, post) = (*http == HttpMethod::GET, *http == HttpMethod::POST);
    let none = Map::new();
    let found = match path {
        "/message:send" if post => return Some((Method::Send, none)),
        "/message:stream" if post => return Some((Method::Stream, none)),
        "/tasks" if get => return Some((Method::ListTasks, none)),
        "/extendedAgentCard" if get => return Some((Method::Card, none)),
        _ => path.strip_prefix("/tasks/")?,
    };
    let with = |pairs: &[(&str, &str)]| -> Option<Map<String, Value>> {
        let pair =
            |(name, id): &(&str, &str)| plain(id).then(|| ((*name).to_owned(), (*id).into()));
        pairs.iter().map(pair).collect()
    };
    if let Some((task, rest)) = found.split_once('/') {
        let rest = rest.strip_prefix("pushNotificationConfigs")?;
        return match rest.strip_prefix('/') {
            None if rest.is_empty() && post => Some((Method::SetPush, with(&[("taskId", task)])?)),
            None if rest.is_empty() && get => Some((Method::ListPush, with(&[("taskId", task)])?)),
            Some(id) if get => Some((Method::GetPush, with(&[("taskId", task), ("id", id)])?)),
            Some(id) if *http == HttpMethod::DELETE => {
                Some((Method::DeletePush, with(&[("taskId", task), ("id", id)])?))
            }
            _ => None,
        };
    }
    match found.split_once(':') {
        None if get => Some((Method::GetTask, with(&[("id", found)])?)),
        Some((task, "cancel")) if post => Some((Method::Cancel, with(&[("id", task)])?)),
        Some((task, "subscribe")) if get || post => {
            Some((Method::Subscribe, with(&[("id", task)])?))
        }
        _ => None,
    }
}

/// Whether an id can stand in a path as it is (RFC 3986 §2.3).
#[must_use]
pub fn plain(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= crate::message::ID_BYTES
        && !matches!(id, "." | "..")
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
}

/// Reads an HTTP+JSON request, whose path was read already.
///
/// # Errors
/// [`Unreadable`]
pub fn rest(
    method: Method,
    mut params: Map<String, Value>,
    query: Option<&str>,
    body: &[u8],
    limits: json::Limits,
) -> Result<Call, Unreadable> {
    let wrong = |message: &str| unreadable(Fault::InvalidParams, message);
    if !body.is_empty() {
        let reads = [
            Method::GetTask,
            Method::ListTasks,
            Method::Card,
            Method::GetPush,
            Method::ListPush,
        ];
        if reads.contains(&method) {
            return Err(wrong("a GET has no body"));
        }
        for (name, value) in object(body, limits)? {
            // What the path says holds, and stands nowhere else.
            let same = params.get(&name).is_none_or(|said| *said == value);
            if !same {
                return Err(wrong("the path and the body name different ids"));
            }
            params.insert(name, value);
        }
    }
    for (name, value) in pairs(query.unwrap_or_default()).ok_or_else(|| wrong(QUERY))? {
        let value = match name.as_str() {
            "historyLength" | "pageSize" => value
                .parse::<u32>()
                .map(Value::from)
                .map_err(|_| wrong("a number in the query is none"))?,
            "includeArtifacts" => match value.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => return Err(wrong("`includeArtifacts` is neither true nor false")),
            },
            "contextId" | "status" | "pageToken" | "statusTimestampAfter" | "tenant" => {
                value.into()
            }
            _ => {
                return Err(wrong(
                    "the query has a parameter that the protocol does not know",
                ));
            }
        };
        if params.insert(name, value).is_some() {
            return Err(wrong("the request has a parameter twice"));
        }
    }
    Ok(Call {
        method,
        dialect: Dialect::V1,
        binding: Binding::Rest,
        params,
    })
}

const QUERY: &str = "the query is longer than 4096 bytes, or not in the form name=value";

/// The pairs of a query. Values hold nothing that would need an escape but `:` and a time's `+`.
fn pairs(query: &str) -> Option<Vec<(String, String)>> {
    if query.len() > 4_096 {
        return None;
    }
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((name.to_owned(), unescaped(value)?))
        })
        .collect()
}

/// Resolves `%XX` (RFC 3986 §2.1); `None` for what is no text then.
fn unescaped(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((byte, more)) = rest.split_first() {
        rest = more;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

/// The path and query of an HTTP+JSON request for the upstream, from checked parameters, and what is
/// left for its body.
#[must_use]
pub fn rest_path(method: Method, params: &Map<String, Value>) -> Option<(HttpMethod, String)> {
    let id = |name: &str| {
        let id = params.get(name).and_then(Value::as_str)?;
        plain(id).then(|| id.to_owned())
    };
    Some(match method {
        Method::Send => (HttpMethod::POST, "/message:send".to_owned()),
        Method::Stream => (HttpMethod::POST, "/message:stream".to_owned()),
        Method::GetTask => {
            let query = query(params, &["historyLength"]);
            (HttpMethod::GET, format!("/tasks/{}{query}", id("id")?))
        }
        Method::ListTasks => {
            let names = [
                "contextId",
                "status",
                "pageSize",
                "pageToken",
                "historyLength",
                "statusTimestampAfter",
                "includeArtifacts",
            ];
            (HttpMethod::GET, format!("/tasks{}", query(params, &names)))
        }
        Method::Cancel => (HttpMethod::POST, format!("/tasks/{}:cancel", id("id")?)),
        Method::Subscribe => (HttpMethod::GET, format!("/tasks/{}:subscribe", id("id")?)),
        Method::SetPush => {
            let task = id("taskId")?;
            let path = format!("/tasks/{task}/pushNotificationConfigs");
            (HttpMethod::POST, path)
        }
        Method::DeletePush => {
            let (task, id) = (id("taskId")?, id("id")?);
            let path = format!("/tasks/{task}/pushNotificationConfigs/{id}");
            (HttpMethod::DELETE, path)
        }
        _ => return None,
    })
}

fn query(params: &Map<String, Value>, names: &[&str]) -> String {
    let mut text = String::new();
    for name in names {
        let value = match params.get(*name) {
            Some(Value::String(value)) => escaped(value),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            _ => continue,
        };
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(&format!("{name}={value}"));
    }
    text
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const LIMITS: json::Limits = json::Limits {
        bytes: 1 << 16,
        depth: 32,
    };

    fn fault(body: &[u8]) -> Fault {
        json_rpc(body, LIMITS).unwrap_err().refusal.fault
    }

    #[test]
    fn requests_of_both_dialects_are_read() {
        let body = br#"{"jsonrpc":"2.0","id":"a","method":"tasks/get","params":{"id":"t"}}"#;
        let call = json_rpc(body, LIMITS).unwrap();
        assert_eq!((call.method, call.dialect), (Method::GetTask, Dialect::V03));
        let body = br#"{"jsonrpc":"2.0","id":1,"method":"GetTask"}"#;
        assert_eq!(json_rpc(body, LIMITS).unwrap().dialect, Dialect::V1);
    }

    #[test]
    fn what_is_no_single_request_is_refused() {
        assert_eq!(fault(b"{"), Fault::Parse);
        assert_eq!(
            fault(br#"{"jsonrpc":"2.0","id":1,"id":2,"method":"GetTask"}"#),
            Fault::Parse
        );
        for body in [
            &br#"[{"jsonrpc":"2.0","id":1,"method":"GetTask"}]"#[..],
            br#"{"jsonrpc":"2.0","method":"GetTask"}"#,
            br#"{"jsonrpc":"2.0","id":null,"method":"GetTask"}"#,
            br#"{"jsonrpc":"2.0","id":1.5,"method":"GetTask"}"#,
            br#"{"jsonrpc":"1.0","id":1,"method":"GetTask"}"#,
            br#"{"jsonrpc":"2.0","id":1,"method":"GetTask","params":[]}"#,
            br#"{"jsonrpc":"2.0","id":1,"method":"GetTask","result":1}"#,
        ] {
            assert_eq!(fault(body), Fault::InvalidRequest);
        }
        let unknown = br#"{"jsonrpc":"2.0","id":1,"method":"tasks/steal"}"#;
        assert_eq!(fault(unknown), Fault::MethodNotFound);
    }

    #[test]
    fn paths_lead_to_methods_and_back() {
        for (http, path) in [
            (HttpMethod::GET, "/tasks/t-1"),
            (HttpMethod::POST, "/tasks/t-1:cancel"),
            (HttpMethod::GET, "/tasks/t-1:subscribe"),
            (HttpMethod::POST, "/message:send"),
            (HttpMethod::GET, "/tasks"),
        ] {
            let (method, params) = rest_target(&http, path).unwrap();
            assert_eq!(rest_path(method, &params), Some((http, path.to_owned())));
        }
        for path in [
            "/tasks/",
            "/tasks/a/../b",
            "/tasks/%2e%2e",
            "/tasks/..",
            "/tasks/a:steal",
            "/tasks/a/pushNotificationConfigs/b/c",
            "/tenant/tasks/a",
            "/v1/message:send",
            "",
        ] {
            assert_eq!(rest_target(&HttpMethod::GET, path), None, "{path}");
        }
    }

    #[test]
    fn a_query_says_each_thing_once() {
        let read = |query: &str| rest(Method::ListTasks, Map::new(), Some(query), b"", LIMITS);
        let call = read("pageSize=5&statusTimestampAfter=2026-01-01T00%3A00%3A00Z").unwrap();
        assert_eq!(
            rest_path(Method::ListTasks, &call.params).unwrap().1,
            "/tasks?pageSize=5&statusTimestampAfter=2026-01-01T00%3A00%3A00Z"
        );
        for bad in [
            "pageSize=5&pageSize=6",
            "x=1",
            "pageSize=-1",
            "status",
            "status=%f",
            "status=%+1",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let params = json!({ "id": "mine" }).as_object().unwrap().clone();
        let foreign = rest(Method::Cancel, params, None, br#"{"id":"foreign"}"#, LIMITS);
        assert!(foreign.is_err());
    }

    proptest! {
        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..120), path in "\\PC{0,40}") {
            let _ = json_rpc(&body, LIMITS);
            let _ = rest_target(&HttpMethod::GET, &path);
            let _ = rest(Method::ListTasks, Map::new(), Some(&path), b"", LIMITS);
        }
    }
}
