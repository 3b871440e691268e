//! What an answer says: whether it is one, which ids it gives out, and whether the work is over.

use gateway::caller::Principal;
use gateway::inspection::Spot;
use gateway::mcp::message::Id;
use model::record::Ended;
use model::{ServerName, TaskId, json};
use serde_json::{Map, Value, json};

use crate::inspect;
use crate::method::{Dialect, Method};
use crate::owned::{Begun, Kind, Owned};
use crate::push::Registering;
use crate::request::Binding;

/// An answer that cannot be passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoAnswer(pub &'static str);

/// What is expected of the answers to one request.
pub struct Watch {
    /// What was asked.
    pub method: Method,
    /// In which dialect.
    pub dialect: Dialect,
    /// How.
    pub binding: Binding,
    /// To whom the ids are given.
    pub principal: Principal,
    /// By which agent.
    pub server: ServerName,
    /// The skill that it is about, if that is known: findings name it.
    pub skill: String,
    /// The task that was asked about, which the answer must be about.
    pub about: Option<String>,
    /// What the ids in the answer belong to, when a message was sent.
    pub begun: Option<Begun>,
    /// Whether the message began something, so that an error ends it.
    pub fresh: bool,
    /// What a result is answered with instead of itself: of webhooks, the other agent knows other
    /// things than the caller.
    pub own: Option<Value>,
    /// The webhook that is being registered.
    pub registering: Option<Registering>,
    /// How deep an answer may be nested, and how long it may be.
    pub limits: json::Limits,
}

/// What was seen in an answer.
#[derive(Debug, PartialEq)]
pub struct Seen {
    /// What to pass on instead; none when it passes as it is.
    pub changed: Option<Value>,
    /// Whether it is a result or an error.
    pub ended: Ended,
    /// Whether the other agent's work is over: a final state, or a message that no task is behind.
    pub over: bool,
    /// Where its content stands in a stream, if it goes on with other events.
    pub spot: Option<Spot>,
}

impl Watch {
    /// Looks at an answer, or at one event of a stream, and learns the ids that it gives out.
    ///
    /// # Errors
    /// [`NoAnswer`] when it cannot be passed on.
    pub fn look(&self, text: &[u8], owned: &Owned) -> Result<Seen, NoAnswer> {
        if self.own.is_some() && self.binding == Binding::Rest && text.trim_ascii().is_empty() {
            // What is removed is answered with nothing.
            return self.rest(Map::new(), owned);
        }
        let Ok(Value::Object(members)) = json::parse(text, self.limits) else {
            return Err(NoAnswer("it is not acceptable JSON, or no object"));
        };
        match &self.binding {
            Binding::JsonRpc(id) => self.json_rpc(members, id, owned),
            Binding::Rest => self.rest(members, owned),
        }
    }

    fn json_rpc(
        &self,
        mut members: Map<String, Value>,
        id: &Id,
        owned: &Owned,
    ) -> Result<Seen, NoAnswer> {
        if members.get("jsonrpc") != Some(&Value::from("2.0")) {
            return Err(NoAnswer("it is no JSON-RPC 2.0"));
        }
        if members.get("id").and_then(Id::of).as_ref() != Some(id) {
            // An error about a request that could not be read has no id; this one could be.
            return Err(NoAnswer("it does not answer the request that was sent"));
        }
        let known = ["jsonrpc", "id", "result", "error"];
        let (result, error) = (members.remove("result"), members.get("error"));
        let error = error.filter(|error| !error.is_null());
        // Some leave a result of nothing out, as that of removing a webhook is.
        let nothing = self.method == Method::DeletePush && error.is_none();
        let result = result.or(nothing.then_some(Value::Null));
        match (result, error) {
            (Some(result), None) if members.keys().all(|it| known.contains(&it.as_str())) => {
                let spot = self.spot(&result);
                let (changed, over) = self.result(result, owned)?;
                let changed =
                    changed.map(|result| json!({ "jsonrpc": "2.0", "id": id, "result": result }));
                Ok(Seen {
                    changed,
                    ended: Ended::Answered,
                    over,
                    spot,
                })
            }
            (None | Some(Value::Null), Some(Value::Object(error)))
                if error.get("code").is_some_and(Value::is_i64) =>
            {
                Ok(self.error())
            }
            _ => Err(NoAnswer("it is neither a result nor an error")),
        }
    }

