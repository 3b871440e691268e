//! One run of a playbook: data that says where it is. It is kept before and after each step, so it goes on
//! after a crash where it was; a step that was begun and not finished is done once more.
//!
//! - this file: what a run is, and what people say to it;
//! - `going`: how it goes on.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use model::{AgentName, SegmentName, ServerName, TaskId};
use serde::{Deserialize, Serialize};

use crate::act::Act;
use crate::mode::Mode;
use crate::playbook::Playbook;
use crate::playbook::variable::Name;

mod going;

use going::Frame;

/// Most steps that one run goes through, those of loops counted each time.
pub const VISITS: usize = 500;
/// How often branches are begun in one run, those of loops counted each time: loops within loops would
/// else go round for ever without coming to a step.
const TURNS: u32 = 5_000;
/// Longest note of a step, in characters.
const NOTE: usize = 1_000;

/// What a run is about, as far as it is known. Each is a variable of the playbook too: `__agent__` and so on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct About {
    /// The incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    /// The agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerName>,
    /// The tool, endpoint, model or skill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<SegmentName>,
    /// How bad it is, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// What happened, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

impl About {
    /// The values by the names of variables.
    fn values(&self) -> [(&'static str, Option<String>); 8] {
        let text = |text: &String| {
            let clean = text.chars().filter(|c| !c.is_control()).take(NOTE);
            clean.collect::<String>()
        };
        [
            ("__incident__", self.incident.as_ref().map(text)),
            ("__agent__", self.agent.as_ref().map(ToString::to_string)),
            ("__task__", self.task.as_ref().map(ToString::to_string)),
            ("__server__", self.server.as_ref().map(ToString::to_string)),
            ("__tool__", self.tool.as_ref().map(text)),
            (
                "__segment__",
                self.segment.as_ref().map(ToString::to_string),
            ),
            ("__severity__", self.severity.as_ref().map(text)),
            ("__summary__", self.summary.as_ref().map(text)),
        ]
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// The playbook, as it is called where it is kept.
    pub playbook: String,
    /// The hash of the playbook's text.
    pub hash: String,
    /// Who or what started it.
    pub by: String,
    /// When.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Whether nothing is done, and only noted what would be.
    pub dry: bool,
    /// What it is about.
    pub about: About,
    /// Where it stands.
    pub state: State,
    /// The steps that were come to, in that order.
    pub visits: Vec<Visit>,
    values: BTreeMap<Name, Option<String>>,
    root: Option<Frame>,
    /// Whether a step failed that did not say where to go then.
    troubled: bool,
    /// How often a branch was begun.
    turns: u32,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It goes on by itself.
    Running,
    /// It waits for a person.
    Waiting,
    /// It came to its end.
    Done,
    /// It could not go on.
    Failed,
    /// A person ended it.
    Aborted,
}

impl State {
    /// The word in the API and in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
        }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Aborted)
    }
}

/// A step that was come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Visit {
    /// The step's id in the playbook.
    pub step: String,
    /// What it is called.
    pub name: String,
    /// What is done: the acts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acts: Vec<Act>,
    /// What people are asked to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checklist: Vec<String>,
    /// How many of the acts are done.
    pub done: usize,
    /// How far it goes by itself.
    pub mode: Mode,
    /// Where it stands.
    pub state: Progress,
    /// When it was come to.
    pub at: Timestamp,
    /// Until when it waits before it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// When it has failed, if it still waits for somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// What came of it, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The person who said something about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// It is to be done.
    Ready,
    /// It was begun.
    Begun,
    /// It is done when a person approves.
    AwaitsApproval,
    /// A person does it.
    AwaitsPerson,
    /// It is done.
    Done,
    /// It failed.
    Failed,
    /// It was only noted.
    Observed,
    /// A person said that it is not to be done.
    Rejected,
}

impl Progress {
    /// The word in the API and in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Begun => "begun",
            Self::AwaitsApproval => "awaits-approval",
            Self::AwaitsPerson => "awaits-person",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Observed => "observed",
            Self::Rejected => "rejected",
        }
    }

    /// Whether nothing more comes of it.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(
            self,
            Self::Done | Self::Failed | Self::Observed | Self::Rejected
        )
    }
}

/// What a person says about a step that waits for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It may be done.
    Approve,
    /// It is not to be done; the run goes on as if it had been.
    Reject,
    /// The person has done it.
    Done,
    /// The person could not do it.
    Failed,
}

/// Why a person's answer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotWaiting {
    /// There is no such step in the run.
    #[error("the run has not come to such a step")]
    Unknown,
    /// It does not wait for this.
    #[error("the step does not wait for that")]
    Otherwise,
    /// The run is over.
    #[error("the run is over")]
    Over,
}

