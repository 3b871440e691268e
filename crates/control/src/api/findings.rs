//! Findings, incidents and scores, as the management API sends and takes them.
//!
//! Both lists can be followed: with `after` they come in the order of their making (findings by `id`,
//! incidents by `revision`), and with `wait` the answer waits up to so many seconds for the next one.

use jiff::Timestamp;
use model::inspection::{Response, Severity};
use model::{AgentName, DecisionId, ServerName, TaskId};
use monitor::incidents::{Floor, Origin};
use monitor::{Asi, Atlas, Evidence};
use serde::{Deserialize, Serialize};

pub use monitor::incidents::{Incident, IncidentStatus, Suppression};

/// Longest time that an answer waits for something new, in seconds.
pub const LONGEST_WAIT: u64 = 25;

/// Something that a detector saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Its number, from 1 on, as it stands in its record.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// The rule that saw it.
    pub rule: String,
    /// How much it matters, after what people said about such findings.
    pub severity: Severity,
    /// The risk of the OWASP Top 10 for Agentic Applications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asi: Option<Asi>,
    /// The technique of MITRE ATLAS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub atlas: Option<Atlas>,
    /// The agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerName>,
    /// The tool, resource, prompt, endpoint, model, skill or tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Whose doing it is.
    pub origin: Origin,
    /// What was looked at: `behaviour`, or a kind of content such as `tool-result`.
    pub seen_in: String,
    /// What was done about the message at once, when it was in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Response>,
    /// The decision that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionId>,
    /// The record of the audit log that it is about, by its index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<u64>,
    /// What it means, in a sentence for a person.
    pub explanation: String,
    /// What was seen, where. It is nowhere but here: the audit log has no quotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// The incident that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<u64>,
    /// Whether it added to the scores; what an incident had before does not.
    pub scored: bool,
    /// What somebody said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<Feedback>,
}

/// What somebody said about a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// Whether it was right. A false alarm lowers such findings, and takes back what it added to scores.
    pub right: bool,
    /// Who said so.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// In words.
    pub note: String,
}

/// Says something about a finding: `POST /v1/findings/{id}/feedback`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GiveFeedback {
    /// Whether it was right.
    pub right: bool,
    /// In words; at most 500 characters.
    #[serde(default)]
    pub note: String,
}

/// Closes an incident: `POST /v1/incidents/{id}/close`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloseIncident {
    /// Whether it was nothing.
    #[serde(default)]
    pub false_alarm: bool,
    /// What was done or found out, in words; at most 500 characters.
    #[serde(default)]
    pub note: String,
}

/// Writes on an incident: `POST /v1/incidents/{id}/note`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteNote {
    /// In words; at most 500 characters.
    pub note: String,
}

/// Suppresses findings for a time: `POST /v1/suppressions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suppress {
    /// The rule.
    pub rule: String,
    /// Only about this agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// Only about this server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerName>,
    /// For how long, in seconds; at most 90 days.
    pub ttl_seconds: u64,
    /// Why, in words; at most 500 characters.
    pub because: String,
}

/// Ends suppressions of exactly this: `POST /v1/suppressions/end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndSuppression {
    /// The rule.
    pub rule: String,
    /// The agent, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The server, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerName>,
}

/// The answer to `POST /v1/suppressions/end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How many suppressions ended.
    pub ended: usize,
}

/// How bad an agent looks: `GET /v1/agents/{name}/risk`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risk {
    /// The agent.
    pub agent: AgentName,
    /// Its score right now, 0 to 100. A task's decisions are made with this or the task's own, whichever
    /// is more.
    pub score: u8,
    /// What an operator set as the least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Floor>,
    /// Its open tasks that have a score of their own, the worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskScore>,
}

/// The score of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskScore {
    /// The task.
    pub task: TaskId,
    /// Its score, 0 to 100.
    pub score: u8,
}

/// Sets the least score of an agent: `POST /v1/agents/{name}/risk`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetRisk {
    /// The score, 0 to 100. Findings may raise it further.
    pub score: u8,
    /// For how long, in seconds; until it is cleared when this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// Why, in words; at most 500 characters.
    #[serde(default)]
    pub because: String,
}
