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

/// What a finding of a severity adds, in points.
#[must_use]
pub(super) fn points(scoring: &Scoring, severity: Severity) -> f64 {
    let points = &scoring.points;
    f64::from(match severity {
        Severity::Info => points.info,
        Severity::Low => points.low,
        Severity::Medium => points.medium,
        Severity::High => points.high,
        Severity::Critical => points.critical,
    })
}

/// The share of points of one moment that is left at another.
fn share_left(scoring: &Scoring, then: Timestamp, now: Timestamp) -> f64 {
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    let half_life = f64::from(scoring.half_life_hours.max(1)) * 3_600.0;
    0.5f64.powf(seconds as f64 / half_life)
}

fn score_of(points: f64) -> f64 {
    100.0 * (1.0 - (-points / SCALE).exp())
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
    /// For what it did.
    points: f64,
    /// For what it was given.
    #[serde(default)]
    received: f64,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    floor: Option<Floor>,
}

impl Risk {
    pub(super) fn new(at: Timestamp) -> Self {
        Self {
            points: 0.0,
            received: 0.0,
            at,
            floor: None,
        }
    }

    pub(super) fn add(&mut self, points: f64, origin: Origin, scoring: &Scoring, now: Timestamp) {
        let left = self.left(scoring, now);
        (self.points, self.received) = (self.points * left, self.received * left);
        match origin {
            Origin::Done => self.points = (self.points + points).clamp(0.0, MOST),
            // What would count for nothing must not lie in wait either until the rest has faded.
            Origin::Received => {
                let most = points_for(scoring.received_most);
                self.received = (self.received + points).clamp(0.0, most);
            }
        }
        self.at = self.at.max(now);
    }

    /// Takes back what a finding added, as far as it has not faded since.
    pub(super) fn take_back(
        &mut self,
        points: f64,
        origin: Origin,
        scoring: &Scoring,
        seen: Timestamp,
        now: Timestamp,
    ) {
        let left = self.left(scoring, now);
        let of_it = points * share_left(scoring, seen, now);
        let (mut done, mut received) = (self.points * left, self.received * left);
        match origin {
            Origin::Done => done = (done - of_it).max(0.0),
            Origin::Received => received = (received - of_it).max(0.0),
        }
        (self.points, self.received) = (done, received);
        self.at = self.at.max(now);
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
        let received = self.received.min(points_for(scoring.received_most));
        let points = (self.points + received) * self.left(scoring, now);
        let floor = self.floor(now).map_or(0, |floor| floor.score);
        score_of(points).max(f64::from(floor))
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
    points: f64,
}

impl TaskRisk {
    pub(super) fn of(agent: Option<AgentName>) -> Self {
        Self { agent, points: 0.0 }
    }

    pub(super) fn add(&mut self, points: f64) {
        self.points = (self.points + points).clamp(0.0, MOST);
    }

    /// The score: 0 (nothing) to 100.
    #[must_use]
    pub fn score(&self) -> f64 {
        score_of(self.points)
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

    #[test]
    fn it_fades() {
        let scoring = Scoring::default();
        let mut risk = Risk::new(at(0));
        risk.add(60.0, Origin::Done, &scoring, at(0));
        assert!((63.0..64.0).contains(&risk.score(&scoring, at(0))));
        let day = i64::from(scoring.half_life_hours) * 3_600;
        assert!((39.0..40.0).contains(&risk.score(&scoring, at(day))));
        assert!(risk.is_over(&scoring, at(30 * day)));
    }

    #[test]
    fn what_others_send_alone_puts_no_agent_out_of_action() {
        let scoring = Scoring::default();
        let mut risk = Risk::new(at(0));
        for _ in 0..1_000 {
            risk.add(45.0, Origin::Received, &scoring, at(0));
        }
        let most = f64::from(scoring.received_most);
        assert!((risk.score(&scoring, at(0)) - most).abs() < 1e-6);
        let mut task = TaskRisk::default();
        for _ in 0..5 {
            task.add(45.0);
        }
        assert!(task.score() > 90.0, "the task itself may be");
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
        risk.add(1_000.0, Origin::Done, &scoring, at(99));
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
            for (points, done, second) in points {
                let now = at(second);
                let before = risk.score(&scoring, now);
                let origin = if done { Origin::Done } else { Origin::Received };
                risk.add(points, origin, &scoring, now);
                let score = risk.score(&scoring, now);
                prop_assert!((0.0..=100.0).contains(&score));
                prop_assert!(whole(score) <= 100);
                prop_assert!(score >= before - 1e-6, "a finding never makes an agent look better");
            }
        }
    }
}
