//! What the management API sends and takes, as types; the command line reads the same ones.
//!
//! Lists are pages, the latest first: ask with `limit`, and with `before` set to the `next` of the
//! page before.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::template::Parameter;
use model::{
    AgentName, Grant, InstanceId, Lifecycle, Pattern, Proof, SegmentName, ServerName, TaskId,
    TaskStatus, TemplateName,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Entries of a page when the request does not say.
pub const DEFAULT_LIMIT: u32 = 100;
/// Most entries of a page.
pub const MOST_LIMIT: u32 = 1_000;

/// An error (RFC 9457), as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Always `about:blank`: the status says what kind it is, `rule` says more.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, to what.
    pub detail: String,
    /// The rule that refused, as one word for programs.
    pub rule: String,
    /// What the reader can do.
    pub remedy: String,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The entries, the latest first.
    pub items: Vec<T>,
    /// What to pass as `before` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The answer to a restriction, which holds from the moment of the answer. When the log or the
/// store could not be written it holds all the same, and the warnings say what is still owed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changed<T> {
    /// What was changed, as it is now.
    #[serde(flatten)]
    pub now: T,
    /// What could not be written yet, in words; it is tried again until it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its name.
    pub name: AgentName,
    /// Its SPIFFE ID.
    pub spiffe_id: String,
    /// The human who answers for it, as an e-mail address.
    pub sponsor: String,
    /// The segment that it belongs to.
    pub segment: Option<SegmentName>,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// When it was registered.
    pub registered_at: Timestamp,
}

/// Registers an agent: `POST /v1/agents`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterAgent {
    /// Its name; never one that was used before.
    pub name: AgentName,
    /// The human who answers for it, as an e-mail address.
    pub sponsor: String,
    /// The segment that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<SegmentName>,
}

/// Makes an enrolment token: `POST /v1/agents/{name}/enrolment`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakeEnrolment {
    /// How long it lives, in seconds; by default 15 minutes, at most a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

/// An enrolment token; it is shown this once. It has no `Debug`, so that it cannot be printed.
#[derive(Clone, Serialize, Deserialize)]
pub struct Enrolment {
    /// The token, good for one instance.
    pub token: String,
    /// The agent.
    pub agent: AgentName,
    /// Until when it can be used.
    pub expires_at: Timestamp,
    /// Where to enrol: the control listener.
    pub control: String,
}

/// Enrols an instance: `POST /v1/enroll`, without any other credential. It has no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enroll {
    /// The enrolment token.
    pub token: String,
    /// The instance's public key as a JWK (RFC 7517).
    pub public_jwk: Value,
}

/// What an instance learns when it enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Its id, which is its OAuth `client_id`.
    pub id: InstanceId,
    /// The agent that it is a copy of.
    pub agent: AgentName,
    /// Base URL of the control listener, which is also the issuer of tokens.
    pub control: String,
    /// Base URL of the gateway.
    pub gateway: String,
}

/// Why something is done: the body of quarantine, release, retire and disable; may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Because {
    /// In words; at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// The agent that it is a copy of.
    pub agent: AgentName,
    /// The thumbprint of its key (RFC 7638, SHA-256).
    pub thumbprint: String,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// Whether it was disabled since.
    pub disabled: bool,
}

/// Opens a task: `POST /v1/tasks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenTask {
    /// The template.
    pub template: TemplateName,
    /// The values of its parameters.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// What the task is for, in words; at most 500 characters.
    #[serde(default)]
    pub purpose: String,
    /// The agent. The operator must name it; an instance always opens for its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The task that it is to be a part of: its grant is within that one's, and it ends with it. With
    /// it an instance may open a task for another agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
    /// The only instance that may work on it. An instance always opens for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// How long it lives, in seconds; by default, and at most, as long as the template says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

