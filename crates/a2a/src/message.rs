//! What a message says: which skill, in which conversation, and its content as arguments that
//! constraints can be about. Pure.
//!
//! Only members that the protocol has are let through, each under the one name that it has in JSON:
//! readers of ProtoJSON also take `task_id` for `taskId`, so that what is decided on and what is
//! acted on could differ.

use serde_json::{Map, Value, json};

use crate::method::Dialect;
use crate::refusal::{Fault, Refusal};

/// The member of `metadata` that names the skill; and its short form.
pub const SKILL: &str = "sallyport.skill";
/// The short form of [`SKILL`].
pub const SKILL_ID: &str = "skillId";
/// The member of the forwarded message's `metadata` that names the sub-task to act under.
pub const TASK: &str = "sallyport.task";
/// What members of `metadata` begin with that are the gateway's.
const OWN: &str = "sallyport.";

/// Longest id, in bytes.
pub const ID_BYTES: usize = 256;
/// Most parts of a message, and most tasks that it refers to.
const MOST: usize = 256;

/// What a message says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    /// The skill that it names.
    pub skill: Option<String>,
    /// The task that it goes on with.
    pub task: Option<String>,
    /// The context that it belongs to.
    pub context: Option<String>,
    /// Other tasks that it refers to.
    pub references: Vec<String>,
    /// Its content: `text`, `data.NAME` or `data`, `files`, `file_uris`, `metadata.NAME`.
    pub arguments: Map<String, Value>,
    /// Whether it asks for push notifications.
    pub push: Option<Map<String, Value>>,
}

fn wrong(message: impl Into<String>) -> Refusal {
    Refusal::new(Fault::InvalidParams, message)
}

/// Drops members that are null, which is how ProtoJSON writes what is not there, and refuses those
/// that are none of the known ones.
///
/// # Errors
/// [`Refusal`] that names the member.
pub fn known(place: &str, members: &mut Map<String, Value>, names: &[&str]) -> Result<(), Refusal> {
    members.retain(|_, value| !value.is_null());
    match members.keys().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(wrong(format!(
            "`{place}` has a member that the protocol does not know: `{}`",
            name.chars().take(64).collect::<String>().escape_debug()
        ))),
    }
}

/// A text member.
///
/// # Errors
/// [`Refusal`] when it is no text.
pub fn text<'a>(
    place: &str,
    members: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a str>, Refusal> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(format!("`{place}.{name}` is not text"))),
    }
}

/// An id: text that is neither empty nor long, without control characters. An empty one is the same
/// as none in ProtoJSON.
///
/// # Errors
/// [`Refusal`] when it is not that.
pub fn id(
    place: &str,
    members: &Map<String, Value>,
    name: &str,
) -> Result<Option<String>, Refusal> {
    match text(place, members, name)? {
        None | Some("") => Ok(None),
        Some(id) if id.len() <= ID_BYTES && !id.chars().any(char::is_control) => {
            Ok(Some(id.to_owned()))
        }
        Some(_) => Err(wrong(format!(
            "`{place}.{name}` has control characters, or more than {ID_BYTES} bytes"
        ))),
    }
}

