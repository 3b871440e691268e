//! Tools and a prompt that cannot answer without something of the client. Since 2026-07-28 a server
//! asks for it in its result, and the client calls again with what was asked for (SEP-2322).

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CreateMessageRequest, CreateMessageRequestParams,
    ElicitRequest, ElicitRequestParams, GetPromptRequestParams, GetPromptResponse, GetPromptResult,
    InputRequest, InputRequests, InputRequiredResult, InputResponses, JsonObject, ListRootsRequest,
    PromptMessage, Role, SamplingMessage,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Reference;
use super::tools::text;

/// The prompt that needs an input.
pub(super) const PROMPT: &str = "test_input_required_result_prompt";

const PREFIX: &str = "test_input_required_result_";
const STREAMING: &str = "test_streaming_elicitation";

/// What travels sealed through the client between two calls of one tool.
#[derive(Serialize, Deserialize)]
struct Progress {
    /// The tool that it belongs to.
    tool: String,
    /// Inputs got so far.
    step: u8,
}

/// Whether the tool is one of those here.
pub(super) fn knows(tool: &str) -> bool {
    tool.starts_with(PREFIX) || tool == STREAMING
}

/// A question to the user with one field to fill in.
pub(super) fn question(message: &str, field: &str, kind: &str) -> InputRequest {
    let schema = json!({
        "type": "object",
        "properties": { field: { "type": kind } },
        "required": [field],
    });
    InputRequest::Elicitation(ElicitRequest::new(
        ElicitRequestParams::FormElicitationParams {
            meta: None,
            message: message.to_owned(),
            requested_schema: serde_json::from_value(schema).expect("written as a valid schema"),
        },
    ))
}

/// What the user filled in.
pub(super) fn filled_in<'a>(answer: &'a JsonObject, field: &str) -> Option<&'a Value> {
    answer.get("content")?.get(field)
}

/// What the client gave for one key, if it is of the shape that every answer has.
pub(super) fn given<'a>(
    responses: Option<&'a InputResponses>,
    key: &str,
) -> Option<&'a JsonObject> {
    responses?.get(key)?.as_object()
}

/// A result that asks for inputs.
pub(super) fn asking<const N: usize>(requests: [(&str, InputRequest); N]) -> InputRequiredResult {
    let requests = requests.map(|(key, request)| (key.to_owned(), request));
    InputRequiredResult::from_input_requests(InputRequests::from(requests))
}

fn name() -> (&'static str, InputRequest) {
    (
        "user_name",
        question("What is your name?", "name", "string"),
    )
}

fn greeting() -> (&'static str, InputRequest) {
    ("greeting", sampling("Write a greeting"))
}

fn roots() -> (&'static str, InputRequest) {
    (
        "client_roots",
        InputRequest::ListRoots(ListRootsRequest::default()),
    )
}

fn sampling(prompt: &str) -> InputRequest {
    let messages = vec![SamplingMessage::user_text(prompt)];
    InputRequest::CreateMessage(CreateMessageRequest::new(CreateMessageRequestParams::new(
        messages, 100,
    )))
}

