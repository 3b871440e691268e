//! How bad an agent or a task looks.

use jiff::Timestamp;
use model::AgentName;
use model::config::Scoring;
use serde::{Deserialize, Serialize};

use crate::finding::Severity;

/// Points at which the score is about 63.
const SCALE: f64 = 60.0;
/// Most points that are kept of each kind.
const MOST: f64 = 1_000.0;
/// Scores below this are as good as none.
const NOTHING: f64 = 0.5;

/// Whose doing a finding is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The agent did it.
    #[default]
    Done,
    /// The agent was given it: by a server, in a document, by another agent. It may have been meant for
    /// somebody else, and whoever wrote it chose when.
    Received,
}

impl Origin {
    /// The word in the API and in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Received => "received",
        }
    }

    /// Reads the word back; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Done, Self::Received]
            .into_iter()
            .find(|origin| origin.as_str() == text)
    }
}

/// What a finding adds to scores. What is light adds only up to a limit ([`Scoring::light_most`]): many small
/// things are not one that is bad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Weight {
    points: f64,
    /// Whether it is light for the agent: only odd, or not its own doing.
    light_for_agent: bool,
    /// Whether it is light for the task: only odd.
    light_for_task: bool,
}

impl Weight {
    pub(super) fn of(scoring: &Scoring, severity: Severity, origin: Origin) -> Self {
        let points = &scoring.points;
        let odd = severity <= Severity::Low;
        Self {
            points: f64::from(match severity {
                Severity::Info => points.info,
                Severity::Low => points.low,
                Severity::Medium => points.medium,
                Severity::High => points.high,
                Severity::Critical => points.critical,
            }),
            light_for_agent: odd || origin == Origin::Received,
            light_for_task: odd,
        }
    }

    pub(super) fn is_nothing(self) -> bool {
        self.points <= 0.0
    }
}

/// Points of both kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Points {
    full: f64,
    light: f64,
}

impl Points {
    fn add(&mut self, points: f64, light: bool, scoring: &Scoring) {
        if light {
            // What would count for nothing must not lie in wait either until the rest has faded.
            let most = points_for(scoring.light_most);
            self.light = (self.light + points).clamp(0.0, most);
        } else {
            self.full = (self.full + points).clamp(0.0, MOST);
        }
    }

    fn left(self, share: f64) -> Self {
        Self {
            full: self.full * share,
            light: self.light * share,
        }
    }

    fn score(self, scoring: &Scoring) -> f64 {
        let light = self.light.min(points_for(scoring.light_most));
        100.0 * (1.0 - (-(self.full + light) / SCALE).exp())
    }
}

/// The share of points of one moment that is left at another.
fn share_left(scoring: &Scoring, then: Timestamp, now: Timestamp) -> f64 {
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    let half_life = f64::from(scoring.half_life_hours.max(1)) * 3_600.0;
    0.5f64.powf(seconds as f64 / half_life)
}

/// The points that a score needs.
fn points_for(score: u8) -> f64 {
    let share = f64::from(score.min(99)) / 100.0;
    -SCALE * (1.0 - share).ln()
}

/// An agent's score that an operator set: findings may raise it, nothing lowers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// The score, 0 to 100.
    pub score: u8,
    /// When it ends; by itself never when this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Who set it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// How bad an agent looks: points for findings, which fade, and what an operator set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Risk {
    points: Points,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    floor: Option<Floor>,
}

impl Risk {
    pub(super) fn new(at: Timestamp) -> Self {
        Self {
            points: Points::default(),
            at,
            floor: None,
        }
    }

    pub(super) fn add(&mut self, weight: Weight, scoring: &Scoring, now: Timestamp) {
        self.points = self.points.left(self.left(scoring, now));
        self.at = self.at.max(now);
        self.points
            .add(weight.points, weight.light_for_agent, scoring);
    }

    /// Takes back what a finding added, as far as it has not faded since.
    pub(super) fn take_back(
        &mut self,
        weight: Weight,
        scoring: &Scoring,
        seen: Timestamp,
        now: Timestamp,
    ) {
        let weight = Weight {
            points: -weight.points * share_left(scoring, seen, now),
            ..weight
        };
        self.add(weight, scoring, now);
    }

    pub(super) fn set_floor(&mut self, floor: Option<Floor>) {
        self.floor = floor;
    }

    /// What an operator set, while it holds.
    #[must_use]
    pub fn floor(&self, now: Timestamp) -> Option<&Floor> {
        let floor = self.floor.as_ref();
        floor.filter(|floor| floor.until.is_none_or(|until| now < until))
    }

    /// The share of the points that is left.
    fn left(&self, scoring: &Scoring, now: Timestamp) -> f64 {
        share_left(scoring, self.at, now)
    }

    /// The score at a time: 0 (nothing) to 100.
    #[must_use]
    pub fn score(&self, scoring: &Scoring, now: Timestamp) -> f64 {
        let points = self.points.left(self.left(scoring, now));
        let floor = self.floor(now).map_or(0, |floor| floor.score);
        points.score(scoring).max(f64::from(floor))
    }

    /// Whether there is nothing to remember any more.
    pub(super) fn is_over(&self, scoring: &Scoring, now: Timestamp) -> bool {
        self.score(scoring, now) < NOTHING
    }
}

/// How bad a task looks: points for all findings about it. They do not fade, since what a task has seen
/// stays in front of the model until the task is over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskRisk {
    /// Whose task it is, as far as it is known.
    pub(super) agent: Option<AgentName>,
    points: Points,
}

