//! A first draft of a server's annotations, from what the server itself says about its tools.

use std::fmt::Write as _;

use serde_json::{Map, Value};

mod endpoints;
mod tables;

pub use endpoints::{Endpoint, draft_endpoints};
pub use tables::draft_tables;

/// A readable file of annotations to start from, made from a `tools/list` result of MCP: which
/// tools only read (`readOnlyHint`), and for each argument a type guessed from its schema and
/// name. Nothing is trusted in a draft: that is for the administrator to say.
///
/// What a server says about itself decides nothing here that loosens a check, except `reads`,
/// which the file marks for review.
#[must_use]
pub fn draft(server: &str, tools_list: &Value) -> String {
    let mut text = format!(
        "# Provenance annotations of server `{server}`: a draft made from its own tool list.\n\
         # Go through it tool by tool; docs/provenance.md explains each word.\n\
         #   reads    the tool changes nothing, also outside (check it: the server says so itself)\n\
         #   sinks    arguments that decide who or what is affected, with their type\n\
         #   content  free text and other arguments that affect no one else\n\
         #   trusted  parts of the result that no outsider can write: \"all\", or [\"/*/email\"]\n\
         #   lists    identifiers in the result: {{ \"/*/id\" = {{ of = \"file\", name = \"/*/filename\" }} }}\n"
    );
    let tools = tools_list
        .get("tools")
        .or_else(|| tools_list.pointer("/result/tools"))
        .unwrap_or(tools_list);
    for tool in tools.as_array().into_iter().flatten() {
        if let Some(name) = tool.get("name").and_then(Value::as_str) {
            one(&mut text, name, tool);
        }
    }
    text
}

fn one(text: &mut String, name: &str, tool: &Value) {
    let hint = |name: &str| {
        tool.pointer(&format!("/annotations/{name}"))
            .and_then(Value::as_bool)
    };
    let described = tool
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default();
    text.push('\n');
    summary(text, described);
    let _ = writeln!(text, "[tools.{}]", key(name));
    let reads = hint("readOnlyHint").unwrap_or(false);
    if reads {
        text.push_str("reads = true  # says the server; true?\n");
        if hint("openWorldHint") != Some(false) {
            text.push_str("# its results may hold what outsiders wrote: trust only exact places\n");
        }
    } else if hint("destructiveHint") != Some(false) {
        text.push_str("# may destroy: consider choose = \"narrowed\" for its identifiers\n");
    }
    let nothing = Map::new();
    let properties = tool
        .pointer("/inputSchema/properties")
        .and_then(Value::as_object)
        .unwrap_or(&nothing);
    let arguments = properties
        .iter()
        .map(|(name, schema)| (name.as_str(), kind(name, schema)));
    sorted(text, reads, arguments);
}

/// Writes which arguments decide something, with their types, and which are free text.
fn sorted<'a>(
    text: &mut String,
    reads: bool,
    arguments: impl Iterator<Item = (&'a str, Option<String>)>,
) {
    let mut typed = Vec::new();
    let mut content = Vec::new();
    for (name, kind) in arguments {
        match kind {
            Some(kind) => typed.push(format!("{} = {kind}", place_key(name))),
            None => content.push(key_text(name)),
        }
    }
    if !typed.is_empty() {
        let field = if reads { "queries" } else { "sinks" };
        let _ = writeln!(text, "{field} = {{ {} }}", typed.join(", "));
    }
    if !content.is_empty() {
        let _ = writeln!(text, "content = [{}]", content.join(", "));
    }
}

/// The first line of what a server says of one of its own, as a comment.
fn summary(text: &mut String, said: &str) {
    let first = said.lines().next().unwrap_or_default();
    let first: String = first
        .chars()
        .filter(|c| !c.is_control())
        .take(160)
        .collect();
    if !first.is_empty() {
        let _ = writeln!(text, "# {first}");
    }
}

