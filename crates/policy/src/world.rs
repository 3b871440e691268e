//! The world: what decisions are made against. An immutable snapshot; a change makes a new one that
//! shares everything else with the old.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use model::{AgentName, Lifecycle, SegmentName, ServerName, Template, TemplateName};

use crate::entities::Known;
use crate::holds::Holds;
use crate::policies::Policies;
use crate::tools::ServerTools;

/// How many parts the agents are kept in. A change copies one part, not all agents.
const PARTS: usize = 256;

/// What decisions know of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFacts {
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// The segment that it belongs to, if any.
    pub segment: Option<SegmentName>,
    /// The human who answers for it, as an e-mail address.
    pub sponsor: String,
}

/// What decisions know of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// The segment that it belongs to, if any.
    pub segment: Option<SegmentName>,
    /// Whether it may be used at all.
    pub enabled: bool,
}

/// An immutable snapshot of agents, servers, templates and policies. Cheap to clone.
#[derive(Debug, Clone)]
pub struct World {
    policies: Arc<Policies>,
    agents: Arc<[Arc<Part>]>,
    servers: Arc<BTreeMap<ServerName, ServerEntry>>,
    templates: Arc<BTreeMap<TemplateName, Template>>,
    tools: Arc<BTreeMap<ServerName, Arc<ServerTools>>>,
    holds: Arc<Holds>,
}

type Part = BTreeMap<AgentName, AgentEntry>;

#[derive(Debug, Clone)]
pub(crate) struct AgentEntry {
    pub(crate) facts: AgentFacts,
    pub(crate) known: Arc<Known>,
}

#[derive(Debug, Clone)]
pub(crate) struct ServerEntry {
    pub(crate) facts: ServerFacts,
    pub(crate) known: Arc<Known>,
}

impl World {
    /// A world with policies, and nothing else in it.
    #[must_use]
    pub fn new(policies: Arc<Policies>) -> Self {
        let empty = Arc::new(Part::new());
        Self {
            policies,
            agents: (0..PARTS).map(|_| Arc::clone(&empty)).collect(),
            servers: Arc::default(),
            templates: Arc::default(),
            tools: Arc::default(),
            holds: Arc::default(),
        }
    }

    /// The policies.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// The world with other policies.
    #[must_use]
    pub fn with_policies(&self, policies: Arc<Policies>) -> Self {
        Self {
            policies,
            ..self.clone()
        }
    }

    /// The world with an agent added, or changed.
    #[must_use]
    pub fn with_agent(&self, name: AgentName, facts: AgentFacts) -> Self {
        self.with_agents([(name, facts)])
    }

    /// The world with many agents added, or changed.
    #[must_use]
    pub fn with_agents(&self, agents: impl IntoIterator<Item = (AgentName, AgentFacts)>) -> Self {
        let mut parts = self.agents.to_vec();
        for (name, facts) in agents {
            let part = Arc::make_mut(&mut parts[part_of(&name)]);
            // What Cedar sees is kept where nothing of it changes, and prepared requests with it.
            let same = part.get(&name).filter(|old| {
                old.facts.segment == facts.segment && old.facts.sponsor == facts.sponsor
            });
            let known = same.map_or_else(
                || Arc::new(Known::agent(&name, facts.segment.as_ref(), &facts.sponsor)),
                |old| Arc::clone(&old.known),
            );
            part.insert(name, AgentEntry { facts, known });
        }
        Self {
            agents: parts.into(),
            ..self.clone()
        }
    }

    /// The world without an agent.
    #[must_use]
    pub fn without_agent(&self, name: &AgentName) -> Self {
        let mut parts = self.agents.to_vec();
        Arc::make_mut(&mut parts[part_of(name)]).remove(name);
        Self {
            agents: parts.into(),
            ..self.clone()
        }
    }

    /// The world with these servers and no others.
    #[must_use]
    pub fn with_servers(&self, servers: BTreeMap<ServerName, ServerFacts>) -> Self {
        let entry = |(name, facts): (ServerName, ServerFacts)| {
            let same = self
                .servers
                .get(&name)
                .filter(|old| old.facts.segment == facts.segment);
            let known = same.map_or_else(
                || Arc::new(Known::server(&name, facts.segment.as_ref())),
                |old| Arc::clone(&old.known),
            );
            (name, ServerEntry { facts, known })
        };
        let servers = Arc::new(servers.into_iter().map(entry).collect());
        Self {
            servers,
            ..self.clone()
        }
    }

    /// The world with a server enabled or disabled; unchanged when there is no such server.
    #[must_use]
    pub fn with_server_enabled(&self, name: &ServerName, enabled: bool) -> Self {
        let mut servers = Arc::clone(&self.servers);
        if let Some(entry) = Arc::make_mut(&mut servers).get_mut(name) {
            entry.facts.enabled = enabled;
        }
        Self {
            servers,
            ..self.clone()
        }
    }

