//! What a request attempts: the operations that its parameters stand for.

use http::StatusCode;
use model::Operation;
use serde_json::{Map, Value};

use super::agreement::INVALID_PARAMS;
use super::handles::Kind;
use super::message::{Id, differs_only_in_case};
use super::refusal::Refusal;
use super::revision::Method;

/// Most resources that one subscription may name.
const SUBSCRIPTIONS_LIMIT: usize = 64;

/// What one request attempts.
#[derive(Debug, PartialEq)]
pub(crate) struct Attempted {
    /// The operations; each one is decided. Never empty.
    pub(crate) operations: Vec<Operation>,
    /// Handles that the caller must have been given before.
    pub(crate) handles: Vec<(Kind, String)>,
}

/// Reads what a request attempts.
///
/// # Errors
/// A [`Refusal`] with -32602 when a parameter that the decision needs is missing or malformed.
pub(crate) fn attempted(
    method: Method,
    id: &Id,
    mut params: Map<String, Value>,
) -> Result<Attempted, Refusal> {
    let mut handles = Vec::new();
    let operations = match method {
        Method::CallTool => {
            let tool = text(&mut params, "name", id)?;
            let arguments = match params.remove("arguments") {
                None | Some(Value::Null) => Map::new(),
                Some(Value::Object(arguments)) => arguments,
                Some(_) => return Err(invalid(id, "`params.arguments` is not an object")),
            };
            vec![Operation::CallTool { tool, arguments }]
        }
        Method::GetPrompt => vec![Operation::GetPrompt {
            name: text(&mut params, "name", id)?,
        }],
        Method::ReadResource | Method::Subscribe | Method::Unsubscribe => {
            vec![Operation::ReadResource {
                uri: text(&mut params, "uri", id)?,
            }]
        }
        Method::Complete => vec![completed(&mut params, id)?],
        Method::Listen => listened(&mut params, id, &mut handles)?,
        Method::GetTask | Method::TaskResult | Method::UpdateTask | Method::CancelTask => {
            handles.push((Kind::Task, text(&mut params, "taskId", id)?));
            vec![Operation::Converse]
        }
        _ => vec![Operation::Converse],
    };
    if method.named_by().is_some() {
        match params.remove("requestState") {
            None => {}
            Some(Value::String(state)) => handles.push((Kind::State, state)),
            Some(_) => return Err(invalid(id, "`params.requestState` is not text")),
        }
    }
    Ok(Attempted {
        operations,
        handles,
    })
}

/// What a completion is asked for: as if it were fetched, since completions tell its content.
fn completed(params: &mut Map<String, Value>, id: &Id) -> Result<Operation, Refusal> {
    let Some(Value::Object(mut about)) = params.remove("ref") else {
        return Err(invalid(id, "`params.ref` is missing or not an object"));
    };
    refuse_alike(&about, &["type", "name", "uri"], id)?;
    let kind = about.remove("type");
    match kind.as_ref().and_then(Value::as_str) {
        Some("ref/prompt") => Ok(Operation::GetPrompt {
            name: text(&mut about, "name", id)?,
        }),
        Some("ref/resource") => Ok(Operation::ReadResource {
            uri: text(&mut about, "uri", id)?,
        }),
        _ => Err(invalid(
            id,
            "`params.ref.type` is neither `ref/prompt` nor `ref/resource`",
        )),
    }
}

/// What a subscription listens to: each resource that it names, else only the server itself.
fn listened(
    params: &mut Map<String, Value>,
    id: &Id,
    handles: &mut Vec<(Kind, String)>,
) -> Result<Vec<Operation>, Refusal> {
    let Some(Value::Object(mut filter)) = params.remove("notifications") else {
        return Err(invalid(
            id,
            "`params.notifications` is missing or not an object",
        ));
    };
    refuse_alike(&filter, &["taskIds", "resourceSubscriptions"], id)?;
    for task in texts(&mut filter, "taskIds", id)? {
        handles.push((Kind::Task, task));
    }
    let uris = texts(&mut filter, "resourceSubscriptions", id)?;
    if uris.is_empty() {
        return Ok(vec![Operation::Converse]);
    }
    Ok(uris
        .into_iter()
        .map(|uri| Operation::ReadResource { uri })
        .collect())
}

