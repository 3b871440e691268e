//! Whether an address of a provider is left alone for a while, since it failed several times in a row.
//!
//! An agent can make a provider fail, by a request that it cannot cope with or by asking too often. So
//! failures count for the agent that met with them: it leaves the address alone. Only when several agents
//! do, independently, is it the address that fails, and everyone leaves it alone.

use std::time::{Duration, Instant};

use model::AgentName;

/// Most agents whose failures are remembered; the one that was heard of least recently is forgotten.
const MOST_AGENTS: usize = 64;
/// So many agents that leave an address alone make all others do so too.
const SEVERAL: usize = 2;

/// What is known of the failures of one address.
#[derive(Debug, Default)]
pub(crate) struct Circuit {
    /// The one that was heard of last comes last.
    agents: Vec<Failures>,
}

/// Failures in a row that one agent met with.
#[derive(Debug)]
struct Failures {
    agent: AgentName,
    count: u32,
    until: Option<Instant>,
}

impl Failures {
    fn is_resting(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }
}

impl Circuit {
    /// Whether an agent may ask.
    pub(crate) fn lets(&self, agent: &AgentName, now: Instant) -> bool {
        let resting = self.agents.iter().filter(|of| of.is_resting(now));
        let (own, others): (Vec<_>, Vec<_>) = resting.partition(|of| of.agent == *agent);
        own.is_empty() && others.len() < SEVERAL
    }

    /// An agent got an answer.
    pub(crate) fn succeeded(&mut self, agent: &AgentName) {
        self.agents.retain(|of| of.agent != *agent);
    }

    /// An agent met with a failure: the address could not be reached, had no room, or failed. After
    /// `allowed` of them in a row it is left alone for a while.
    pub(crate) fn failed(
        &mut self,
        agent: &AgentName,
        allowed: u32,
        cool_down: Duration,
        now: Instant,
    ) {
        let known = self.agents.iter().position(|of| of.agent == *agent);
        let mut failures = match known {
            Some(at) => self.agents.remove(at),
            None => Failures {
                agent: agent.clone(),
                count: 0,
                until: None,
            },
        };
        failures.count = failures.count.saturating_add(1);
        if failures.count >= allowed {
            failures.until = now.checked_add(cool_down);
        }
        if self.agents.len() >= MOST_AGENTS {
            self.agents.remove(0);
        }
        self.agents.push(failures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn agent(name: &str) -> AgentName {
        AgentName::parse(name).unwrap()
    }

    #[test]
    fn who_meets_with_failures_leaves_it_alone_for_a_while() {
        let mut circuit = Circuit::default();
        let (one, now) = (agent("one"), Instant::now());
        circuit.failed(&one, 2, LONG, now);
        assert!(circuit.lets(&one, now));
        circuit.failed(&one, 2, LONG, now);
        assert!(!circuit.lets(&one, now));
        assert!(circuit.lets(&one, now + LONG + LONG));
        circuit.failed(&one, 2, LONG, now + LONG + LONG);
        assert!(!circuit.lets(&one, now + LONG + LONG), "it still fails");
        circuit.succeeded(&one);
        assert!(circuit.lets(&one, now));
    }

    #[test]
    fn one_agent_alone_takes_it_from_nobody_else() {
        let mut circuit = Circuit::default();
        let (one, other, third, now) =
            (agent("one"), agent("other"), agent("third"), Instant::now());
        for _ in 0..100 {
            circuit.failed(&one, 2, LONG, now);
        }
        circuit.failed(&other, 2, LONG, now);
        assert!(circuit.lets(&other, now) && circuit.lets(&third, now));
        circuit.failed(&other, 2, LONG, now);
        assert!(!circuit.lets(&third, now), "now it is the address");
        circuit.succeeded(&other);
        assert!(circuit.lets(&third, now) && !circuit.lets(&one, now));
    }

    #[test]
    fn only_so_many_agents_are_remembered() {
        let mut circuit = Circuit::default();
        for number in 0..1_000 {
            circuit.failed(&agent(&format!("agent-{number}")), 9, LONG, Instant::now());
        }
        assert_eq!(circuit.agents.len(), MOST_AGENTS);
    }
}