/// Ends a task: `POST /v1/tasks/{id}/complete` and `…/revoke`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndTask {
    /// Why, in words; at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// The agent whose work it is.
    pub agent: AgentName,
    /// The only instance that may work on it, if it is bound to one.
    pub instance: Option<InstanceId>,
    /// The task that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
    /// The tasks that are a part of it, at any depth, while it is known to the gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<TaskId>,
    /// The template that it was opened from.
    pub template: TemplateName,
    /// The parameters that narrowed the template.
    pub parameters: BTreeMap<String, String>,
    /// Why it was opened, in words.
    pub purpose: String,
    /// Where it is in its life.
    pub status: TaskStatus,
    /// When it opened.
    pub opened_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// When it ended, if it has.
    pub ended_at: Option<Timestamp>,
    /// Why it ended, if it has.
    pub ended_because: Option<String>,
    /// What it may do.
    pub grant: Grant,
    /// How many calls it has used of its budget, while it is known to the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u32>,
    /// What it has used up besides, while it is known to the gateway.
    #[serde(default)]
    pub spent: Option<model::Spent>,
    /// For clients that can name their task only by the URL: the URL of each server of the grant.
    pub urls: BTreeMap<ServerName, String>,
}

/// A template, as far as those who open tasks need to know it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// Its name.
    pub name: TemplateName,
    /// What such a task is for, in words.
    pub description: String,
    /// The agents that may open it.
    pub agents: Vec<Pattern>,
    /// The segments whose agents may open it.
    pub segments: Vec<SegmentName>,
    /// How long a task lives at most, in seconds.
    pub ttl_seconds: u64,
    /// The weakest proof of possession that it accepts.
    pub proof: Proof,
    /// Calls in all.
    pub calls: u32,
    /// Its parameters.
    pub parameters: BTreeMap<String, Parameter>,
    /// The servers that its tasks reach.
    pub servers: Vec<ServerName>,
}

/// A protected server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its name.
    pub name: ServerName,
    /// What it is, in words.
    pub description: String,
    /// The segment that it belongs to.
    pub segment: Option<SegmentName>,
    /// What it speaks.
    pub kind: model::config::ServerKind,
    /// `stdio` for a program that the gateway runs, else how it is reached, such as `http`.
    pub transport: String,
    /// The URL that agents use.
    pub url: String,
    /// Whether it is enabled.
    pub enabled: bool,
}

/// The answer to `POST /v1/keys/rotate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// The id of the new key.
    pub kid: String,
}

/// The answer to `POST /v1/reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The version of the policy set now in use.
    pub policy_version: String,
    /// How many policies there are.
    pub policies: usize,
    /// How many templates there are.
    pub templates: usize,
    /// How many servers there are.
    pub servers: usize,
    /// Whether what was under way was cut, since the policies or a server changed.
    pub cut: bool,
}

/// The answer to `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// The trust domain.
    pub trust_domain: String,
    /// Base URL of the control listener.
    pub control: String,
    /// Base URL of the gateway.
    pub gateway: String,
    /// When the process started.
    pub started_at: Timestamp,
    /// Whether everything works; if not, `problems` says what does not.
    pub ready: bool,
    /// What does not work, in words.
    pub problems: Vec<String>,
    /// The version of the policy set in use.
    pub policy_version: String,
    /// How many policies there are.
    pub policies: usize,
    /// How many templates there are.
    pub templates: usize,
    /// How many servers there are, and how many of them are disabled.
    pub servers: Count,
    /// How many agents there are, by lifecycle.
    pub agents: BTreeMap<String, u64>,
    /// Open tasks.
    pub open_tasks: usize,
    /// Records in the audit log.
    pub log_size: u64,
    /// Restrictions that hold but could not be written to the log or the store yet.
    pub owed: usize,
    /// Why the files, as they are now, were not taken into use; what was before is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup_problem: Option<String>,
    /// What this machine cannot keep the programs from that the gateway starts, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confinement_lacks: Option<String>,
}

/// A number of things, and how many of them are disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// In all.
    pub total: usize,
    /// Of these, disabled.
    pub disabled: usize,
}

/// The answer to `GET /readyz`: 200 when ready, 503 when not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Whether requests can be served.
    pub ready: bool,
    /// Why not, in words.
    pub problems: Vec<String>,
}
