//! Tools of the tasks extension (SEP-2663): the server answers with a task, and the client asks for
//! the task until it is done.

use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, CreateTaskResult,
};
use rmcp::service::RequestContext;
use rmcp::task_manager::{TaskContext, TaskExit, TaskOptions};
use rmcp::{ErrorData, RoleServer};
use serde_json::Value;

use super::Reference;
use super::inputs::{asking, filled_in, given, question};
use super::tools::{failure, text};

/// The longest time that `slow_compute` takes; the suite asks for a few seconds.
const LONGEST: f64 = 60.0;

/// How a tool goes with tasks.
#[derive(Clone, Copy, PartialEq)]
enum Dispatch {
    /// Answers at once, whatever the client supports.
    AtOnce,
    /// Makes a task for a client that supports it, and works through the call for others.
    Either,
    /// Refuses a client that does not support tasks.
    TaskOnly,
}

fn dispatch(tool: &str) -> Option<Dispatch> {
    Some(match tool {
        "greet" => Dispatch::AtOnce,
        "slow_compute" | "protocol_error_job" => Dispatch::Either,
        "failing_job" | "confirm_delete" | "multi_input" | "test_tool_with_task" => {
            Dispatch::TaskOnly
        }
        _ => return None,
    })
}

/// Whether the tool is one of those here.
pub(super) fn knows(tool: &str) -> bool {
    dispatch(tool).is_some()
}

/// One piece of work, as it was asked for.
enum Job {
    Compute { time: Duration, label: String },
    Fail,
    Break,
    ConfirmDelete { file: String },
    TwoInputs,
    Greet { name: String },
}

impl Reference {
    pub(super) async fn work(
        &self,
        request: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let argument = |name: &str| request.arguments.as_ref().and_then(|all| all.get(name));
        let word = |name: &str, otherwise: &str| {
            argument(name)
                .and_then(Value::as_str)
                .unwrap_or(otherwise)
                .to_owned()
        };
        let supported = context
            .client_capabilities()
            .is_some_and(|client| client.supports_tasks());
        let dispatch = dispatch(&request.name).unwrap_or(Dispatch::AtOnce);
        if dispatch == Dispatch::TaskOnly && !supported {
            let needed = ClientCapabilities::builder().enable_tasks().build();
            return Err(ErrorData::missing_required_client_capability(needed));
        }
        let job = match request.name.as_ref() {
            "slow_compute" => {
                let seconds = argument("seconds").and_then(Value::as_f64).unwrap_or(1.0);
                let time = Duration::from_secs_f64(seconds.clamp(0.0, LONGEST));
                Job::Compute {
                    time,
                    label: word("label", "it"),
                }
            }
            "failing_job" => Job::Fail,
            "protocol_error_job" => Job::Break,
            "confirm_delete" => Job::ConfirmDelete {
                file: word("filename", "the file"),
            },
            "multi_input" => Job::TwoInputs,
            "test_tool_with_task" => {
                let answer = given(request.input_responses.as_ref(), "user_name");
                let Some(name) = answer.and_then(|answer| filled_in(answer, "name")) else {
                    let ask = question("What is your name?", "name", "string");
                    return Ok(asking([("user_name", ask)]).into());
                };
                Job::Greet {
                    name: name.as_str().unwrap_or("friend").to_owned(),
                }
            }
            _ => return Ok(text(format!("Hello, {}!", word("name", "friend"))).into()),
        };
        if !supported {
            return job.without_inputs().await.map(Into::into);
        }
        let task = self
            .jobs
            .spawn(TaskOptions::default(), |task| Box::pin(job.run(task)));
        Ok(CreateTaskResult::new(task).into())
    }
}

impl Job {
    /// Works as a task, which can be cancelled and can ask for inputs.
    async fn run(self, task: TaskContext) -> Result<CallToolResult, TaskExit> {
        match self {
            Self::ConfirmDelete { file } => {
                let ask = question(&format!("Delete {file}?"), "confirm", "boolean");
                let answer = task.request_input("confirm", ask).await?;
                Ok(text(format!(
                    "{file} deleted: {}",
                    answer["content"]["confirm"]
                )))
            }
            Self::TwoInputs => {
                let ask =
                    |key, message| task.request_input(key, question(message, "value", "string"));
                let answers = tokio::try_join!(
                    ask("first", "The first value?"),
                    ask("second", "The second value?")
                );
                let (first, second) = answers?;
                Ok(text(format!(
                    "{} and {}",
                    first["content"]["value"], second["content"]["value"]
                )))
            }
            other => tokio::select! {
                () = task.cancelled() => Err(TaskExit::Cancelled),
                done = other.without_inputs() => done.map_err(TaskExit::Error),
            },
        }
    }

    /// Works without anyone to ask.
    async fn without_inputs(self) -> Result<CallToolResult, ErrorData> {
        let took = match &self {
            Self::Compute { time, .. } => *time,
            Self::Fail => Duration::from_secs(1),
            _ => Duration::from_millis(200),
        };
        tokio::time::sleep(took).await;
        match self {
            Self::Compute { label, .. } => Ok(text(format!("{label} took {took:?}"))),
            Self::Fail => Ok(failure("this job always fails")),
            Self::Greet { name } => Ok(text(format!("Hello, {name}!"))),
            Self::Break | Self::ConfirmDelete { .. } | Self::TwoInputs => {
                Err(ErrorData::internal_error("this job always breaks", None))
            }
        }
    }
}
