//! Playbooks in the format of OASIS CACAO 2.0 (CACAO Security Playbooks Version 2.0, 27 November 2023),
//! read strictly.
//!
//! Of the standard's steps all are read but `playbook-action`; of its commands `manual`, for people, and
//! `http-api` to `POST /v1/response/actions` of Sallyport itself, whose content is one [`Act`]. So any
//! engine for CACAO can carry out such a playbook through Sallyport's API, and Sallyport itself carries
//! out nothing else: a playbook with a shell command, or with a request to anywhere else, is refused.
//!
//! - `written`: the document as it is written;
//! - `checking`: what it must be beyond that;
//! - [`condition`] and [`variable`]: what is compared, and what is filled in;
//! - [`procedure`]: the same as people read it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::act::Act;

mod checking;
pub mod condition;
pub mod procedure;
pub mod variable;
mod written;

use condition::Condition;
use variable::Name;

/// The request that an act is, as `http-api` commands write it (CACAO 2.0, §5.6).
pub const START_LINE: &str = "POST /v1/response/actions HTTP/1.1";
/// Longest playbook, in bytes.
pub const BYTES: usize = 256 << 10;
/// Most steps of a playbook.
pub const STEPS: usize = 200;
/// How often the branch of a `while-condition` is gone through at most; then the step fails.
pub const ROUNDS: u32 = 100;

/// A playbook, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Playbook {
    /// Its id, `playbook--` and a UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is for, in words.
    pub description: String,
    /// When it was changed last, as it says itself.
    pub modified: String,
    /// SHA-256 of its text, in hexadecimal: what a run is a run of.
    pub hash: String,
    /// How serious what it is for is, from 1 to 100; 0 when it does not say.
    pub severity: u8,
    /// Its labels.
    pub labels: Vec<String>,
    /// Its variables.
    pub variables: BTreeMap<Name, Variable>,
    /// Its steps, by id.
    pub steps: BTreeMap<String, Step>,
    /// The first step.
    pub start: String,
    /// The step that is gone to when one fails that does not say where to go then.
    pub exception: Option<String>,
    /// Who carries out steps, by id: the name.
    pub agents: BTreeMap<String, String>,
}

/// A variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// What it is, in words.
    pub description: String,
    /// Its value at the start.
    pub value: Option<String>,
    /// Whether it keeps that.
    pub constant: bool,
    /// Whether its value comes from outside.
    pub external: bool,
}

/// A step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it is called.
    pub name: String,
    /// More about it, in words.
    pub description: String,
    /// What it is.
    pub kind: Kind,
    /// Milliseconds to wait before it.
    pub delay: u64,
    /// Milliseconds after which it has failed, if it still waits for somebody.
    pub timeout: Option<u64>,
    /// Where it goes on, however it went.
    pub on_completion: Option<String>,
    /// Where it goes on when it was done.
    pub on_success: Option<String>,
    /// Where it goes on when it failed.
    pub on_failure: Option<String>,
}

/// What a step is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// The beginning.
    Start,
    /// The end of the playbook, or of a branch.
    End,
    /// Something is done.
    Action(Action),
    /// Branches that all are gone through.
    Parallel(Vec<String>),
    /// One of two branches.
    If {
        /// What decides.
        condition: Condition,
        /// The branch when it holds.
        on_true: String,
        /// The branch when it does not.
        on_false: Option<String>,
    },
    /// A branch again and again.
    While {
        /// As long as this holds.
        condition: Condition,
        /// The branch.
        on_true: String,
    },
    /// One of several branches.
    Switch {
        /// The variable that decides.
        variable: Name,
        /// The branches by value; `default` for all others.
        cases: BTreeMap<String, String>,
    },
}

/// What an action step does, and who does it.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Who.
    pub agent: String,
    /// What, in this order.
    pub commands: Vec<Command>,
    /// The variable that takes what came out of it.
    pub out: Option<Name>,
}

impl Action {
    /// Whether people do it.
    #[must_use]
    pub fn is_for_people(&self) -> bool {
        matches!(self.commands.first(), Some(Command::Manual { .. }))
    }
}

/// A command.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// People are asked to do this.
    Manual {
        /// What, in words.
        text: String,
    },
    /// An act, with variables that are not filled in yet.
    Act {
        /// The act's name.
        name: String,
        /// The members of its JSON.
        members: Map<String, Value>,
    },
}

/// What is wrong with a playbook: where, and what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct PlaybookError {
    /// Where: a member, or a step's id.
    pub place: String,
    /// What, and what to do about it.
    pub what: String,
}

impl PlaybookError {
    pub(crate) fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            what: what.into(),
        }
    }
}

impl Playbook {
    /// Reads a playbook.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<PlaybookError>> {
        checking::read(text)
    }

    /// The acts that it can carry out, by name, without repetition.
    #[must_use]
    pub fn acts(&self) -> Vec<&str> {
        let mut acts: Vec<&str> = self
            .steps
            .values()
            .filter_map(|step| match &step.kind {
                Kind::Action(action) => Some(&action.commands),
                _ => None,
            })
            .flatten()
            .filter_map(|command| match command {
                Command::Act { name, .. } => Some(name.as_str()),
                Command::Manual { .. } => None,
            })
            .collect();
        acts.sort_unstable();
        acts.dedup();
        acts
    }
}

impl Command {
    /// The act, with its variables filled in. What people are told says that something is unknown; what
    /// evidence is collected about may be known in part.
    ///
    /// # Errors
    /// What is wrong, in words: a variable without a value, or a value that is none for its place.
    pub fn filled(&self, values: &BTreeMap<Name, Option<String>>) -> Result<Act, String> {
        let Self::Act { name, members } = self else {
            return Err("it is for people".to_owned());
        };
        let mut filled = Map::new();
        for (member, value) in members {
            let value = match (value, name.as_str(), member.as_str()) {
                (Value::String(text), "notify", "text") => {
                    variable::fill_words(text, values).into()
                }
                (Value::String(text), "evidence.collect", _) => {
                    match variable::fill(text, values) {
                        Ok(text) => text.into(),
                        Err(_) => continue,
                    }
                }
                (Value::String(text), ..) => variable::fill(text, values)?.into(),
                (other, ..) => other.clone(),
            };
            filled.insert(member.clone(), value);
        }
        Act::read(filled)
    }
}
