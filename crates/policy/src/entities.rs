//! The Cedar entities of a request. Making them is costly, so those of agents and servers are made
//! once, when the world changes.

use std::collections::HashMap;
use std::sync::LazyLock;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression,
};
use model::{AgentName, Operation, Proof, SegmentName, ServerName, TableOperation, Task};

/// The actions of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    CallTool,
    ReadResource,
    GetPrompt,
    Converse,
    Answer,
    Request,
    Generate,
    Message,
    Select,
    Insert,
    Update,
    Delete,
    Connect,
}

impl Verb {
    pub(crate) const ALL: [Self; 13] = [
        Self::CallTool,
        Self::ReadResource,
        Self::GetPrompt,
        Self::Converse,
        Self::Answer,
        Self::Request,
        Self::Generate,
        Self::Message,
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Connect,
    ];

    /// The action that an operation is; a statement is one for each table that it touches.
    pub(crate) fn of(operation: &Operation) -> Option<Self> {
        match operation {
            Operation::CallTool { .. } => Some(Self::CallTool),
            Operation::ReadResource { .. } => Some(Self::ReadResource),
            Operation::GetPrompt { .. } => Some(Self::GetPrompt),
            Operation::Converse => Some(Self::Converse),
            Operation::Answer { .. } => Some(Self::Answer),
            Operation::Request { .. } => Some(Self::Request),
            Operation::Generate { .. } => Some(Self::Generate),
            Operation::Message { .. } => Some(Self::Message),
            Operation::Connect { .. } => Some(Self::Connect),
            Operation::Query { .. } => None,
        }
    }

    pub(crate) fn of_table(operation: TableOperation) -> Self {
        match operation {
            TableOperation::Select => Self::Select,
            TableOperation::Insert => Self::Insert,
            TableOperation::Update => Self::Update,
            TableOperation::Delete => Self::Delete,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::CallTool => "call_tool",
            Self::ReadResource => "read_resource",
            Self::GetPrompt => "get_prompt",
            Self::Converse => "converse",
            Self::Answer => "answer",
            Self::Request => "request",
            Self::Generate => "generate",
            Self::Message => "message",
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Connect => "connect",
        }
    }

    pub(crate) fn uid(self) -> &'static EntityUid {
        &NAMES.actions[self as usize]
    }
}

/// Names of the schema, parsed once.
struct Names {
    agent: EntityTypeName,
    segment: EntityTypeName,
    server: EntityTypeName,
    template: EntityTypeName,
    tool: EntityTypeName,
    resource: EntityTypeName,
    prompt: EntityTypeName,
    endpoint: EntityTypeName,
    model: EntityTypeName,
    skill: EntityTypeName,
    table: EntityTypeName,
    actions: [EntityUid; 13],
}

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let name = |text: &str| -> EntityTypeName {
        format!("Sallyport::{text}")
            .parse()
            .expect("a name of the schema")
    };
    Names {
        agent: name("Agent"),
        segment: name("Segment"),
        server: name("Server"),
        template: name("Template"),
        tool: name("Tool"),
        resource: name("McpResource"),
        prompt: name("Prompt"),
        endpoint: name("Endpoint"),
        model: name("Model"),
        skill: name("Skill"),
        table: name("Table"),
        actions: Verb::ALL.map(|verb| uid(&name("Action"), verb.as_str())),
    }
});

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn entity(uid: EntityUid, attributes: &[(&str, &str)], parent: Option<&EntityUid>) -> Entity {
    let attributes = attributes
        .iter()
        .map(|(name, value)| ((*name).to_owned(), text(value)));
    Entity::new(
        uid,
        HashMap::from_iter(attributes),
        parent.cloned().into_iter().collect(),
    )
    .expect("text attributes evaluate to themselves")
}

/// An agent or a server as Cedar sees it: its entity, and all that it is `in`.
#[derive(Debug)]
pub(crate) struct Known {
    uid: EntityUid,
    entity: Entity,
    /// Itself, and what it belongs to.
    scope: Vec<EntityUid>,
}

impl Known {
    pub(crate) fn agent(name: &AgentName, segment: Option<&SegmentName>, sponsor: &str) -> Self {
        let uid = uid(&NAMES.agent, name.as_str());
        Self::new(
            uid,
            &[("name", name.as_str()), ("sponsor", sponsor)],
            segment,
        )
    }

    pub(crate) fn server(name: &ServerName, segment: Option<&SegmentName>) -> Self {
        Self::new(uid(&NAMES.server, name.as_str()), &[], segment)
    }

    fn new(own: EntityUid, attributes: &[(&str, &str)], segment: Option<&SegmentName>) -> Self {
        let segment = segment.map(|segment| uid(&NAMES.segment, segment.as_str()));
        Self {
            entity: entity(own.clone(), attributes, segment.as_ref()),
            scope: std::iter::once(own.clone()).chain(segment).collect(),
            uid: own,
        }
    }