/// Reads the parameters of a message that is sent, and takes out of them what means nothing.
///
/// # Errors
/// [`Refusal`] for whatever the protocol, or this gateway, does not allow.
pub fn read(dialect: Dialect, params: &mut Map<String, Value>) -> Result<Said, Refusal> {
    let names: &[&str] = match dialect {
        Dialect::V1 => &["tenant", "message", "configuration", "metadata"],
        Dialect::V03 => &["message", "configuration", "metadata"],
    };
    known("params", params, names)?;
    no_tenant(params)?;
    let mut said = Said::default();
    if let Some(configuration) = object_mut("params", params, "configuration")? {
        said.push = self::configuration(dialect, configuration)?;
    }
    let mut skills = Vec::new();
    if let Some(metadata) = object_mut("params", params, "metadata")? {
        take_metadata(metadata, &mut said.arguments, &mut skills)?;
    }
    let message = object_mut("params", params, "message")?
        .ok_or_else(|| wrong("`params.message` is missing"))?;
    let names: &[&str] = match dialect {
        Dialect::V1 => &MESSAGE[1..],
        Dialect::V03 => &MESSAGE,
    };
    known("message", message, names)?;
    let (kind, role) = match dialect {
        Dialect::V1 => (None, "ROLE_USER"),
        Dialect::V03 => (Some("message"), "user"),
    };
    if text("message", message, "kind")?.is_some_and(|it| Some(it) != kind) {
        return Err(wrong("`message.kind` is not `message`"));
    }
    if text("message", message, "role")? != Some(role) {
        return Err(wrong(format!(
            "`message.role` is not `{role}`: an agent that asks is a user of the one that is asked"
        )));
    }
    if id("message", message, "messageId")?.is_none() {
        return Err(wrong("`message.messageId` is missing"));
    }
    said.task = id("message", message, "taskId")?;
    said.context = id("message", message, "contextId")?;
    said.references = references(message)?;
    texts("message", message, "extensions")?;
    if let Some(metadata) = object_mut("message", message, "metadata")? {
        take_metadata(metadata, &mut said.arguments, &mut skills)?;
    }
    said.skill = skills.pop();
    if skills
        .iter()
        .any(|other| Some(other) != said.skill.as_ref())
    {
        return Err(wrong("the metadata names more than one skill"));
    }
    let Some(Value::Array(parts)) = message.get_mut("parts") else {
        return Err(wrong("`message.parts` is missing, or no list"));
    };
    if parts.is_empty() || parts.len() > MOST {
        return Err(wrong(format!("a message has 1 to {MOST} parts")));
    }
    let mut content = Content::default();
    for part in parts {
        let Value::Object(part) = part else {
            return Err(wrong("a part is not an object"));
        };
        match dialect {
            Dialect::V1 => content.part(part)?,
            Dialect::V03 => content.part_03(part)?,
        }
    }
    content.into_arguments(&mut said.arguments);
    Ok(said)
}

/// The members of a message. `kind` is of 0.3 alone.
const MESSAGE: [&str; 9] = [
    "kind",
    "messageId",
    "contextId",
    "taskId",
    "role",
    "parts",
    "metadata",
    "extensions",
    "referenceTaskIds",
];

/// Refuses a tenant: which agent is asked is said by the URL, and nowhere else.
///
/// # Errors
/// [`Refusal`] when there is one.
pub fn no_tenant(params: &mut Map<String, Value>) -> Result<(), Refusal> {
    match text("params", params, "tenant")? {
        None => Ok(()),
        Some("") => {
            params.remove("tenant");
            Ok(())
        }
        Some(_) => Err(wrong("`tenant` is not offered: each agent has its own URL")),
    }
}

fn object_mut<'a>(
    place: &str,
    members: &'a mut Map<String, Value>,
    name: &str,
) -> Result<Option<&'a mut Map<String, Value>>, Refusal> {
    match members.get_mut(name) {
        None => Ok(None),
        Some(Value::Object(members)) => Ok(Some(members)),
        Some(_) => Err(wrong(format!("`{place}.{name}` is not an object"))),
    }
}

fn texts(place: &str, members: &Map<String, Value>, name: &str) -> Result<Vec<String>, Refusal> {
    let items = match members.get(name) {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() <= MOST => items,
        Some(_) => {
            return Err(wrong(format!(
                "`{place}.{name}` is no list of at most {MOST}"
            )));
        }
    };
    let text = |item: &Value| match item {
        Value::String(text) if text.len() <= 2_048 => Ok(text.clone()),
        _ => Err(wrong(format!(
            "`{place}.{name}` has something but short text in it"
        ))),
    };
    items.iter().map(text).collect()
}

fn references(message: &Map<String, Value>) -> Result<Vec<String>, Refusal> {
    texts("message", message, "referenceTaskIds")
}

/// The configuration of a message; returns the webhook that it asks for.
fn configuration(
    dialect: Dialect,
    members: &mut Map<String, Value>,
) -> Result<Option<Map<String, Value>>, Refusal> {
    let push = push_member(dialect);
    let wait = match dialect {
        Dialect::V1 => "returnImmediately",
        Dialect::V03 => "blocking",
    };
    let names = ["acceptedOutputModes", push, "historyLength", wait];
    known("configuration", members, &names)?;
    texts("configuration", members, "acceptedOutputModes")?;
    for flag in ["returnImmediately", "blocking"] {
        if members.get(flag).is_some_and(|flag| !flag.is_boolean()) {
            return Err(wrong(format!(
                "`configuration.{flag}` is neither true nor false"
            )));
        }
    }
    if members
        .get("historyLength")
        .is_some_and(|it| it.as_u64().is_none())
    {
        return Err(wrong("`configuration.historyLength` is no whole number"));
    }
    match members.remove(push) {
        None => Ok(None),
        Some(Value::Object(config)) => Ok(Some(config)),
        Some(_) => Err(wrong(format!("`configuration.{push}` is not an object"))),
    }
}

