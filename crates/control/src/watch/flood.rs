//! How many findings get a record of their own.
//!
//! Whoever can cause findings could fill the log with them, or bury one among them. So each agent has a
//! bounded number of records, and what matters most has one apart. A finding without a record is in its
//! incident all the same, and the next record says how many there were.

use std::collections::HashMap;

use model::AgentName;
use model::inspection::Severity;

/// Records at once, and per second after that, for small findings of one agent.
const SMALL: Rate = Rate(30.0, 0.5);
/// The same for high and critical ones.
const GRAVE: Rate = Rate(60.0, 1.0);
/// The same for small findings of all agents together.
const ALL: Rate = Rate(2_000.0, 100.0);
/// Most agents that are counted one by one.
const AGENTS: usize = 8_192;

/// How much at once, and per second.
#[derive(Clone, Copy)]
struct Rate(f64, f64);

#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at: i64,
}

impl Bucket {
    fn full(rate: Rate, second: i64) -> Self {
        Self {
            left: rate.0,
            at: second,
        }
    }

    fn take(&mut self, rate: Rate, second: i64) -> bool {
        let passed = second.saturating_sub(self.at).max(0) as f64;
        self.left = (self.left + passed * rate.1).min(rate.0);
        self.at = self.at.max(second);
        let has = self.left >= 1.0;
        if has {
            self.left -= 1.0;
        }
        has
    }
}

/// What is left of the records.
pub(super) struct Flood {
    agents: HashMap<(Option<AgentName>, bool), Bucket>,
    all: Bucket,
    unrecorded: u64,
}

impl Default for Flood {
    fn default() -> Self {
        Self {
            agents: HashMap::new(),
            all: Bucket::full(ALL, 0),
            unrecorded: 0,
        }
    }
}

impl Flood {
    /// Whether a finding gets a record; then how many did not since the last one. `first` is one that is new
    /// in kind: it always gets one, since there are few kinds.
    pub(super) fn admits(
        &mut self,
        agent: Option<&AgentName>,
        severity: Severity,
        first: bool,
        second: i64,
    ) -> Option<u64> {
        if self.agents.len() >= AGENTS {
            // Those who were quiet for a while begin anew with no more than they would have by now.
            self.agents
                .retain(|_, bucket| second.saturating_sub(bucket.at) < 120);
            if self.agents.len() >= AGENTS {
                self.agents.clear();
            }
        }
        let grave = severity >= Severity::High;
        let rate = if grave { GRAVE } else { SMALL };
        let own = self
            .agents
            .entry((agent.cloned(), grave))
            .or_insert_with(|| Bucket::full(rate, second))
            .take(rate, second);
        // Only what its agent may have takes from what all have, so that none uses it up for the others.
        if first || (own && (grave || self.all.take(ALL, second))) {
            Some(std::mem::take(&mut self.unrecorded))
        } else {
            self.unrecorded = self.unrecorded.saturating_add(1);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_hides_nothing_grave() {
        let mut flood = Flood::default();
        let noisy = AgentName::parse("noisy").unwrap();
        let quiet = AgentName::parse("quiet").unwrap();
        let small = |flood: &mut Flood| flood.admits(Some(&noisy), Severity::Low, false, 10);
        let recorded = (0..5_000).filter(|_| small(&mut flood).is_some()).count();
        assert_eq!(recorded, 30);
        assert_eq!(
            flood.admits(Some(&noisy), Severity::High, false, 10),
            Some(4_970),
            "what is grave has records of its own"
        );
        assert_eq!(
            flood.admits(Some(&quiet), Severity::Low, false, 10),
            Some(0)
        );
        assert_eq!(flood.admits(Some(&noisy), Severity::Low, true, 10), Some(0));
        assert_eq!(
            flood.admits(Some(&noisy), Severity::Low, false, 13),
            Some(0)
        );
    }

    #[test]
    fn many_agents_are_no_way_to_make_it_grow() {
        let mut flood = Flood::default();
        for n in 0..20_000 {
            let agent = AgentName::parse(&format!("a-{n}")).unwrap();
            flood.admits(Some(&agent), Severity::Low, false, 10);
            assert!(flood.agents.len() <= AGENTS);
        }
    }
}