impl Run {
    /// Begins a run.
    #[must_use]
    pub fn begin(
        id: String,
        name: &str,
        playbook: &Playbook,
        about: About,
        by: String,
        dry: bool,
        now: Timestamp,
    ) -> Self {
        let mut values: BTreeMap<Name, Option<String>> = playbook
            .variables
            .iter()
            .map(|(name, about)| (name.clone(), about.value.clone()))
            .collect();
        for (name, value) in about.values() {
            for (known, about) in &playbook.variables {
                if known.as_str() == name && about.external && value.is_some() {
                    values.insert(known.clone(), value.clone());
                }
            }
        }
        Self {
            id,
            playbook: name.to_owned(),
            hash: playbook.hash.clone(),
            by,
            started_at: now,
            ended_at: None,
            dry,
            about,
            state: State::Running,
            visits: Vec::new(),
            values,
            root: Some(Frame::at(&playbook.start)),
            troubled: false,
            turns: 0,
        }
    }

    /// The step that is to be done next, by its number, if one is.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Option<usize> {
        self.visits.iter().position(|visit| {
            matches!(visit.state, Progress::Ready | Progress::Begun)
                && visit.not_before.is_none_or(|begin| now >= begin)
        })
    }

    /// When it is to be looked at again, if nobody says anything.
    #[must_use]
    pub fn next_look(&self) -> Option<Timestamp> {
        self.visits
            .iter()
            .filter(|visit| !visit.state.is_over())
            .flat_map(|visit| match visit.state {
                Progress::Ready => visit.not_before,
                _ => visit.not_after,
            })
            .min()
    }

    /// A step was begun. Keep the run before anything is done.
    pub fn set_begun(&mut self, number: usize) {
        if let Some(visit) = self.visits.get_mut(number) {
            visit.state = Progress::Begun;
        }
    }

    /// The next act of a step was carried out, or failed. Returns whether the step is over.
    pub fn carried_out(&mut self, number: usize, outcome: Result<String, String>) -> bool {
        let Some(visit) = self.visits.get_mut(number) else {
            return true;
        };
        match outcome {
            Ok(note) => {
                visit.done += 1;
                add(&mut visit.note, &note);
                if visit.done >= visit.acts.len() {
                    visit.state = Progress::Done;
                }
            }
            Err(note) => {
                add(&mut visit.note, &note);
                visit.state = Progress::Failed;
            }
        }
        visit.state.is_over()
    }

    /// What a variable is set to when a step's outcome is for one.
    pub fn set(&mut self, name: &Name, value: &str) {
        if let Some(kept) = self.values.get_mut(name) {
            *kept = Some(value.chars().take(NOTE).collect());
        }
    }

    /// A person says something about a step.
    ///
    /// # Errors
    /// [`NotWaiting`]
    pub fn answer(
        &mut self,
        number: usize,
        answer: Answer,
        person: Option<&str>,
        note: &str,
    ) -> Result<(), NotWaiting> {
        if self.state.is_over() {
            return Err(NotWaiting::Over);
        }
        let visit = self.visits.get_mut(number).ok_or(NotWaiting::Unknown)?;
        visit.state = match (visit.state, answer) {
            (Progress::AwaitsApproval, Answer::Approve) => Progress::Ready,
            (Progress::AwaitsApproval | Progress::AwaitsPerson, Answer::Reject) => {
                Progress::Rejected
            }
            (Progress::AwaitsPerson, Answer::Done) => Progress::Done,
            (Progress::AwaitsPerson, Answer::Failed) => Progress::Failed,
            _ => return Err(NotWaiting::Otherwise),
        };
        visit.not_after = None;
        visit.person = person.map(str::to_owned);
        add(&mut visit.note, note);
        Ok(())
    }

    /// A person ends it. What was done stays done.
    ///
    /// # Errors
    /// [`NotWaiting::Over`]
    pub fn abort(&mut self, now: Timestamp) -> Result<(), NotWaiting> {
        if self.state.is_over() {
            return Err(NotWaiting::Over);
        }
        self.end(State::Aborted, now);
        Ok(())
    }

    fn end(&mut self, state: State, now: Timestamp) {
        self.state = state;
        self.ended_at = Some(now);
        self.root = None;
        for number in 0..self.visits.len() {
            self.give_up(number);
        }
    }

    /// What is not over does not come to be: nobody can approve it any more.
    fn give_up(&mut self, number: usize) {
        if let Some(visit) = self.visits.get_mut(number)
            && !visit.state.is_over()
        {
            visit.state = Progress::Rejected;
            add(&mut visit.note, "the run went on without it");
        }
    }
}

/// Adds to a note; what is too long is cut.
fn add(note: &mut String, more: &str) {
    let more = more.trim();
    if more.is_empty() {
        return;
    }
    if !note.is_empty() {
        note.push_str("; ");
    }
    let room = NOTE.saturating_sub(note.chars().count());
    note.extend(more.chars().filter(|c| !c.is_control()).take(room));
}

/// A moment so many milliseconds from another one.
fn after(now: Timestamp, millis: u64) -> Timestamp {
    let span = SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
    now.saturating_add(span).unwrap_or(Timestamp::MAX)
}