/// Takes the skill out of metadata; the rest is content, which constraints can be about.
fn take_metadata(
    metadata: &mut Map<String, Value>,
    arguments: &mut Map<String, Value>,
    skills: &mut Vec<String>,
) -> Result<(), Refusal> {
    for name in [SKILL, SKILL_ID] {
        match metadata.remove(name) {
            None => {}
            Some(Value::String(skill)) if !skill.is_empty() && skill.len() <= ID_BYTES => {
                skills.push(skill);
            }
            Some(_) => return Err(wrong(format!("`metadata.{name}` is not the id of a skill"))),
        }
    }
    for (name, value) in metadata.iter() {
        let own = name.get(..OWN.len());
        if own.is_some_and(|start| start.eq_ignore_ascii_case(OWN)) {
            return Err(wrong(format!(
                "members of metadata that begin with `{OWN}` are the gateway's, but for `{SKILL}`"
            )));
        }
        put(arguments, format!("metadata.{name}"), value.clone())?;
    }
    Ok(())
}

/// Adds an argument that is not there yet: of two with one name, a constraint would see one only.
fn put(arguments: &mut Map<String, Value>, name: String, value: Value) -> Result<(), Refusal> {
    if arguments.contains_key(&name) {
        return Err(wrong(format!(
            "`{}` stands twice in the message",
            name.chars().take(64).collect::<String>().escape_debug()
        )));
    }
    arguments.insert(name, value);
    Ok(())
}

/// The content of the parts.
#[derive(Default)]
struct Content {
    text: Vec<String>,
    data: Map<String, Value>,
    files: Vec<Value>,
    uris: Vec<Value>,
}

impl Content {
    fn into_arguments(self, arguments: &mut Map<String, Value>) {
        if !self.text.is_empty() {
            arguments.insert("text".to_owned(), self.text.join("\n").into());
        }
        arguments.extend(self.data);
        if !self.files.is_empty() {
            arguments.insert("files".to_owned(), self.files.into());
        }
        if !self.uris.is_empty() {
            arguments.insert("file_uris".to_owned(), self.uris.into());
        }
    }

    fn data(&mut self, value: &Value) -> Result<(), Refusal> {
        match value {
            Value::Object(members) => members.iter().try_for_each(|(name, value)| {
                put(&mut self.data, format!("data.{name}"), value.clone())
            }),
            other => put(&mut self.data, "data".to_owned(), other.clone()),
        }
    }

    fn metadata(&mut self, part: &mut Map<String, Value>) -> Result<(), Refusal> {
        let Some(metadata) = object_mut("part", part, "metadata")? else {
            return Ok(());
        };
        metadata.iter().try_for_each(|(name, value)| {
            put(&mut self.data, format!("part.{name}"), value.clone())
        })
    }

    fn file(
        &mut self,
        name: Option<&str>,
        kind: Option<&str>,
        uri: Option<&str>,
        bytes: Option<usize>,
    ) -> Result<(), Refusal> {
        let mut file = Map::new();
        let texts = [("name", name), ("mime_type", kind), ("uri", uri)];
        for (member, text) in texts {
            if let Some(text) = text {
                file.insert(member.to_owned(), text.into());
            }
        }
        if let Some(uri) = uri {
            fetchable(uri)?;
            self.uris.push(uri.into());
        }
        if let Some(bytes) = bytes {
            file.insert("base64_bytes".to_owned(), json!(bytes));
        }
        self.files.push(file.into());
        Ok(())
    }