    fn rest(&self, members: Map<String, Value>, owned: &Owned) -> Result<Seen, NoAnswer> {
        if members.get("error").is_some_and(Value::is_object) && members.len() == 1 {
            return Ok(self.error());
        }
        let result = Value::Object(members);
        let spot = self.spot(&result);
        let (changed, over) = self.result(result, owned)?;
        Ok(Seen {
            changed,
            ended: Ended::Answered,
            over,
            spot,
        })
    }

    fn spot(&self, result: &Value) -> Option<Spot> {
        let event = result.as_object().filter(|_| self.method.streams())?;
        inspect::spot(self.dialect, event)
    }

    /// An error ends what had not begun.
    fn error(&self) -> Seen {
        Seen {
            changed: None,
            ended: Ended::UpstreamError,
            over: self.fresh,
            spot: None,
        }
    }

    fn result(&self, result: Value, owned: &Owned) -> Result<(Option<Value>, bool), NoAnswer> {
        if let Some(own) = &self.own {
            if let Some(registering) = &self.registering {
                registering.settle();
            }
            return Ok((Some(own.clone()), false));
        }
        let Value::Object(result) = result else {
            return Err(NoAnswer("its result is no object"));
        };
        match self.method {
            Method::GetTask | Method::Cancel => self.task(&result, owned).map(|over| (None, over)),
            Method::ListTasks => self.list(result, owned).map(|list| (Some(list), false)),
            _ => self.event(&result, owned).map(|over| (None, over)),
        }
    }

    /// The list, without the tasks of others and without saying how many there are.
    fn list(&self, mut list: Map<String, Value>, owned: &Owned) -> Result<Value, NoAnswer> {
        let Some(Value::Array(tasks)) = list.remove("tasks").or(Some(Value::Array(Vec::new())))
        else {
            return Err(NoAnswer("its tasks are no list"));
        };
        let own: Vec<Value> = tasks
            .into_iter()
            .filter(|task| {
                let id = task.get("id").and_then(Value::as_str);
                id.is_some_and(|id| self.is_own(owned, id))
            })
            .collect();
        let next = list.remove("nextPageToken").filter(Value::is_string);
        Ok(json!({
            "totalSize": own.len(),
            "pageSize": own.len(),
            "tasks": own,
            "nextPageToken": next.unwrap_or_else(|| "".into()),
        }))
    }

    fn is_own(&self, owned: &Owned, id: &str) -> bool {
        owned
            .find(self.principal, &self.server, Kind::Task, id)
            .is_some()
    }

    /// What a message is answered with: a task, a message, or an update (1.0, §3.2.3; 0.3, §7.2).
    fn event(&self, event: &Map<String, Value>, owned: &Owned) -> Result<bool, NoAnswer> {
        let (kind, event) = kind_of(self.dialect, event)?;
        match kind {
            "task" => self.task(event, owned),
            "message" => {
                self.learn(event, "taskId", owned)?;
                Ok(event.get("taskId").is_none())
            }
            "statusUpdate" | "status-update" => {
                self.learn(event, "taskId", owned)?;
                Ok(is_final(event))
            }
            "artifactUpdate" | "artifact-update" => {
                self.learn(event, "taskId", owned)?;
                Ok(false)
            }
            _ => Err(NONE),
        }
    }

    fn task(&self, task: &Map<String, Value>, owned: &Owned) -> Result<bool, NoAnswer> {
        if task.get("id").and_then(Value::as_str).is_none() {
            return Err(NoAnswer("its task has no id"));
        }
        self.learn(task, "id", owned)?;
        Ok(is_final(task))
    }

