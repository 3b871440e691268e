//! What is known of one task while it runs.

use std::collections::{BTreeSet, VecDeque};

use jiff::Timestamp;
use model::{AgentName, ServerName};
use serde::{Deserialize, Serialize};

/// Steps of a task that are remembered for finding loops.
const STEPS: usize = 24;
/// Equal steps in a row, or rounds of a loop, that are too many.
const ROUNDS: usize = 8;
/// Longest loop that is looked for, in steps.
const LOOP: usize = 3;

/// One task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Watched {
    pub(super) agent: AgentName,
    pub(super) template: String,
    pub(super) last: Option<u64>,
    steps: VecDeque<u64>,
    /// Where something sensitive was read, and when.
    pub(super) read: Option<(ServerName, String, Timestamp)>,
    pub(super) added: u32,
    /// What was told of this task already: what is odd.
    told: BTreeSet<String>,
    /// What is bad. It has room of its own, so that no flood of odd things hides it.
    #[serde(default)]
    told_bad: BTreeSet<String>,
}

/// Most odd things that are told of one task.
const TOLD: usize = 48;
/// Most bad things that are told of one task.
const TOLD_BAD: usize = 48;

impl Watched {
    pub(super) fn new(agent: AgentName, template: String) -> Self {
        Self {
            agent,
            template,
            last: None,
            steps: VecDeque::new(),
            read: None,
            added: 0,
            told: BTreeSet::new(),
            told_bad: BTreeSet::new(),
        }
    }

    /// Whether something odd is to be told: once for each task, and no more than 48 things.
    pub(super) fn tell(&mut self, what: &str) -> bool {
        self.told.len() < TOLD && self.told.insert(what.to_owned())
    }

    /// The same for something bad.
    pub(super) fn tell_bad(&mut self, what: &str) -> bool {
        self.told_bad.len() < TOLD_BAD && self.told_bad.insert(what.to_owned())
    }

    /// Remembers a step; the length and the rounds of the loop that it closes, if it does.
    pub(super) fn step(&mut self, step: u64) -> Option<(usize, usize)> {
        if self.steps.len() == STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
        let newest: Vec<u64> = self.steps.iter().rev().copied().collect();
        (1..=LOOP).find_map(|length| {
            let same = newest
                .iter()
                .zip(newest.iter().skip(length))
                .take_while(|(a, b)| a == b)
                .count();
            let rounds = same / length + 1;
            (rounds >= ROUNDS).then_some((length, rounds))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> Watched {
        Watched::new(AgentName::parse("a").unwrap(), "t".into())
    }

    #[test]
    fn loops_are_found_and_work_is_not() {
        let mut task = watched();
        assert!((0..7).all(|_| task.step(1).is_none()));
        assert_eq!(task.step(1), Some((1, 8)));
        let mut task = watched();
        let told = (0..24).filter_map(|n| task.step(n % 3)).next();
        assert_eq!(told, Some((3, 8)));
        let mut task = watched();
        assert!((0..1_000).all(|n| task.step(n * n % 101).is_none()));
    }

    #[test]
    fn a_thing_is_told_once() {
        let mut task = watched();
        assert!(task.tell("x") && !task.tell("x"));
        assert!((0..1_000).filter(|n| task.tell(&n.to_string())).count() < TOLD);
        assert!(task.tell_bad("x"), "odd things leave room for bad ones");
    }
}