impl TaskRisk {
    pub(super) fn of(agent: Option<AgentName>) -> Self {
        Self {
            agent,
            points: Points::default(),
        }
    }

    pub(super) fn add(&mut self, weight: Weight, scoring: &Scoring) {
        self.points
            .add(weight.points, weight.light_for_task, scoring);
    }

    pub(super) fn take_back(&mut self, weight: Weight, scoring: &Scoring) {
        self.points
            .add(-weight.points, weight.light_for_task, scoring);
    }

    /// The score: 0 (nothing) to 100.
    #[must_use]
    pub fn score(&self, scoring: &Scoring) -> f64 {
        self.points.score(scoring)
    }
}

/// A score as decisions take it: a whole number from 0 to 100.
#[must_use]
pub(super) fn whole(score: f64) -> u8 {
    // The range is checked, so nothing is cut off.
    score.round().clamp(0.0, 100.0) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn weight(points: f64, light: bool) -> Weight {
        Weight {
            points,
            light_for_agent: light,
            light_for_task: false,
        }
    }

    #[test]
    fn it_fades() {
        let scoring = Scoring::default();
        let mut risk = Risk::new(at(0));
        risk.add(weight(60.0, false), &scoring, at(0));
        assert!((63.0..64.0).contains(&risk.score(&scoring, at(0))));
        let day = i64::from(scoring.half_life_hours) * 3_600;
        assert!((39.0..40.0).contains(&risk.score(&scoring, at(day))));
        assert!(risk.is_over(&scoring, at(30 * day)));
    }

    #[test]
    fn what_others_send_alone_puts_no_agent_out_of_action() {
        let scoring = Scoring::default();
        let bait = Weight::of(&scoring, Severity::Critical, Origin::Received);
        let (mut risk, mut task) = (Risk::new(at(0)), TaskRisk::default());
        for _ in 0..1_000 {
            risk.add(bait, &scoring, at(0));
            task.add(bait, &scoring);
        }
        let most = f64::from(scoring.light_most);
        assert!((risk.score(&scoring, at(0)) - most).abs() < 1e-6);
        assert!(task.score(&scoring) > 99.0, "the task itself may be");
        risk.add(
            Weight::of(&scoring, Severity::Critical, Origin::Done),
            &scoring,
            at(0),
        );
        assert!(
            risk.score(&scoring, at(0)) > 70.0,
            "its own deeds count on top"
        );
    }

    #[test]
    fn many_odd_things_are_not_one_that_is_bad() {
        let scoring = Scoring::default();
        let odd = Weight::of(&scoring, Severity::Low, Origin::Done);
        let (mut risk, mut task) = (Risk::new(at(0)), TaskRisk::default());
        for _ in 0..1_000 {
            risk.add(odd, &scoring, at(0));
            task.add(odd, &scoring);
        }
        let most = f64::from(scoring.light_most);
        for score in [risk.score(&scoring, at(0)), task.score(&scoring)] {
            assert!((score - most).abs() < 1e-6, "{score}");
        }
    }

    #[test]
    fn what_was_nothing_is_taken_back_as_far_as_it_is_left() {
        let scoring = Scoring::default();
        let mut risk = Risk::new(at(0));
        let grave = Weight::of(&scoring, Severity::Critical, Origin::Done);
        risk.add(grave, &scoring, at(0));
        risk.add(grave, &scoring, at(40_000));
        risk.take_back(grave, &scoring, at(0), at(50_000));
        let mut other = Risk::new(at(0));
        other.add(grave, &scoring, at(40_000));
        let (left, alone) = (
            risk.score(&scoring, at(50_000)),
            other.score(&scoring, at(50_000)),
        );
        assert!((left - alone).abs() < 1e-6, "{left} {alone}");
        risk.take_back(grave, &scoring, at(40_000), at(50_000));
        assert!(risk.is_over(&scoring, at(50_000)));
    }

    #[test]
    fn what_an_operator_sets_is_the_least_and_ends() {
        let scoring = Scoring::default();
        let mut risk = Risk::new(at(0));
        risk.set_floor(Some(Floor {
            score: 80,
            until: Some(at(100)),
            by: "operator".into(),
            reason: "seen elsewhere".into(),
        }));
        assert!((risk.score(&scoring, at(99)) - 80.0).abs() < 1e-9);
        risk.add(weight(1_000.0, false), &scoring, at(99));
        assert!(risk.score(&scoring, at(99)) > 99.0, "findings raise it");
        let mut other = Risk::new(at(0));
        other.set_floor(risk.floor(at(0)).cloned());
        assert!(other.is_over(&scoring, at(100)));
    }

    proptest! {
        #[test]
        fn it_is_a_score(points in proptest::collection::vec((0.0f64..1e9, any::<bool>(), 0i64..1_000_000), 0..50)) {
            let scoring = Scoring::default();
            let mut risk = Risk::new(Timestamp::UNIX_EPOCH);
            for (points, light, second) in points {
                let now = at(second);
                let before = risk.score(&scoring, now);
                risk.add(weight(points, light), &scoring, now);
                let score = risk.score(&scoring, now);
                prop_assert!((0.0..=100.0).contains(&score));
                prop_assert!(whole(score) <= 100);
                prop_assert!(score >= before - 1e-6, "a finding never makes an agent look better");
            }
        }
    }
}
