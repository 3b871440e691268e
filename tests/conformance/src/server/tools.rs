//! Tools that answer in one call. In the revisions before 2026-07-28 some of them ask the client
//! something while they work.

use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock,
    CreateMessageRequestParams, ElicitRequestParams, LoggingLevel, LoggingMessageNotificationParam,
    ProgressNotificationParam, ResourceContents, SamplingMessage,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Value, json};

use super::content::{PICTURE, SOUND};
use super::{Change, Reference};

/// Between two notifications, so that they arrive one by one.
const PAUSE: Duration = Duration::from_millis(50);

type Context = RequestContext<RoleServer>;

/// A result of one text.
pub(super) fn text(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

/// A failure that the caller shall read.
pub(super) fn failure(text: impl Into<String>) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}

impl Reference {
    pub(super) async fn answer(
        &self,
        request: &CallToolRequestParams,
        context: &Context,
    ) -> Result<CallToolResponse, ErrorData> {
        let argument = |name: &str| {
            let value = request
                .arguments
                .as_ref()
                .and_then(|all| all.get(name)?.as_str());
            value.ok_or_else(|| ErrorData::invalid_params(format!("{name} is not a text"), None))
        };
        let result = match request.name.as_ref() {
            "test_simple_text" => text("This is a simple text response for testing."),
            "test_image_content" => {
                CallToolResult::success(vec![ContentBlock::image(PICTURE, "image/png")])
            }
            "test_audio_content" => {
                CallToolResult::success(vec![ContentBlock::audio(SOUND, "audio/wav")])
            }
            "test_embedded_resource" => CallToolResult::success(vec![ContentBlock::resource(
                ResourceContents::text(
                    "This is an embedded resource content.",
                    "test://embedded-resource",
                )
                .with_mime_type("text/plain"),
            )]),
            "test_multiple_content_types" => CallToolResult::success(vec![
                ContentBlock::text("Multiple content types test:"),
                ContentBlock::image(PICTURE, "image/png"),
                ContentBlock::resource(
                    ResourceContents::text(
                        json!({ "test": "data", "value": 123 }).to_string(),
                        "test://mixed-content-resource",
                    )
                    .with_mime_type("application/json"),
                ),
            ]),
            "test_error_handling" => {
                failure("This tool intentionally returns an error for testing")
            }
            "test_tool_with_logging" => {
                let lines = [
                    "Tool execution started",
                    "Tool processing data",
                    "Tool execution completed",
                ];
                for line in lines {
                    log(context, LoggingLevel::Info, line).await?;
                    tokio::time::sleep(PAUSE).await;
                }
                text("three lines were logged")
            }
            "test_logging_tool" => {
                if let Some(level) = context.meta.log_level() {
                    log(context, level, "a level was named").await?;
                }
                text("done")
            }
            "test_tool_with_progress" => {
                report_progress(context).await?;
                text("three reports were sent")
            }
            "test_reconnection" => {
                tokio::time::sleep(2 * PAUSE).await;
                text("the answer waited for its client")
            }
            "test_custom_header" => text(argument("value")?),
            "json_schema_2020_12_tool" => text("the schema is what matters"),
            "test_missing_capability" => {
                let client = context.meta.client_capabilities().unwrap_or_default();
                if client.sampling.is_none() {
                    let needed = ClientCapabilities::builder().enable_sampling().build();
                    return Err(ErrorData::missing_required_client_capability(needed));
                }
                text("the client can sample")
            }
            "test_trigger_tool_change" => self.tell(Change::Tools),
            "test_trigger_prompt_change" => self.tell(Change::Prompts),
            "test_sampling" => sample(context, argument("prompt")?).await,
            "test_elicitation" => {
                let properties = json!({
                    "username": { "type": "string", "description": "User's response" },
                    "email": { "type": "string", "description": "User's email address" },
                });
                elicit(
                    context,
                    argument("message")?,
                    properties,
                    json!(["username", "email"]),
                )
                .await
            }
            "test_elicitation_sep1034_defaults" => {
                elicit(context, "Change what you like", with_defaults(), json!([])).await
            }
            "test_elicitation_sep1330_enums" => {
                elicit(context, "Choose", choices(), json!([])).await
            }
            other => {
                return Err(ErrorData::invalid_params(
                    format!("no tool is named {other}"),
                    None,
                ));
            }
        };
        Ok(result.into())
    }

    /// Tells whoever listens.
    fn tell(&self, change: Change) -> CallToolResult {
        let listeners = self.changes.send(change).unwrap_or(0);
        text(format!("{listeners} listeners were told"))
    }
}

async fn log(context: &Context, level: LoggingLevel, line: &str) -> Result<(), ErrorData> {
    let message = LoggingMessageNotificationParam::new(level, json!(line)).with_logger("reference");
    context
        .peer
        .notify_logging_message(message)
        .await
        .map_err(lost)
}

async fn report_progress(context: &Context) -> Result<(), ErrorData> {
    let token = context.meta.get_progress_token();
    for done in [0.0, 50.0, 100.0] {
        if let Some(token) = &token {
            let report = ProgressNotificationParam::new(token.clone(), done)
                .with_total(100.0)
                .with_message(format!("{done} of 100"));
            context.peer.notify_progress(report).await.map_err(lost)?;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

fn lost(error: rmcp::ServiceError) -> ErrorData {
    ErrorData::internal_error(format!("the client cannot be told: {error}"), None)
}

async fn sample(context: &Context, prompt: &str) -> CallToolResult {
    let question = CreateMessageRequestParams::new(vec![SamplingMessage::user_text(prompt)], 100);
    match context.peer.create_message(question).await {
        Ok(answer) => {
            let words = answer
                .message
                .content
                .first()
                .and_then(|block| block.as_text());
            let words = words.map_or("nothing that is text", |block| block.text.as_str());
            text(format!("LLM response: {words}"))
        }
        Err(error) => failure(format!("the client did not sample: {error}")),
    }
}

async fn elicit(
    context: &Context,
    message: &str,
    properties: Value,
    required: Value,
) -> CallToolResult {
    let schema = json!({ "type": "object", "properties": properties, "required": required });
    let question = ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: message.to_owned(),
        requested_schema: serde_json::from_value(schema).expect("written as a valid schema"),
    };
    match context.peer.create_elicitation(question).await {
        Ok(answer) => {
            let content = answer.content.unwrap_or_default();
            text(format!("User response: {:?}, {content}", answer.action))
        }
        Err(error) => failure(format!("the client did not ask: {error}")),
    }
}

/// SEP-1034: one field of every primitive type, each with a default.
fn with_defaults() -> Value {
    json!({
        "name": { "type": "string", "default": "John Doe" },
        "age": { "type": "integer", "default": 30 },
        "score": { "type": "number", "default": 95.5 },
        "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
        "verified": { "type": "boolean", "default": true },
    })
}

/// SEP-1330: a choice of one or many, with and without titles, and the way it was written before.
fn choices() -> Value {
    let options = json!(["option1", "option2", "option3"]);
    let titled = json!([
        { "const": "value1", "title": "First" },
        { "const": "value2", "title": "Second" },
        { "const": "value3", "title": "Third" },
    ]);
    json!({
        "untitledSingle": { "type": "string", "enum": options },
        "titledSingle": { "type": "string", "oneOf": titled },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": { "type": "array", "items": { "type": "string", "enum": options } },
        "titledMulti": { "type": "array", "items": { "anyOf": titled } },
    })
}
