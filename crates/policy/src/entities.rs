//! The Cedar entities of a request. Making them is costly, so those of agents and servers are made
//! once, when the world changes.

use std::collections::HashMap;
use std::sync::LazyLock;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression,
};
use model::{AgentName, Operation, Proof, SegmentName, ServerName, Task};

/// The actions of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    CallTool,
    ReadResource,
    GetPrompt,
    Converse,
    Answer,
}

impl Verb {
    pub(crate) const ALL: [Self; 5] = [
        Self::CallTool,
        Self::ReadResource,
        Self::GetPrompt,
        Self::Converse,
        Self::Answer,
    ];

    pub(crate) fn of(operation: &Operation) -> Self {
        match operation {
            Operation::CallTool { .. } => Self::CallTool,
            Operation::ReadResource { .. } => Self::ReadResource,
            Operation::GetPrompt { .. } => Self::GetPrompt,
            Operation::Converse => Self::Converse,
            Operation::Answer { .. } => Self::Answer,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::CallTool => "call_tool",
            Self::ReadResource => "read_resource",
            Self::GetPrompt => "get_prompt",
            Self::Converse => "converse",
            Self::Answer => "answer",
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
    actions: [EntityUid; 5],
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
        actions: Verb::ALL.map(|verb| uid(&name("Action"), verb.as_str())),
    }
});

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn entity<const N: usize>(
    uid: EntityUid,
    attributes: [(&str, &str); N],
    parent: Option<&EntityUid>,
) -> Entity {
    let attributes = attributes.map(|(name, value)| (name.to_owned(), text(value)));
    Entity::new(
        uid,
        HashMap::from(attributes),
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
            [("name", name.as_str()), ("sponsor", sponsor)],
            segment,
        )
    }

    pub(crate) fn server(name: &ServerName, segment: Option<&SegmentName>) -> Self {
        Self::new(uid(&NAMES.server, name.as_str()), [], segment)
    }

    fn new<const N: usize>(
        own: EntityUid,
        attributes: [(&str, &str); N],
        segment: Option<&SegmentName>,
    ) -> Self {
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
    /// The tool, resource, prompt or server itself. `target` is its name at the server.
    pub(crate) fn new(name: &ServerName, server: &Known, verb: Verb, target: &str) -> Self {
        let (kind, attribute) = match verb {
            Verb::CallTool => (&NAMES.tool, "name"),
            Verb::ReadResource => (&NAMES.resource, "uri"),
            Verb::GetPrompt => (&NAMES.prompt, "name"),
            Verb::Converse | Verb::Answer => {
                return Self {
                    uid: server.uid.clone(),
                    entity: None,
                    scope: server.scope.clone(),
                };
            }
        };
        // A server's name has no `/`, so the id says unambiguously which server is meant.
        let own = uid(kind, &format!("{name}/{target}"));
        Self {
            entity: Some(entity(
                own.clone(),
                [(attribute, target)],
                Some(&server.uid),
            )),
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
pub(crate) fn context(task: &Task, proof: Proof, request: Option<&str>) -> Context {
    let template =
        RestrictedExpression::new_entity_uid(uid(&NAMES.template, task.template.as_str()));
    let pairs = [
        ("task", text(&task.id.to_string())),
        ("template", template),
        ("purpose", text(&task.purpose)),
        ("proof", text(proof.as_str())),
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
        Verb::Converse | Verb::Answer => &NAMES.server,
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