/// The type to start from; `None` for free text.
fn kind(name: &str, schema: &Value) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let parts: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let has = |words: &[&str]| parts.iter().any(|part| words.contains(part));
    let ends = |words: &[&str]| words.iter().any(|word| lower.ends_with(word));
    let schema = schema
        .get("items")
        .or_else(|| {
            let options = schema.get("anyOf")?.as_array()?;
            let real = options.iter().find(|option| option["type"] != "null")?;
            Some(real.get("items").unwrap_or(real))
        })
        .unwrap_or(schema);
    let format = schema
        .get("format")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let json = schema
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let kind = match format {
        "email" | "idn-email" => "address",
        "uri" | "iri" | "uri-reference" => "url",
        "date" => "date",
        "date-time" => "datetime",
        "time" => "time",
        "uuid" => "identifier",
        _ if has(&[
            "body",
            "content",
            "message",
            "text",
            "description",
            "comment",
            "note",
            "notes",
            "summary",
        ]) =>
        {
            return None;
        }
        _ if has(&[
            "email",
            "emails",
            "recipient",
            "recipients",
            "cc",
            "bcc",
            "to",
            "participants",
            "participant",
            "attendees",
            "user",
            "username",
            "channel",
            "assignee",
            "reviewer",
            "reviewers",
        ]) =>
        {
            "address"
        }
        _ if has(&["iban", "account", "bic"]) => "account",
        _ if has(&["url", "uri", "link", "href", "endpoint", "webhook"]) || ends(&["url"]) => "url",
        _ if has(&["path", "file", "filename", "directory", "folder"]) || ends(&["path"]) => "path",
        _ if has(&["id", "ids", "uuid", "key"]) || ends(&["id"]) => {
            let of: Vec<&str> = parts
                .iter()
                .copied()
                .filter(|part| !matches!(*part, "id" | "ids" | "uuid" | "key"))
                .collect();
            return Some(if of.is_empty() || of.iter().any(|part| part.is_empty()) {
                "\"identifier\"".to_owned()
            } else {
                format!("{{ type = \"identifier\", of = \"{}\" }}", of.join("-"))
            });
        }
        _ if has(&["password", "secret", "token"]) => "exact",
        _ if has(&["date", "day"]) => "date",
        _ if has(&["time", "start", "end", "deadline"]) => "datetime",
        _ if json == "number" || json == "integer" => "number",
        _ if json == "string" => "name",
        _ => "any",
    };
    Some(format!("\"{kind}\""))
}

/// An argument as a place: one that could be read as a path is written as a path.
fn place_key(name: &str) -> String {
    if name.is_empty() || name.starts_with('/') {
        key_text(&format!("/{}", name.replace('~', "~0").replace('/', "~1")))
    } else {
        key(name)
    }
}

/// A name as a key of TOML.
fn key(name: &str) -> String {
    let bare = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if bare {
        name.to_owned()
    } else {
        key_text(name)
    }
}

/// A text as a basic string of TOML, on one line.
fn key_text(name: &str) -> String {
    let mut text = String::from("\"");
    for c in name.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(text, "\\u{:04X}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::annotations::{Annotations, written};
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_draft_can_be_read_and_trusts_nothing() {
        let listed = json!({"tools": [
            {"name": "send_mail", "description": "Sends it.\nMore.", "inputSchema": {"properties": {
                "to": {"type": "array", "items": {"type": "string", "format": "email"}},
                "body": {"type": "string"}, "reply_to_id": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}},
            {"name": "list files", "annotations": {"readOnlyHint": true}, "inputSchema": {"properties": {"query": {"type": "string"}}}},
        ]});
        let text = draft("mail", &listed);
        assert!(text.contains("[tools.send_mail]"), "{text}");
        assert!(text.contains("to = \"address\""), "{text}");
        assert!(text.contains("content = [\"body\"]"), "{text}");
        let read = Annotations::parse(Path::new("mail.toml"), &text).unwrap();
        assert!(read.tool("list files").unwrap().reads);
        assert!(matches!(
            read.tool("send_mail").unwrap().trusted,
            crate::annotations::Trusted::Nothing
        ));
        assert!(written::is_kind("address") && !written::is_kind("adress"));
    }

    proptest! {
        #[test]
        fn whatever_a_server_calls_its_tools_the_draft_can_be_read(
            tool in ".{1,20}", argument in ".{0,20}", about in ".{0,60}",
        ) {
            let listed = json!([{ "name": tool, "description": about,
                "inputSchema": {"properties": {argument.clone(): {"type": "string"}}} }]);
            let read = Annotations::parse(Path::new("x.toml"), &draft("x", &listed));
            prop_assert!(read.is_ok(), "{:?}", read.err());
            if let Ok(read) = read {
                prop_assert_eq!(read.tools().collect::<Vec<_>>(), [tool.as_str()]);
            }
        }
    }
}
