//! Templates: the declared kinds of task.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::agent::Proof;
use crate::grant::{Budget, Grant, TrustedInputs};
use crate::inspection::Inspection;
use crate::mistake::Mistake;
use crate::name::{AgentName, SegmentName, TemplateName};
use crate::pattern::Pattern;

pub(crate) mod written;

/// A declared kind of task: who may open it, for how long, and what it may ask for. Read from
/// `templates/<name>.toml`; the file format is described in `docs/templates.md`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Template {
    /// Its name.
    pub name: TemplateName,
    /// What such a task is for, in words.
    pub description: String,
    /// The agents that may open it.
    pub agents: Vec<Pattern>,
    /// The segments whose agents may open it.
    pub segments: Vec<SegmentName>,
    /// How long a task lives at most.
    pub ttl: Duration,
    /// The parameters that are filled in when a task opens.
    pub parameters: BTreeMap<String, Parameter>,
    /// What every such task is for, in words; then whoever opens one cannot say otherwise.
    pub purpose: Option<String>,
    /// Whether the purpose may steer arguments although an agent wrote it.
    pub purpose_trusted: bool,
    /// What is done about what is seen in contents, at least, whatever servers say.
    pub inspection: Inspection,
    /// What a task may do, with `${parameter}` still in the constraints.
    pub grant: Grant,
}

/// A parameter of a template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// What it means, in words.
    #[serde(default)]
    pub description: String,
    /// A regular expression that a value must match from end to end.
    #[serde(default = "Parameter::default_pattern")]
    pub pattern: String,
    /// The value when none is given; without one the parameter must be given.
    #[serde(default)]
    pub default: Option<String>,
    /// Whether a value may steer arguments although an agent gave it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trusted: bool,
}

impl Parameter {
    fn default_pattern() -> String {
        "[A-Za-z0-9][A-Za-z0-9_-]{0,63}".to_owned()
    }
}

/// Why a task could not be opened from a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// The agent is not one that may open it. Says nothing about who may.
    #[error("agent `{agent}` may not open tasks from template `{template}`")]
    NotForThisAgent {
        /// The agent.
        agent: AgentName,
        /// The template.
        template: TemplateName,
    },
    /// A parameter without a default was not given.
    #[error("parameter `{0}` is missing; pass it as `--param {0}=VALUE`")]
    Missing(String),
    /// A parameter was given that the template does not have.
    #[error("template `{template}` has no parameter `{given}`; it has: {known}")]
    Unknown {
        /// What was given.
        given: String,
        /// The template.
        template: TemplateName,
        /// The parameters that it has, in words.
        known: String,
    },
    /// A value does not match the parameter's pattern.
    #[error("the value of parameter `{name}` does not match its pattern `{pattern}`")]
    Mismatch {
        /// The parameter.
        name: String,
        /// The pattern.
        pattern: String,
    },
}

impl Template {
    /// Reads one template.
    ///
    /// # Errors
    /// Every mistake in the text, each with its place.
    pub fn parse(name: TemplateName, file: &Path, text: &str) -> Result<Self, Vec<Mistake>> {
        written::parse(name, file, text)
    }

    /// Whether this agent may open tasks from this template.
    #[must_use]
    pub fn is_for(&self, agent: &AgentName, segment: Option<&SegmentName>) -> bool {
        self.agents
            .iter()
            .any(|pattern| pattern.matches(agent.as_str()))
            || segment.is_some_and(|segment| self.segments.contains(segment))
    }

    /// Which inputs of a task may steer its arguments, when `opener` gave these parameters. What the
    /// template itself says may, whoever opens the task.
    #[must_use]
    pub fn trusted_inputs(
        &self,
        given: &BTreeMap<String, String>,
        opener: Opener,
    ) -> TrustedInputs {
        let is_trusted = |name: &str, parameter: &Parameter| match opener {
            Opener::Operator => true,
            Opener::Agent => parameter.trusted || !given.contains_key(name),
            Opener::Delegating => !given.contains_key(name),
        };
        let parameters = self.parameters.iter();
        TrustedInputs {
            purpose: self.purpose.is_some()
                || match opener {
                    Opener::Operator => true,
                    Opener::Agent => self.purpose_trusted,
                    Opener::Delegating => false,
                },
            parameters: parameters
                .filter(|(name, parameter)| is_trusted(name, parameter))
                .map(|(name, _)| name.clone())
                .collect(),
        }
    }

    /// The grant of a task with these parameters, and all parameters with defaults filled in.
    ///
    /// # Errors
    /// [`FillError`] when a parameter is missing, unknown or does not match its pattern.
    pub fn fill(
        &self,
        given: &BTreeMap<String, String>,
    ) -> Result<(Grant, BTreeMap<String, String>), FillError> {
        written::fill(self, given)
    }
}

/// Who opens a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opener {
    /// The operator, for whom the task is for.
    Operator,
    /// The agent itself.
    Agent,
    /// An agent, as a part of a task of its own. What may steer that task may steer the part as well, so
    /// nothing that it says needs to be taken at its word.
    Delegating,
}

/// The budget of a template that does not state one.
pub const DEFAULT_BUDGET: Budget = Budget::of_calls(1_000);

/// The weakest proof that a template accepts when it does not say.
pub const DEFAULT_PROOF: Proof = Proof::Dpop;
