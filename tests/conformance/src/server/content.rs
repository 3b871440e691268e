//! Prompts and resources, and the samples that tools answer with too.

use rmcp::ErrorData;
use rmcp::model::{
    ContentBlock, GetPromptRequestParams, GetPromptResult, Prompt, PromptArgument, PromptMessage,
    ReadResourceResult, Resource, ResourceContents, ResourceTemplate, Role,
};
use serde_json::json;

use super::inputs;

/// A PNG of one red pixel, in base64.
pub(super) const PICTURE: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
/// A WAV file without samples, in base64.
pub(super) const SOUND: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";

const TEXT_URI: &str = "test://static-text";
const PICTURE_URI: &str = "test://static-binary";
const TEMPLATE: (&str, &str) = ("test://template/", "/data");

pub(super) fn resources() -> Vec<Resource> {
    vec![
        Resource::new(TEXT_URI, "text")
            .with_description("A text that never changes")
            .with_mime_type("text/plain"),
        Resource::new(PICTURE_URI, "picture")
            .with_description("A picture that never changes")
            .with_mime_type("image/png"),
    ]
}

pub(super) fn resource_templates() -> Vec<ResourceTemplate> {
    let (before, after) = TEMPLATE;
    vec![
        ResourceTemplate::new(format!("{before}{{id}}{after}"), "data")
            .with_description("What is known about an id")
            .with_mime_type("application/json"),
    ]
}

/// What a resource holds.
pub(super) fn read(uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let contents = match uri {
        TEXT_URI => ResourceContents::text("This is the content of the static text resource.", uri)
            .with_mime_type("text/plain"),
        PICTURE_URI => ResourceContents::blob(PICTURE, uri).with_mime_type("image/png"),
        _ => {
            let id = uri
                .strip_prefix(TEMPLATE.0)
                .and_then(|rest| rest.strip_suffix(TEMPLATE.1));
            let Some(id) = id else {
                let about = Some(json!({ "uri": uri }));
                return Err(ErrorData::resource_not_found(
                    format!("nothing is at {uri}"),
                    about,
                ));
            };
            let data =
                json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
            ResourceContents::text(data.to_string(), uri).with_mime_type("application/json")
        }
    };
    Ok(ReadResourceResult::new(vec![contents]))
}

pub(super) fn prompts() -> Vec<Prompt> {
    let plain = |name: &str, about: &str| Prompt::new(name, Some(about), None);
    let arguments = vec![
        PromptArgument::new("arg1")
            .with_description("The first value")
            .with_required(true),
        PromptArgument::new("arg2")
            .with_description("The second value")
            .with_required(true),
    ];
    vec![
        plain("test_simple_prompt", "One message"),
        Prompt::new(
            "test_prompt_with_arguments",
            Some("A message with two values in it"),
            Some(arguments),
        ),
        Prompt::new(
            "test_prompt_with_embedded_resource",
            Some("A message that holds a resource"),
            Some(vec![PromptArgument::new("resourceUri").with_required(true)]),
        ),
        plain("test_prompt_with_image", "A message that holds a picture"),
        plain(inputs::PROMPT, "Needs to know the context first"),
    ]
}

/// A prompt's messages.
pub(super) fn prompt(request: &GetPromptRequestParams) -> Result<GetPromptResult, ErrorData> {
    let argument = |name: &str| {
        let value = request
            .arguments
            .as_ref()
            .and_then(|all| all.get(name)?.as_str());
        value.unwrap_or_default()
    };
    let say = |text: &str| PromptMessage::new_text(Role::User, text);
    let show = |block: ContentBlock| PromptMessage::new(Role::User, block);
    let messages = match request.name.as_str() {
        "test_simple_prompt" => vec![say("This is a simple prompt for testing.")],
        "test_prompt_with_arguments" => {
            let (first, second) = (argument("arg1"), argument("arg2"));
            vec![say(&format!(
                "Prompt with arguments: arg1='{first}', arg2='{second}'"
            ))]
        }
        "test_prompt_with_embedded_resource" => {
            let contents = ResourceContents::text(
                "Embedded resource content for testing.",
                argument("resourceUri"),
            )
            .with_mime_type("text/plain");
            vec![
                show(ContentBlock::resource(contents)),
                say("Please process the embedded resource above."),
            ]
        }
        "test_prompt_with_image" => vec![
            show(ContentBlock::image(PICTURE, "image/png")),
            say("Please analyze the image above."),
        ],
        other => {
            return Err(ErrorData::invalid_params(
                format!("no prompt is named {other}"),
                None,
            ));
        }
    };
    Ok(GetPromptResult::new(messages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_in_and_nothing_else_is_found() {
        let read_text = |uri: &str| serde_json::to_string(&read(uri).unwrap()).unwrap();
        assert!(read_text("test://template/123/data").contains("Data for ID: 123"));
        for uri in ["test://template/123", "test://nothing", ""] {
            assert!(read(uri).is_err(), "{uri}");
        }
    }
}
