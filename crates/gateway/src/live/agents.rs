//! What is shared by all tasks of an agent.

use std::sync::Arc;

use model::AgentName;

use crate::pace::Pace;
use crate::risk::Level;

/// What is shared by all tasks of one agent.
#[derive(Debug, Default)]
pub(crate) struct OfAgent {
    /// How bad it looks.
    pub(crate) risk: Level,
    /// How fast it goes, with all its tasks together.
    pub(crate) pace: Pace,
    /// How fast it asks the control listener.
    pub(crate) control: Pace,
}

/// All agents that somebody asked for. There are no more than agents, whose number is limited.
#[derive(Default)]
pub(crate) struct Agents(papaya::HashMap<AgentName, Arc<OfAgent>>);

impl Agents {
    /// What is shared by an agent's tasks, and by all who ask.
    pub(crate) fn of(&self, agent: &AgentName) -> Arc<OfAgent> {
        let agents = self.0.pin();
        match agents.get(agent) {
            Some(known) => Arc::clone(known),
            None => Arc::clone(agents.get_or_insert_with(agent.clone(), Arc::default)),
        }
    }

    /// The same, if somebody asked for it before.
    pub(crate) fn known(&self, agent: &AgentName) -> Option<Arc<OfAgent>> {
        self.0.pin().get(agent).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_ask_share_one() {
        let agents = Agents::default();
        let triage = AgentName::parse("triage").unwrap();
        assert!(agents.known(&triage).is_none());
        let (one, other) = (agents.of(&triage), agents.of(&triage));
        one.risk.set(7);
        assert_eq!(other.risk.get(), 7);
        assert!(Arc::ptr_eq(&one, &agents.known(&triage).unwrap()));
    }
}