/// Some upstreams match names without case: what only they take for one of these was not decided.
fn refuse_alike(members: &Map<String, Value>, names: &[&str], id: &Id) -> Result<(), Refusal> {
    match members.keys().any(|name| differs_only_in_case(name, names)) {
        true => Err(invalid(
            id,
            "a name that differs from the protocol's only in case",
        )),
        false => Ok(()),
    }
}

fn text(params: &mut Map<String, Value>, name: &str, id: &Id) -> Result<String, Refusal> {
    match params.remove(name) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(invalid(id, &format!("`{name}` is missing or not text"))),
    }
}

fn texts(from: &mut Map<String, Value>, name: &str, id: &Id) -> Result<Vec<String>, Refusal> {
    let items = match from.remove(name) {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() <= SUBSCRIPTIONS_LIMIT => items,
        Some(Value::Array(_)) => {
            return Err(invalid(
                id,
                &format!("`{name}` has more than {SUBSCRIPTIONS_LIMIT} items"),
            ));
        }
        Some(_) => return Err(invalid(id, &format!("`{name}` is not an array"))),
    };
    let mut texts = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Value::String(text) => texts.push(text),
            _ => {
                return Err(invalid(
                    id,
                    &format!("`{name}` has an item that is not text"),
                ));
            }
        }
    }
    Ok(texts)
}

fn invalid(id: &Id, message: &str) -> Refusal {
    Refusal::new(StatusCode::OK, Some(id), INVALID_PARAMS, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(method: Method, params: Value) -> Result<Attempted, i64> {
        attempted(method, &Id::Number(1), params.as_object().unwrap().clone()).map_err(|r| r.code)
    }

    #[test]
    fn each_method_attempts_what_it_touches() {
        let uri = || "file:///a".to_owned();
        let read = vec![Operation::ReadResource { uri: uri() }];
        assert_eq!(
            of(Method::Subscribe, json!({ "uri": uri() }))
                .unwrap()
                .operations,
            read
        );
        let about = json!({ "ref": { "type": "ref/resource", "uri": uri() } });
        assert_eq!(of(Method::Complete, about).unwrap().operations, read);
        let about = json!({ "ref": { "type": "ref/prompt", "name": "p" } });
        assert_eq!(
            of(Method::Complete, about).unwrap().operations,
            [Operation::GetPrompt {
                name: "p".to_owned()
            }]
        );
        let filter =
            json!({ "notifications": { "resourceSubscriptions": ["file:///a", "file:///b"] } });
        assert_eq!(of(Method::Listen, filter).unwrap().operations.len(), 2);
        let filter = json!({ "notifications": { "toolsListChanged": true, "taskIds": ["t"] } });
        let listen = of(Method::Listen, filter).unwrap();
        assert_eq!(listen.operations, [Operation::Converse]);
        assert_eq!(listen.handles, [(Kind::Task, "t".to_owned())]);
        let retry = of(
            Method::CallTool,
            json!({ "name": "t", "requestState": "s" }),
        )
        .unwrap();
        assert_eq!(retry.handles, [(Kind::State, "s".to_owned())]);
    }

    #[test]
    fn what_the_decision_needs_must_be_there() {
        for (method, bad) in [
            (Method::CallTool, json!({})),
            (Method::CallTool, json!({ "name": ["a"] })),
            (Method::CallTool, json!({ "name": "a", "arguments": [] })),
            (Method::CallTool, json!({ "name": "a", "requestState": {} })),
            (Method::ReadResource, json!({ "uri": null })),
            (
                Method::Complete,
                json!({ "ref": { "type": "ref/other", "name": "p" } }),
            ),
            (Method::Listen, json!({})),
            (
                Method::Listen,
                json!({ "notifications": { "resourceSubscriptions": "file:///a" } }),
            ),
            (
                Method::Listen,
                json!({ "notifications": { "resourceSubscriptions": [7] } }),
            ),
            (
                Method::Listen,
                json!({ "notifications": { "taskIds": vec!["x"; 65] } }),
            ),
            (Method::GetTask, json!({})),
        ] {
            assert_eq!(of(method, bad.clone()), Err(INVALID_PARAMS), "{bad}");
        }
    }
}