    /// A part of 1.0 (§4.1.6): exactly one content.
    fn part(&mut self, part: &mut Map<String, Value>) -> Result<(), Refusal> {
        let names = [
            "text",
            "raw",
            "url",
            "data",
            "metadata",
            "filename",
            "mediaType",
        ];
        // A part whose data is null has data.
        let null_data = part.get("data").is_some_and(Value::is_null);
        known("part", part, &names)?;
        if null_data {
            return Err(wrong("`part.data` is null"));
        }
        self.metadata(part)?;
        let contents = ["text", "raw", "url", "data"];
        if contents.iter().filter(|it| part.contains_key(**it)).count() != 1 {
            return Err(wrong(
                "a part has exactly one of `text`, `raw`, `url` and `data`",
            ));
        }
        let (name, kind) = (
            text("part", part, "filename")?,
            text("part", part, "mediaType")?,
        );
        let (raw, url) = (text("part", part, "raw")?, text("part", part, "url")?);
        if let Some(said) = text("part", part, "text")? {
            self.text.push(said.to_owned());
        } else if let Some(data) = part.get("data") {
            self.data(data)?;
        }
        if raw.is_some() || url.is_some() || name.is_some() {
            self.file(name, kind, url, raw.map(str::len))?;
        }
        Ok(())
    }

    /// A part of 0.3 (§6.5): its kind says which content it has.
    fn part_03(&mut self, part: &mut Map<String, Value>) -> Result<(), Refusal> {
        let kind = text("part", part, "kind")?.unwrap_or_default().to_owned();
        let content = match kind.as_str() {
            "text" | "file" | "data" => kind.as_str(),
            _ => return Err(wrong("`part.kind` is none of `text`, `file` and `data`")),
        };
        known("part", part, &["kind", content, "metadata"])?;
        self.metadata(part)?;
        let missing = || wrong(format!("`part.{content}` is missing"));
        match content {
            "text" => {
                let said = text("part", part, "text")?.ok_or_else(missing)?;
                self.text.push(said.to_owned());
                Ok(())
            }
            "data" => match part.get("data") {
                Some(data @ Value::Object(_)) => self.data(data),
                _ => Err(wrong("`part.data` is not an object")),
            },
            _ => {
                let file = object_mut("part", part, "file")?.ok_or_else(missing)?;
                known("file", file, &["name", "mimeType", "bytes", "uri"])?;
                let bytes = text("file", file, "bytes")?.map(str::len);
                let uri = text("file", file, "uri")?;
                if bytes.is_some() == uri.is_some() {
                    return Err(wrong("a file has exactly one of `bytes` and `uri`"));
                }
                let (name, kind) = (text("file", file, "name")?, text("file", file, "mimeType")?);
                self.file(name, kind, uri, bytes)
            }
        }
    }
}

/// Whether a URI is one that another agent may be sent to at all; which ones, the grant says.
fn fetchable(uri: &str) -> Result<(), Refusal> {
    let refuse = |why| {
        Err(wrong(format!(
            "the URI of a file cannot be passed on: {why}"
        )))
    };
    let clean = uri.len() <= 2_048
        && uri
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'"' | b'<' | b'>'));
    if !clean {
        return refuse("it is long, or has characters that a URI has not");
    }
    let rest = uri
        .strip_prefix("https://")
        .or_else(|| uri.strip_prefix("http://"));
    let Some(rest) = rest else {
        return refuse("it is neither http nor https, in small letters");
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains('@') {
        return refuse("it names no host, or a user");
    }
    Ok(())
}

/// Puts the webhook that the other agent is to notify into the message that is forwarded.
pub fn push_to(dialect: Dialect, params: &mut Map<String, Value>, config: Value) {
    let configuration = params
        .entry("configuration")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(configuration) = configuration {
        configuration.insert(push_member(dialect).to_owned(), config);
    }
}

/// The member of a message's configuration that asks for notifications.
fn push_member(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::V1 => "taskPushNotificationConfig",
        Dialect::V03 => "pushNotificationConfig",
    }
}

/// Puts the skill that was decided on, and the sub-task to act under, into the message that is
/// forwarded.
pub fn mark(params: &mut Map<String, Value>, skill: &str, task: Option<&str>) {
    let Some(Value::Object(message)) = params.get_mut("message") else {
        return;
    };
    let metadata = message
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(metadata) = metadata {
        metadata.insert(SKILL.to_owned(), skill.into());
        metadata.insert(SKILL_ID.to_owned(), skill.into());
        if let Some(task) = task {
            metadata.insert(TASK.to_owned(), task.into());
        }
    }
}

#[cfg(test)]
mod tests;
