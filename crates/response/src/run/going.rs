//! How a run goes on: from step to step, into branches and out of them again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Progress, Run, State, TURNS, VISITS, Visit, add, after};
use crate::mode::{Mode, Modes};
use crate::playbook::variable::fill_words;
use crate::playbook::{Action, Command, Kind, Playbook, ROUNDS, Step};

/// Where a run is within one branch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Frame {
    /// The step.
    step: String,
    /// The visit of it, if it is one that something is done in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    visit: Option<usize>,
    /// The branches of it that are being gone through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inner: Vec<Frame>,
    /// Whether its branches were begun.
    #[serde(default)]
    inside: bool,
    /// How often its branch was begun.
    #[serde(default)]
    rounds: u32,
}

impl Frame {
    pub(super) fn at(step: &str) -> Self {
        Self {
            step: step.to_owned(),
            visit: None,
            inner: Vec::new(),
            inside: false,
            rounds: 0,
        }
    }
}

/// How far a branch came.
enum Came {
    /// To its end.
    ToTheEnd,
    /// Not further, for now.
    NoFurther,
    /// A step failed that does not say where to go then.
    ToTrouble,
}

/// Where a step goes on.
enum Next {
    Step(String),
    End,
    Trouble,
}

impl Run {
    /// Goes on as far as it can without anything being done: up to steps that are to be done, or that
    /// wait for a person.
    pub fn go_on(&mut self, playbook: &Playbook, modes: &Modes, now: Timestamp) {
        if self.state.is_over() {
            return;
        }
        self.give_up_waiting(now);
        while let Some(mut root) = self.root.take() {
            match self.branch(&mut root, playbook, modes, now) {
                Came::NoFurther => {
                    self.root = Some(root);
                    let waits = |it: &Visit| {
                        matches!(it.state, Progress::AwaitsApproval | Progress::AwaitsPerson)
                    };
                    let busy = |it: &Visit| matches!(it.state, Progress::Ready | Progress::Begun);
                    let waiting = self.visits.iter().any(waits) && !self.visits.iter().any(busy);
                    self.state = if waiting {
                        State::Waiting
                    } else {
                        State::Running
                    };
                    return;
                }
                Came::ToTheEnd => {
                    let state = if self.troubled {
                        State::Failed
                    } else {
                        State::Done
                    };
                    self.end(state, now);
                }
                Came::ToTrouble => match &playbook.exception {
                    // Once: trouble in the handling of trouble is the end.
                    Some(exception) if !self.troubled => {
                        self.troubled = true;
                        self.root = Some(Frame::at(exception));
                    }
                    _ => self.end(State::Failed, now),
                },
            }
        }
    }

    /// What waited too long for somebody has failed.
    fn give_up_waiting(&mut self, now: Timestamp) {
        for visit in &mut self.visits {
            let waits = matches!(
                visit.state,
                Progress::AwaitsApproval | Progress::AwaitsPerson
            );
            if waits && visit.not_after.is_some_and(|end| now >= end) {
                visit.state = Progress::Failed;
                add(&mut visit.note, "nobody answered in time");
            }
        }
    }

    fn branch(
        &mut self,
        frame: &mut Frame,
        playbook: &Playbook,
        modes: &Modes,
        now: Timestamp,
    ) -> Came {
        loop {
            let Some(step) = playbook.steps.get(&frame.step) else {
                return Came::ToTrouble;
            };
            let next = match &step.kind {
                Kind::End => return Came::ToTheEnd,
                Kind::Start => next(step, true),
                Kind::Action(action) => {
                    match self.action(frame, step, action, playbook, modes, now) {
                        Some(well) => next(step, well),
                        None => return Came::NoFurther,
                    }
                }
                _ => match self.branches(frame, step, playbook, modes, now) {
                    Came::ToTheEnd => next(step, true),
                    Came::ToTrouble => next(step, false),
                    Came::NoFurther => return Came::NoFurther,
                },
            };
            match next {
                Next::Step(step) => *frame = Frame::at(&step),
                Next::End => return Came::ToTheEnd,
                Next::Trouble => return Came::ToTrouble,
            }
        }
    }

