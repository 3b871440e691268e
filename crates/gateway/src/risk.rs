//! How bad agents and tasks look right now: numbers from 0 to 100 that decisions read without a lock.
//!
//! Whoever watches sets them, after each finding and as they fade; a task holds its own and that of its
//! agent, so that a decision looks nothing up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use model::AgentName;

/// The highest score.
pub const MOST: u8 = 100;

/// A score that changes while others read it.
#[derive(Debug, Default)]
pub struct Level(AtomicU8);

impl Level {
    /// The score now.
    #[must_use]
    pub fn get(&self) -> u8 {
        // Nothing else is ordered by it.
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the score; what is more than 100 is 100.
    pub(crate) fn set(&self, score: u8) {
        self.0.store(score.min(MOST), Ordering::Relaxed);
    }
}

/// The scores of agents. There are no more than agents, whose number is limited.
#[derive(Default)]
pub(crate) struct Levels(papaya::HashMap<AgentName, Arc<Level>>);

impl Levels {
    /// The level of an agent, shared by all who ask.
    pub(crate) fn of(&self, agent: &AgentName) -> Arc<Level> {
        let levels = self.0.pin();
        match levels.get(agent) {
            Some(level) => Arc::clone(level),
            None => Arc::clone(levels.get_or_insert_with(agent.clone(), Arc::default)),
        }
    }

    /// The score of an agent, which is 0 when nobody asked for its level before.
    pub(crate) fn score(&self, agent: &AgentName) -> u8 {
        self.0.pin().get(agent).map_or(0, |level| level.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_ask_share_one_level_and_it_is_a_score() {
        let levels = Levels::default();
        let agent = AgentName::parse("triage").unwrap();
        assert_eq!(levels.score(&agent), 0);
        let (one, other) = (levels.of(&agent), levels.of(&agent));
        one.set(255);
        assert_eq!(other.get(), MOST);
        assert_eq!(levels.score(&agent), MOST);
    }
}
