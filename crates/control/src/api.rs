//! What the management API sends and takes, as types; the command line reads the same ones.
//!
//! Lists are pages, the latest first: ask with `limit`, and with `before` set to the `next` of the
//! page before.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::template::Parameter;
use model::{
    AgentName, ApprovalId, ApprovalLevel, ApprovalStatus, DecisionId, Grant, InstanceId, Lifecycle,
    Pattern, Proof, SegmentName, ServerName, TaskId, TaskStatus, TemplateName,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod inspection;

pub use inspection::{
    Canary, CreateCanary, RemoveCanary, ReviewTool, ReviewedTool, Shape, ToolState,
};

mod findings;
mod response;
mod signals;

pub use self::response::{
    Acted, AnswerStep, BeginRun, Blast, BlastRadius, ChangeHold, Hold, Holding, Playbook,
    PlaybookText, Run, TokensRevoked,
};

pub use signals::{SignalPeers, SignalReceiver, SignalStream, SignalTransmitter};

pub use findings::{
    CloseIncident, EndSuppression, Ended, Feedback, Finding, GiveFeedback, Incident,
    IncidentStatus, LONGEST_WAIT, Risk, SetRisk, Suppress, Suppression, TaskScore, WriteNote,
};

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

/// How fast somebody may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// So fast; without a rate, as fast as they like.
    pub rate: Option<model::Rate>,
    /// How many calls were refused for being too fast, since the process runs.
    pub refused: u64,
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
    /// How fast it may call with all its tasks together, and how often it was too fast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
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

/// Asks for an SVID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestSvid {
    /// A certification request (PKCS#10, RFC 2986) in PEM, signed with the P-256 key that it is about. It may
    /// name the agent's SPIFFE ID, and nobody else.
    pub csr: String,
}

/// An X.509-SVID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Svid {
    /// The SPIFFE ID in it: the agent's.
    pub spiffe_id: String,
    /// The instance that it was issued to.
    pub instance: InstanceId,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// SHA-256 of it in base64url, as tokens that are bound to it have it (RFC 8705 §3.1).
    pub thumbprint: String,
    /// When it expires.
    pub expires_at: Timestamp,
    /// The certificate, in PEM.
    pub certificate: String,
    /// The certificates of the trust domain's authorities, in PEM.
    pub bundle: String,
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
    /// How fast it may call, and how often it was too fast, while it is known to the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
    /// For clients that can name their task only by the URL: the URL of each server of the grant.
    pub urls: BTreeMap<ServerName, String>,
    /// Where clients of PostgreSQL connect, for each database of the grant.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub databases: BTreeMap<ServerName, String>,
    /// The forward proxy to the HTTP APIs of the grant, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
}

/// Something that a person is asked to approve, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// What is asked; its status is the one at the moment of the answer.
    #[serde(flatten)]
    pub approval: model::Approval,
    /// How often it may still be used.
    #[serde(default)]
    pub uses_left: u32,
}

/// Approves something: `POST /v1/approvals/{id}/approve`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// What it covers; the very call that was asked about when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covers: Option<model::approval::Covers>,
    /// How often; once when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// How long, in seconds; as configured when absent, and never beyond the end of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_seconds: Option<u64>,
    /// Who decides, as they name themselves; at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, in words; at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// Refuses something, or takes back what was approved: `POST /v1/approvals/{id}/deny`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deny {
    /// Who decides, as they name themselves; at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, in words; at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// Sets how much needs a person: `POST /v1/agents/{name}/approval-level` and `/v1/tasks/{id}/…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetApprovalLevel {
    /// How much.
    pub level: ApprovalLevel,
    /// For how long, in seconds; until it is lowered when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Why, in words; at most 500 characters.
    #[serde(default)]
    pub because: String,
}

/// How much of what an agent or a task does needs a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaisedLevel {
    /// The agent, if it is one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The task, if it is one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// How much.
    pub level: ApprovalLevel,
    /// Until when; until it is lowered when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why, in words.
    pub because: String,
}

/// What became of an access request: the answer of `GET /access/v1/requests/{id}` (AuthZEN Access
/// Request and Approval Profile, Task Status Endpoint).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRequest {
    /// The request.
    pub task: AccessTask,
    /// How to go on; only when it is approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<AccessResult>,
}

/// An access request. It is called a task in the profile, and has nothing to do with tasks of agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessTask {
    /// Its id.
    pub id: ApprovalId,
    /// What became of it: `pending`, `approved`, `denied`, `expired` or `cancelled`.
    pub status: ApprovalStatus,
    /// Where to ask again.
    pub status_endpoint: String,
    /// Until when it waits.
    pub expires_at: Timestamp,
    /// Where to take it back while it waits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, String>,
}

/// How to go on with what was approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessResult {
    /// Always `reevaluate`: send the same again, and it is decided anew.
    pub mode: String,
    /// What was approved.
    pub approval: ApprovedUntil,
}

/// What was approved, as the profile has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovedUntil {
    /// Its id.
    pub id: ApprovalId,
    /// When.
    pub approved_at: Timestamp,
    /// Until when.
    pub approved_until: Timestamp,
    /// How often it may still be used.
    pub uses_left: u32,
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
    /// How fast its tasks may call; what the configuration says, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<model::Rate>,
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

/// A task of which the vault keeps content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptTask {
    /// The task.
    pub task: TaskId,
    /// The agent whose work it is.
    pub agent: AgentName,
    /// How many payloads there are.
    pub payloads: u64,
    /// Their bytes on the disk.
    pub bytes: u64,
    /// Whether its key was destroyed, so that nothing of it can be read any more.
    pub destroyed: bool,
}

/// A payload in the vault, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPayload {
    /// The task.
    pub task: TaskId,
    /// The decision that permitted what it is a part of.
    pub decision: DecisionId,
    /// Which part: `arguments`, `request` or `answer`.
    pub part: String,
    /// When it was sealed.
    pub time: Timestamp,
    /// Bytes of the whole payload.
    pub bytes: u64,
    /// Bytes that are kept, from its beginning.
    pub kept: u64,
    /// The salted hash of the whole payload, as the record of the result has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// Which part of a decision's content: the body of `POST /v1/vault/decisions/{decision}/show`; may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShowKept {
    /// One part only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
}

/// A payload with its content: as text, or in base64 when it is none. It has no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
pub struct OpenedPayload {
    /// What it is.
    #[serde(flatten)]
    pub payload: KeptPayload,
    /// The content, when it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The content in base64 (RFC 4648 §4), when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
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
