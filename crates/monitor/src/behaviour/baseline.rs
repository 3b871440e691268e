//! What an agent usually does for a template.

use std::collections::BTreeSet;

use jiff::Timestamp;
use model::ServerName;
use serde::{Deserialize, Serialize};

use super::volume::Volume;
use crate::Capped;

/// Tasks before a baseline says anything.
pub const WARM_TASKS: u32 = 5;
/// Actions before a baseline says anything.
pub const WARM_ACTIONS: u64 = 50;
/// Most targets of one baseline.
const TARGETS: usize = 512;
/// Most pairs of targets of one baseline.
const PAIRS: usize = 2_048;
/// Most servers of one baseline.
const SERVERS: usize = 128;
/// Most shapes of arguments of one target; a target with so many has no usual shape.
const SHAPES: usize = 16;
/// Calls of a target before its shapes say anything.
const SHAPED_CALLS: u32 = 20;
/// Steps from a target before what follows says anything.
const FOLLOWED: u32 = 30;
/// What follows with less than this probability is improbable.
const IMPROBABLE: f64 = 0.01;
/// What is added to every count of a pair (Lidstone smoothing).
const SMOOTHING: f64 = 0.1;
/// Days and actions before hours say anything.
const HOUR_DAYS: usize = 7;
const HOUR_ACTIONS: f64 = 200.0;
/// Hours with less than this share of the actions are unusual.
const UNUSUAL_SHARE: f64 = 0.005;
/// Tasks whose growth is looked at for a trend, and how many of them must have added something.
const TREND: usize = 10;
const GROWING: usize = 6;

/// What is called at a server: a tool, an endpoint, a model, a skill, tables.
pub(super) type Target = (ServerName, String);

/// What an agent usually does for a template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    pub(super) tasks: u32,
    pub(super) actions: u64,
    servers: Capped<ServerName, ()>,
    targets: Capped<Target, Known>,
    pairs: Capped<(u64, u64), u32>,
    hours: [f64; 24],
    days: BTreeSet<i64>,
    /// What the newest tasks added to the targets, each.
    added: Vec<u32>,
    pub(super) calls: Volume,
    pub(super) bytes: Volume,
    /// The window that is being counted: its number, calls and bytes in it.
    pub(super) window: (i64, f64, f64),
    pub(super) burst_told: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Known {
    calls: u32,
    steps: u32,
    shapes: BTreeSet<u64>,
}

/// What is new or improbable about an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum New {
    Server,
    Target,
    Shape,
    /// This follows on that with this probability.
    Step(f64),
    /// The hour, and its share of the actions so far.
    Hour(usize, f64),
}

impl Default for Baseline {
    fn default() -> Self {
        Self {
            tasks: 0,
            actions: 0,
            servers: Capped::new(SERVERS),
            targets: Capped::new(TARGETS),
            pairs: Capped::new(PAIRS),
            hours: [0.0; 24],
            days: BTreeSet::new(),
            added: Vec::new(),
            calls: Volume::new(30.0),
            bytes: Volume::new(262_144.0),
            window: (0, 0.0, 0.0),
            burst_told: i64::MIN,
        }
    }
}

impl Baseline {
    /// Whether it knows enough to say anything.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        self.tasks > WARM_TASKS && self.actions >= WARM_ACTIONS
    }

    /// Learns an action and says what was new about it; a baseline that is not warm says nothing.
    /// `before` is the step before in the same task.
    pub(super) fn learn(
        &mut self,
        target: &Target,
        number: u64,
        before: Option<u64>,
        shape: Option<u64>,
        time: Timestamp,
    ) -> (Vec<New>, bool) {
        let warm = self.is_warm();
        let mut new = Vec::new();
        self.actions += 1;
        let new_server = self.servers.get(&target.0).is_none();
        self.servers.at(target.0.clone(), || ());
        let new_target = self.targets.get(target).is_none();
        let kinds = self.targets.len().max(2);
        let known = self.targets.at(target.clone(), Known::default);
        known.calls = known.calls.saturating_add(1);
        if new_server {
            new.push(New::Server);
        } else if new_target {
            new.push(New::Target);
        }
        if let Some(shape) = shape
            && known.shapes.len() < SHAPES
            && known.shapes.insert(shape)
            && known.shapes.len() < SHAPES
            && known.calls > SHAPED_CALLS
        {
            new.push(New::Shape);
        }
        if let Some(before) = before {
            let steps = self.steps_from(before);
            let pair = self.pairs.at((before, number), || 0);
            let probability =
                (f64::from(*pair) + SMOOTHING) / (f64::from(steps) + SMOOTHING * kinds as f64);
            *pair = pair.saturating_add(1);
            *self.pairs.at((before, 0), || 0) += 1;
            if !new_target && steps >= FOLLOWED && probability < IMPROBABLE {
                new.push(New::Step(probability));
            }
        }
        new.extend(self.hour(time));
        (if warm { new } else { Vec::new() }, new_target)
    }

    /// How many steps were made from a target: kept as the pair with nothing.
    fn steps_from(&self, before: u64) -> u32 {
        self.pairs.get(&(before, 0)).copied().unwrap_or(0)
    }

    fn hour(&mut self, time: Timestamp) -> Option<New> {
        let hour = time.as_second().rem_euclid(86_400) / 3_600;
        let hour = usize::try_from(hour).unwrap_or(0);
        let day = time.as_second().div_euclid(86_400);
        if self.days.len() <= HOUR_DAYS {
            self.days.insert(day);
        }
        let all: f64 = self.hours.iter().sum();
        // The hours around count too: nobody starts on the minute.
        let around = [hour + 23, hour, hour + 1].map(|hour| self.hours[hour % 24]);
        let share = around.iter().sum::<f64>() / all.max(1.0);
        self.hours[hour] += 1.0;
        if all > 100_000.0 {
            self.hours.iter_mut().for_each(|count| *count *= 0.5);
        }
        let knows = self.days.len() >= HOUR_DAYS && all >= HOUR_ACTIONS;
        (knows && share < UNUSUAL_SHARE).then_some(New::Hour(hour, share))
    }

    /// A task has ended that added so many targets. How many of how many newest tasks added some, if that
    /// is a trend.
    pub(super) fn task_ended(&mut self, added: u32) -> Option<(usize, usize, u32)> {
        self.added.push(added);
        if self.added.len() > TREND {
            self.added.remove(0);
        }
        let growing = self.added.iter().filter(|added| **added > 0).count();
        let trend = self.is_warm()
            && self.tasks as usize > TREND + WARM_TASKS as usize
            && self.added.len() == TREND
            && growing >= GROWING;
        let sum = self.added.iter().sum();
        if trend {
            // Told once for these tasks.
            self.added.clear();
        }
        trend.then_some((growing, TREND, sum))
    }
}