    /// The world with these templates and no others.
    #[must_use]
    pub fn with_templates(&self, templates: Arc<BTreeMap<TemplateName, Template>>) -> Self {
        Self {
            templates,
            ..self.clone()
        }
    }

    /// The world with what was approved of these servers' tools, and of no others.
    #[must_use]
    pub fn with_all_tools(&self, tools: BTreeMap<ServerName, Arc<ServerTools>>) -> Self {
        Self {
            tools: Arc::new(tools),
            ..self.clone()
        }
    }

    /// The world with what was approved of one server's tools changed.
    #[must_use]
    pub fn with_tools(&self, server: ServerName, of_server: Arc<ServerTools>) -> Self {
        let mut tools = Arc::clone(&self.tools);
        Arc::make_mut(&mut tools).insert(server, of_server);
        Self {
            tools,
            ..self.clone()
        }
    }

    /// What was approved of a server's tools; `None` where nobody asks for approval, as for servers that
    /// have no tools.
    #[must_use]
    pub fn tools(&self, server: &ServerName) -> Option<&Arc<ServerTools>> {
        self.tools.get(server)
    }

    /// The world with something else held back.
    #[must_use]
    pub fn with_holds(&self, holds: Holds) -> Self {
        Self {
            holds: Arc::new(holds),
            ..self.clone()
        }
    }

    /// What is held back by hand.
    #[must_use]
    pub fn holds(&self) -> &Holds {
        &self.holds
    }

    /// The templates, by name.
    #[must_use]
    pub fn templates(&self) -> &Arc<BTreeMap<TemplateName, Template>> {
        &self.templates
    }

    /// What is known of an agent.
    #[must_use]
    pub fn agent(&self, name: &AgentName) -> Option<&AgentFacts> {
        self.agent_entry(name).map(|entry| &entry.facts)
    }

    /// What is known of a server.
    #[must_use]
    pub fn server(&self, name: &ServerName) -> Option<&ServerFacts> {
        self.server_entry(name).map(|(_, entry)| &entry.facts)
    }

    /// All servers, by name.
    pub fn servers(&self) -> impl Iterator<Item = (&ServerName, &ServerFacts)> {
        self.servers
            .iter()
            .map(|(name, entry)| (name, &entry.facts))
    }

    pub(crate) fn agent_entry(&self, name: &AgentName) -> Option<&AgentEntry> {
        self.agents[part_of(name)].get(name)
    }

    pub(crate) fn server_entry(&self, name: &ServerName) -> Option<(&ServerName, &ServerEntry)> {
        self.servers.get_key_value(name)
    }
}

/// The part that an agent is kept in: the same in every world.
fn part_of(name: &AgentName) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(name.as_str());
    usize::try_from(hash % PARTS as u64).expect("below the number of parts")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        World::new(Arc::new(Policies::compile(&[]).unwrap()))
    }

    fn agent(lifecycle: Lifecycle, sponsor: &str) -> AgentFacts {
        AgentFacts {
            lifecycle,
            segment: None,
            sponsor: sponsor.to_owned(),
        }
    }

    #[test]
    fn a_change_leaves_the_old_world_as_it_was() {
        let name = AgentName::parse("triage").unwrap();
        let old = world().with_agent(name.clone(), agent(Lifecycle::Active, "ada@example.org"));
        let new = old.with_agent(
            name.clone(),
            agent(Lifecycle::Quarantined, "ada@example.org"),
        );
        assert_eq!(old.agent(&name).unwrap().lifecycle, Lifecycle::Active);
        assert_eq!(new.agent(&name).unwrap().lifecycle, Lifecycle::Quarantined);
        assert_eq!(new.without_agent(&name).agent(&name), None);
        let known = |world: &World| Arc::clone(&world.agent_entry(&name).unwrap().known);
        assert!(Arc::ptr_eq(&known(&old), &known(&new)));
        let other = new.with_agent(name.clone(), agent(Lifecycle::Active, "bob@example.org"));
        assert!(!Arc::ptr_eq(&known(&new), &known(&other)));
    }

    #[test]
    fn servers_are_replaced_as_a_whole() {
        let name = |text: &str| ServerName::parse(text).unwrap();
        let facts = ServerFacts {
            segment: None,
            enabled: true,
        };
        let world = world().with_servers(BTreeMap::from([(name("a"), facts.clone())]));
        let off = world.with_server_enabled(&name("a"), false);
        assert!(world.server(&name("a")).unwrap().enabled);
        assert!(!off.server(&name("a")).unwrap().enabled);
        assert_eq!(
            off.with_server_enabled(&name("b"), true).servers().count(),
            1
        );
        let replaced = off.with_servers(BTreeMap::from([(name("b"), facts)]));
        assert_eq!(replaced.server(&name("a")), None);
    }
}