    /// Goes through the branches of a step.
    fn branches(
        &mut self,
        frame: &mut Frame,
        step: &Step,
        playbook: &Playbook,
        modes: &Modes,
        now: Timestamp,
    ) -> Came {
        loop {
            if !frame.inside {
                let chosen: Vec<String> = match &step.kind {
                    Kind::Parallel(branches) => branches.clone(),
                    Kind::If {
                        condition,
                        on_true,
                        on_false,
                    } => match condition.holds(&self.values) {
                        true => vec![on_true.clone()],
                        false => on_false.iter().cloned().collect(),
                    },
                    Kind::While { condition, on_true } => {
                        if condition.holds(&self.values) {
                            if frame.rounds >= ROUNDS {
                                return Came::ToTrouble;
                            }
                            vec![on_true.clone()]
                        } else {
                            return Came::ToTheEnd;
                        }
                    }
                    Kind::Switch { variable, cases } => {
                        let value = self.values.get(variable).cloned().flatten();
                        let case = cases.get(&value.unwrap_or_default());
                        case.or_else(|| cases.get("default"))
                            .cloned()
                            .into_iter()
                            .collect()
                    }
                    Kind::Start | Kind::End | Kind::Action(_) => Vec::new(),
                };
                if self.turns >= TURNS {
                    return Came::ToTrouble;
                }
                self.turns += 1;
                frame.inside = true;
                frame.rounds += 1;
                frame.inner = chosen.iter().map(|id| Frame::at(id)).collect();
            }
            let mut trouble = false;
            let mut left = Vec::new();
            for mut inner in std::mem::take(&mut frame.inner) {
                match self.branch(&mut inner, playbook, modes, now) {
                    Came::ToTheEnd => {}
                    Came::ToTrouble => trouble = true,
                    Came::NoFurther => left.push(inner),
                }
            }
            if trouble {
                left.iter().for_each(|inner| self.leave(inner));
                return Came::ToTrouble;
            }
            frame.inner = left;
            if !frame.inner.is_empty() {
                return Came::NoFurther;
            }
            if !matches!(step.kind, Kind::While { .. }) {
                return Came::ToTheEnd;
            }
            frame.inside = false;
        }
    }

    /// Leaves a branch before its end.
    fn leave(&mut self, frame: &Frame) {
        if let Some(number) = frame.visit {
            self.give_up(number);
        }
        frame.inner.iter().for_each(|inner| self.leave(inner));
    }

    /// Comes to a step that something is done in, or looks at what came of it: whether it went well, if
    /// it is over.
    fn action(
        &mut self,
        frame: &mut Frame,
        step: &Step,
        action: &Action,
        playbook: &Playbook,
        modes: &Modes,
        now: Timestamp,
    ) -> Option<bool> {
        let number = match frame.visit {
            Some(number) => number,
            None => {
                if self.visits.len() >= VISITS {
                    return Some(false);
                }
                let visit = self.visit(&frame.step, step, action, modes, now);
                self.visits.push(visit);
                frame.visit = Some(self.visits.len() - 1);
                self.visits.len() - 1
            }
        };
        let visit = self.visits.get(number)?;
        let over = visit.state.is_over();
        let well = visit.state != Progress::Failed;
        if over
            && visit.state == Progress::Done
            && let Some(out) = &action.out
            && !playbook.variables.get(out).is_none_or(|it| it.constant)
        {
            let note = visit.note.clone();
            self.set(out, &note);
        }
        over.then_some(well)
    }

    fn visit(
        &self,
        id: &str,
        step: &Step,
        action: &Action,
        modes: &Modes,
        now: Timestamp,
    ) -> Visit {
        let mut visit = Visit {
            step: id.to_owned(),
            name: step.name.clone(),
            acts: Vec::new(),
            checklist: Vec::new(),
            done: 0,
            mode: Mode::Automatic,
            state: Progress::Ready,
            at: now,
            not_before: (step.delay > 0).then(|| after(now, step.delay)),
            not_after: step
                .timeout
                .map(|timeout| after(now, step.delay.saturating_add(timeout))),
            note: String::new(),
            person: None,
        };
        for command in &action.commands {
            match command {
                Command::Manual { text } => {
                    visit.checklist.push(fill_words(text, &self.values));
                    visit.mode = modes.of_person(&self.playbook);
                }
                Command::Act { .. } => match command.filled(&self.values) {
                    Ok(act) => {
                        let mode = modes.of(&self.playbook, act.name(), act.restricts());
                        visit.mode = visit.mode.max(mode);
                        visit.acts.push(act);
                    }
                    Err(why) => {
                        add(&mut visit.note, &why);
                        visit.state = Progress::Failed;
                        return visit;
                    }
                },
            }
        }
        visit.state = match visit.mode {
            _ if self.dry => Progress::Observed,
            Mode::ObserveOnly => Progress::Observed,
            _ if action.is_for_people() => Progress::AwaitsPerson,
            Mode::OnApproval => Progress::AwaitsApproval,
            Mode::Automatic => Progress::Ready,
        };
        visit
    }
}

/// Where a step goes on when it went well, or not.
fn next(step: &Step, well: bool) -> Next {
    let to = if well {
        step.on_completion.as_ref().or(step.on_success.as_ref())
    } else {
        match (&step.on_failure, &step.on_completion) {
            (Some(on_failure), _) => Some(on_failure),
            // However it went, it goes on there.
            (None, Some(on_completion)) => Some(on_completion),
            (None, None) => return Next::Trouble,
        }
    };
    to.map_or(Next::End, |to| Next::Step(to.clone()))
}

#[cfg(test)]
mod tests;