    pub(crate) fn uid(&self) -> &EntityUid {
        &self.uid
    }

    pub(crate) fn scope(&self) -> &[EntityUid] {
        &self.scope
    }
}

/// What a request touches, with all that it is `in`.
pub(crate) struct Touched {
    pub(crate) uid: EntityUid,
    entity: Option<Entity>,
    pub(crate) scope: Vec<EntityUid>,
}

impl Touched {
    /// The tool, resource, prompt, endpoint, model, skill, table or server itself. `target` is its name at the server.
    pub(crate) fn new(name: &ServerName, server: &Known, verb: Verb, target: &str) -> Self {
        // What is in front of the first separator, and what is behind it.
        let parts = |separator| target.split_once(separator).unwrap_or((target, ""));
        let attributes: Vec<(&str, &str)> = match verb {
            Verb::CallTool | Verb::GetPrompt | Verb::Generate | Verb::Message => {
                vec![("name", target)]
            }
            Verb::ReadResource => vec![("uri", target)],
            Verb::Request => {
                let (method, path) = parts(' ');
                vec![("method", method), ("path", path)]
            }
            Verb::Select | Verb::Insert | Verb::Update | Verb::Delete => {
                let (schema, table) = parts('.');
                vec![("schema", schema), ("name", table)]
            }
            Verb::Converse | Verb::Answer | Verb::Connect => {
                return Self {
                    uid: server.uid.clone(),
                    entity: None,
                    scope: server.scope.clone(),
                };
            }
        };
        // A server's name has no `/`, so the id says unambiguously which server is meant.
        let own = uid(resource_type(verb), &format!("{name}/{target}"));
        Self {
            entity: Some(entity(own.clone(), &attributes, Some(&server.uid))),
            scope: std::iter::once(&own)
                .chain(&server.scope)
                .cloned()
                .collect(),
            uid: own,
        }
    }
}

/// The entities of one request: nothing else can matter to it.
pub(crate) fn store(principal: &Known, server: &Known, touched: &Touched) -> Entities {
    let entities = [
        Some(&principal.entity),
        Some(&server.entity),
        touched.entity.as_ref(),
    ];
    Entities::from_entities(entities.into_iter().flatten().cloned(), None)
        .expect("three different entities whose parents form no cycle")
}

/// The context of one request.
pub(crate) fn context(task: &Task, proof: Proof, risk: u8, request: Option<&str>) -> Context {
    let template =
        RestrictedExpression::new_entity_uid(uid(&NAMES.template, task.template.as_str()));
    let pairs = [
        ("task", text(&task.id.to_string())),
        ("template", template),
        ("purpose", text(&task.purpose)),
        ("proof", text(proof.as_str())),
        ("risk", RestrictedExpression::new_long(i64::from(risk))),
    ];
    let request = request.map(|request| ("request", text(request)));
    let pairs = pairs.into_iter().chain(request);
    Context::from_pairs(pairs.map(|(name, value)| (name.to_owned(), value)))
        .expect("different names with values that evaluate to themselves")
}

/// The types that policies may scope their resource to with `is`, by action.
pub(crate) fn resource_type(verb: Verb) -> &'static EntityTypeName {
    match verb {
        Verb::CallTool => &NAMES.tool,
        Verb::ReadResource => &NAMES.resource,
        Verb::GetPrompt => &NAMES.prompt,
        Verb::Request => &NAMES.endpoint,
        Verb::Generate => &NAMES.model,
        Verb::Message => &NAMES.skill,
        Verb::Select | Verb::Insert | Verb::Update | Verb::Delete => &NAMES.table,
        Verb::Converse | Verb::Answer | Verb::Connect => &NAMES.server,
    }
}

/// The type of every principal.
pub(crate) fn principal_type() -> &'static EntityTypeName {
    &NAMES.agent
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_say_which_server_is_meant() {
        let name = |text: &str| ServerName::parse(text).unwrap();
        let (a, ab) = (name("a"), name("a-b"));
        let known = Known::server(&a, None);
        let ids: HashSet<String> = [(&a, "b/c"), (&a, "c"), (&ab, "c"), (&a, "\"::x"), (&a, "")]
            .into_iter()
            .map(|(server, target)| {
                Touched::new(server, &known, Verb::CallTool, target)
                    .uid
                    .to_string()
            })
            .collect();
        assert_eq!(ids.len(), 5);
        let tool = Touched::new(&a, &known, Verb::CallTool, "x").uid;
        assert_eq!(tool.to_string(), r#"Sallyport::Tool::"a/x""#);
    }
}