impl Reference {
    pub(super) fn ask_for_inputs(
        &self,
        request: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let tool = request.name.as_ref();
        let progress = match request.request_state.as_deref() {
            Some(sealed) => self.open(tool, sealed)?,
            None => 0,
        };
        let given = |key: &str| given(request.input_responses.as_ref(), key);
        let asking_with_state = |step: u8, ask: InputRequiredResult| {
            let state = self.seal(tool, step)?;
            Ok(InputRequiredResult::new(ask.input_requests, Some(state)).into())
        };
        let result = match tool.strip_prefix(PREFIX).unwrap_or(tool) {
            STREAMING => match given("value") {
                Some(_) => text("the value came"),
                None => {
                    return Ok(asking([("value", question("A value?", "value", "string"))]).into());
                }
            },
            "elicitation" => {
                match given("user_name").and_then(|answer| filled_in(answer, "name")) {
                    Some(name) => text(format!("Hello, {}!", name.as_str().unwrap_or("friend"))),
                    None => return Ok(asking([name()]).into()),
                }
            }
            "sampling" => match given("capital_question") {
                Some(answer) => text(format!("The model says {}", answer["content"]["text"])),
                None => {
                    let ask = sampling("What is the capital of France?");
                    return Ok(asking([("capital_question", ask)]).into());
                }
            },
            "list_roots" => match given("client_roots").and_then(|answer| answer.get("roots")) {
                Some(roots) => text(format!("The client's roots are {roots}")),
                None => return Ok(asking([roots()]).into()),
            },
            "request_state" | "tampered_state" => {
                if progress == 0 || given("confirm").is_none() {
                    let ask = asking([("confirm", question("Go on?", "ok", "boolean"))]);
                    return asking_with_state(1, ask);
                }
                text("state-ok")
            }
            "multiple_inputs" => {
                let all = ["user_name", "greeting", "client_roots"];
                if progress == 0 || !all.iter().all(|key| given(key).is_some()) {
                    return asking_with_state(1, asking([name(), greeting(), roots()]));
                }
                text("all three inputs came")
            }
            "multi_round" => {
                let steps = [
                    ("step1", question("Step 1: your name?", "name", "string")),
                    (
                        "step2",
                        question("Step 2: your favourite colour?", "color", "string"),
                    ),
                ];
                // The state tells what was asked last; only its answer leads on.
                let got = match progress {
                    step @ (1 | 2) if given(steps[usize::from(step) - 1].0).is_some() => step,
                    step => step.saturating_sub(1),
                };
                match steps.into_iter().nth(usize::from(got)) {
                    Some(step) => return asking_with_state(got + 1, asking([step])),
                    None => text("both inputs came"),
                }
            }
            "capabilities" => {
                if request.input_responses.is_some() {
                    return Ok(text("what was asked for came").into());
                }
                let client = context.meta.client_capabilities().unwrap_or_default();
                let possible = [
                    (client.elicitation.is_some(), name()),
                    (client.sampling.is_some(), greeting()),
                    (client.roots.is_some(), roots()),
                ];
                let ask: InputRequests = possible
                    .into_iter()
                    .filter(|(can, _)| *can)
                    .map(|(_, (key, request))| (key.to_owned(), request))
                    .collect();
                if !ask.is_empty() {
                    return Ok(InputRequiredResult::from_input_requests(ask).into());
                }
                text("the client can give nothing")
            }
            _ => {
                return Err(ErrorData::invalid_params(
                    format!("no tool is named {tool}"),
                    None,
                ));
            }
        };
        Ok(result.into())
    }

    fn seal(&self, tool: &str, step: u8) -> Result<String, ErrorData> {
        let progress = Progress {
            tool: tool.to_owned(),
            step,
        };
        self.states
            .seal_json(&progress)
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))
    }

    /// The step in a state that came back through the client, who may have changed it.
    fn open(&self, tool: &str, sealed: &str) -> Result<u8, ErrorData> {
        let opened = self.states.open_json::<Progress>(sealed);
        match opened {
            Ok(progress) if progress.tool == tool => Ok(progress.step),
            _ => Err(ErrorData::invalid_params(
                "requestState was not sealed for this",
                None,
            )),
        }
    }
}

/// The prompt's messages, or what it needs to make them.
pub(super) fn prompt(request: &GetPromptRequestParams) -> GetPromptResponse {
    let answer = given(request.input_responses.as_ref(), "user_context");
    match answer.and_then(|answer| filled_in(answer, "context")) {
        Some(context) => {
            let words = context.as_str().unwrap_or("no context");
            GetPromptResult::new(vec![PromptMessage::new_text(Role::User, words)]).into()
        }
        None => asking([(
            "user_context",
            question("In what context?", "context", "string"),
        )])
        .into(),
    }
}