    /// Takes in the ids of an event; they must be of the task that was asked about, if one was.
    fn learn(&self, event: &Map<String, Value>, name: &str, owned: &Owned) -> Result<(), NoAnswer> {
        let id = |name: &str| match event.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(id)) if id.len() <= crate::message::ID_BYTES => Ok(Some(id)),
            Some(_) => Err(NoAnswer("one of its ids is no text, or a long one")),
        };
        let (task, context) = (id(name)?, id("contextId")?);
        if let (Some(about), Some(task)) = (&self.about, task)
            && about != task
        {
            return Err(NoAnswer("it is about another task than the one asked for"));
        }
        let Some(begun) = &self.begun else {
            return Ok(());
        };
        let give = |kind, id: Option<&String>| {
            if let Some(id) = id {
                owned.give(self.principal, &self.server, kind, id, begun);
            }
        };
        give(Kind::Task, task);
        give(Kind::Context, context);
        if let (Some(registering), Some(task)) = (&self.registering, task) {
            registering.bind(task);
        }
        Ok(())
    }

    /// The sub-task that ends with the other agent's work.
    #[must_use]
    pub fn sub_task(&self) -> Option<TaskId> {
        self.begun.as_ref()?.sub_task
    }
}

const NONE: NoAnswer = NoAnswer("it is neither a task, a message nor an update");

/// The kind of an event, and the event itself.
pub(crate) fn kind_of(
    dialect: Dialect,
    event: &Map<String, Value>,
) -> Result<(&str, &Map<String, Value>), NoAnswer> {
    match dialect {
        Dialect::V1 => {
            let mut members = event.iter().filter(|(_, value)| !value.is_null());
            match (members.next(), members.next()) {
                (Some((name, Value::Object(event))), None) => Ok((name.as_str(), event)),
                _ => Err(NONE),
            }
        }
        Dialect::V03 => {
            let kind = event.get("kind").and_then(Value::as_str).ok_or(NONE)?;
            Ok((kind, event))
        }
    }
}

/// What a notification tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The task that it is about.
    pub task: Option<String>,
    /// The context that the task is in.
    pub context: Option<String>,
    /// The task's state, if it is about that; one of those that the protocol has.
    pub state: Option<String>,
    /// Whether the other agent's work is over.
    pub over: bool,
    /// Where its content stands, if it goes on with other notifications.
    pub spot: Option<Spot>,
}

/// Reads a notification in either dialect: an event of 1.0 (§4.3.3), or a task or another event of 0.3
/// (§9.5).
///
/// # Errors
/// [`NoAnswer`] when it is none.
pub fn told(text: &[u8], limits: json::Limits) -> Result<Told, NoAnswer> {
    let Ok(Value::Object(event)) = json::parse(text, limits) else {
        return Err(NoAnswer("it is not acceptable JSON, or no object"));
    };
    let dialect = match event.contains_key("kind") {
        true => Dialect::V03,
        false => Dialect::V1,
    };
    let spot = inspect::spot(dialect, &event);
    let (kind, event) = kind_of(dialect, &event)?;
    let id = match kind {
        "task" => "id",
        "message" | "statusUpdate" | "status-update" | "artifactUpdate" | "artifact-update" => {
            "taskId"
        }
        _ => return Err(NONE),
    };
    let text = |name: &str| match event.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) if id.len() <= crate::message::ID_BYTES => Ok(Some(id.clone())),
        Some(_) => Err(NoAnswer("one of its ids is no text, or a long one")),
    };
    let state = event.get("status").and_then(|status| status.get("state"));
    let state = state.and_then(Value::as_str).filter(|state| {
        let plain = |b: u8| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-');
        state.len() <= 64 && state.bytes().all(plain)
    });
    Ok(Told {
        task: text(id)?,
        context: text("contextId")?,
        state: state.map(str::to_owned),
        over: is_final(event),
        spot,
    })
}

/// Whether a task, or an update of its status, has a final state.
fn is_final(event: &Map<String, Value>) -> bool {
    let state = event.get("status").and_then(|status| status.get("state"));
    let state = state.and_then(Value::as_str).unwrap_or_default();
    let state = state.strip_prefix("TASK_STATE_").unwrap_or(state);
    ["completed", "failed", "canceled", "rejected"]
        .iter()
        .any(|last| state.eq_ignore_ascii_case(last))
}

#[cfg(test)]
mod tests;
