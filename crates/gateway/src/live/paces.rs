//! How fast agents and tasks may go, and go.

use std::time::{Duration, Instant};

use model::config::Limits;
use model::{AgentName, Denial, Rate, Rule, TaskId};

use super::{Live, LiveTask};
use crate::pace::{Going, TooFast, Whose, moment};

impl Live {
    /// Takes the rates of a configuration into use, for the very next call.
    pub fn set_rates(&self, limits: &Limits) {
        self.rates.agent.set(limits.agent_rate);
        self.rates.task.set(limits.task_rate);
        self.rates.control.set(limits.control_rate);
    }

    /// Counts one call of a task: at the task itself, at those that it is a part of, and at its agent. Two
    /// loads when none of them is limited.
    ///
    /// # Errors
    /// [`TooFast`] when it comes too soon for one of them. What a task may not do takes nothing from what its
    /// agent may.
    pub(crate) fn pace(&self, task: &LiveTask, at: Instant) -> Result<(), TooFast> {
        let usual = self.rates.task.get();
        let rate = task.task().grant.rate.or(usual);
        let agent = self.rates.agent.get();
        let mut whole = task.ancestors().peekable();
        if rate.is_none() && agent.is_none() && whole.peek().is_none() {
            return Ok(());
        }
        let now = moment(at);
        let refused = |whose, rate: Rate| move |wait| TooFast { whose, rate, wait };
        if let Some(rate) = rate {
            let taken = task.pace.take(rate, now);
            taken.map_err(refused(Whose::Task, rate))?;
        }
        for above in whole {
            if let Some(rate) = above.task().grant.rate.or(usual) {
                let taken = above.pace.take(rate, now);
                taken
                    .inspect_err(|_| task.pace.refuse())
                    .map_err(refused(Whose::Whole, rate))?;
            }
        }
        if let Some(rate) = agent {
            let taken = task.of_agent.pace.take(rate, now);
            taken
                .inspect_err(|_| task.pace.refuse())
                .map_err(refused(Whose::Agent, rate))?;
        }
        Ok(())
    }

    /// Counts one request of an agent at the control listener.
    ///
    /// # Errors
    /// What it is told, and how long until there is room for another.
    pub fn pace_at_control(&self, agent: &AgentName) -> Result<(), (Denial, Duration)> {
        let Some(rate) = self.rates.control.get() else {
            return Ok(());
        };
        let taken = self
            .agents
            .of(agent)
            .control
            .take(rate, moment(Instant::now()));
        taken.map_err(|wait| {
            let denial = Denial {
                rule: Rule::RateLimited,
                reason: format!("the agent asks for tokens and tasks faster than it may ({rate})"),
                remedy: "wait as long as Retry-After says, and keep tokens for their five minutes; an operator \
                         sets the rate with `limits.control_rate`"
                    .to_owned(),
            };
            (denial, wait)
        })
    }

    /// How fast a task may go, and how often it was too fast; nothing when it is not known here.
    #[must_use]
    pub fn task_pace(&self, id: &TaskId) -> Option<Going> {
        let task = self.task(id)?;
        Some(Going {
            rate: task.task().grant.rate.or(self.rates.task.get()),
            refused: task.pace.refused(),
        })
    }

    /// How fast an agent may go with all its tasks, and how often it was too fast, at the control listener
    /// too.
    #[must_use]
    pub fn agent_pace(&self, agent: &AgentName) -> Going {
        let known = self.agents.known(agent);
        Going {
            rate: self.rates.agent.get(),
            refused: known.map_or(0, |known| known.pace.refused() + known.control.refused()),
        }
    }
}
