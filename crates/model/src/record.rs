//! Records: the entries of the audit log, one line of JSON each.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::Proof;
use crate::approval::ApprovalLevel;
use crate::decision::Denial;
use crate::id::{ApprovalId, DecisionId, InstanceId, TaskId};
use crate::inspection::Severity;
use crate::name::{AgentName, ServerName};
use crate::provenance::Checked;
use crate::spending::Spent;

/// One entry of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When it was made.
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// An action was decided. A permitted one is forwarded only after this record is durable.
    Intent(Box<Intent>),
    /// What became of a permitted action.
    Result(Box<ActionResult>),
    /// A request did not even become an action: no caller, or nothing that could be parsed.
    Refusal(Box<Refusal>),
    /// The control plane changed: enrolment, task, policy reload, quarantine, keys, start and stop.
    Change(Box<Change>),
    /// A detector saw something.
    Finding(Box<Found>),
    /// An incident began, or changed.
    Incident(Box<IncidentChanged>),
}

/// An action and the decision on it, with all that is needed to reproduce the decision (R2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// Names the decision.
    pub decision: DecisionId,
    /// Who: the agent.
    pub agent: AgentName,
    /// Who: the instance.
    pub instance: InstanceId,
    /// How possession was proved.
    pub proof: Proof,
    /// Under which task.
    pub task: TaskId,
    /// Where.
    pub server: ServerName,
    /// The protocol's method, such as `tools/call` or `GET`.
    pub method: String,
    /// The tool, URI, prompt, endpoint, model, skill or tables; empty for the server itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Arguments as the redaction rules let them be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    /// HMAC-SHA-256 of the arguments as forwarded, keyed with the task's salt, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments_hash: Option<String>,
    /// Whether it was permitted.
    pub permitted: bool,
    /// Why not, if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denial: Option<Denial>,
    /// The policies that determined it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// The version of the policy set.
    pub policy_version: String,
    /// The permission of the grant that covered it: position, and position of the tool in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<(usize, Option<usize>)>,
    /// What covered it in the tasks that this one is a part of, the nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<Within>,
    /// The approval that let it through; when it was refused, the one that a person was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalId>,
    /// How much needed a person's approval then.
    #[serde(default, skip_serializing_if = "ApprovalLevel::is_usual")]
    pub approval_level: ApprovalLevel,
    /// What was found about where its arguments come from, if they were checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Box<Checked>>,
    /// What it was expected to use up at most, and was held back for it.
    #[serde(default, skip_serializing_if = "Spent::is_nothing")]
    pub expected: Spent,
    /// How bad the agent and the task looked then: 0 to 100, whichever was more.
    #[serde(default, skip_serializing_if = "is_none")]
    pub risk: u8,
}

/// A score that says nothing.
fn is_none(risk: &u8) -> bool {
    *risk == 0
}

/// A task that an action's task is a part of, and what in it covered the action too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Within {
    /// The task.
    pub task: TaskId,
    /// The permission of its grant: position, and position of the tool in it.
    pub permission: (usize, Option<usize>),
    /// How bad that task and its agent looked then: 0 to 100.
    #[serde(default, skip_serializing_if = "is_none")]
    pub risk: u8,
}

/// What became of a permitted action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionResult {
    /// The decision that permitted it.
    pub decision: DecisionId,
    /// The task.
    pub task: TaskId,
    /// The tasks that this one is a part of, the nearest first: it counts for each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<TaskId>,
    /// How it ended.
    pub ended: Ended,
    /// How long it took, in microseconds, from the intent record to the end of the answer.
    pub micros: u64,
    /// The bytes of the answer.
    pub bytes: u64,
    /// HMAC-SHA-256 of the answer's bytes, keyed with the task's salt, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// What it used up besides itself.
    #[serde(default, skip_serializing_if = "Spent::is_nothing")]
    pub spent: Spent,
    /// What the enforcement point saw in it: names, sizes and hashes, never content.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, Value>,
}

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The upstream answered with a result.
    Answered,
    /// The upstream answered with an error of the protocol.
    UpstreamError,
    /// The upstream could not be reached, or broke off.
    UpstreamFailed,
    /// The agent went away or cancelled.
    Cancelled,
    /// The gateway cut it off because the task, the agent or the server was ended.
    Cut,
    /// It was not forwarded: the task, agent or server was ended after the intent was recorded.
    NotForwarded,
}

/// A request that did not become an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// The enforcement point or endpoint, such as `/mcp/files` or `/oauth/token`.
    pub endpoint: String,
    /// Why.
    pub denial: Denial,
    /// The caller as far as it was established, such as an instance id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// The caller's agent, if it was established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The caller's task, if it was established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// What the refused were told that names this record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionId>,
    /// How many requests were refused in this way; more than one where they came too fast to be recorded
    /// singly, and then the time of the record is that of the last one.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: u64,
    /// When the first of them came, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl Refusal {
    /// One request that was refused, by nobody who is known.
    #[must_use]
    pub fn new(endpoint: impl Into<String>, denial: Denial) -> Self {
        Self {
            endpoint: endpoint.into(),
            denial,
            caller: None,
            agent: None,
            task: None,
            decision: None,
            times: once(),
            since: None,
        }
    }
}

fn once() -> u64 {
    1
}

fn is_once(times: &u64) -> bool {
    *times == 1
}

/// A change of the control plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Who made it: `operator`, an instance id, or `sallyport` itself.
    pub actor: String,
    /// What was done, as `noun.verb`: `agent.registered`, `task.opened`, `policy.reloaded`.
    pub change: String,
    /// What it was done to.
    pub subject: String,
    /// Further facts; never a secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, Value>,
}

/// Something that a detector saw. What it quoted is not here: that may be anybody's data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Its number, from 1 on.
    pub finding: u64,
    /// The rule that saw it.
    pub rule: String,
    /// How much it matters.
    pub severity: Severity,
    /// The risk of the OWASP Top 10 for Agentic Applications, such as `ASI01`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asi: Option<String>,
    /// The technique of MITRE ATLAS, such as `AML.T0051`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub atlas: Option<String>,
    /// The agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerName>,
    /// The tool, resource, endpoint, model, skill or tables, escaped and shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Where in a text it was, such as `text > base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What it means, in a sentence for a person.
    pub explanation: String,
    /// Whose doing it is: `done` by the agent, or `received` by it.
    pub origin: String,
    /// The decision that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionId>,
    /// The record that it is about, by its index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<u64>,
    /// The incident that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<u64>,
    /// Findings before it that have no record of their own, since there were too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unrecorded: u64,
}

/// A number that says nothing.
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// An incident began, or changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentChanged {
    /// Its number, from 1 on.
    pub incident: u64,
    /// What happened: `opened`, `raised`, `closed`, `false-alarm` or `noted`.
    pub change: String,
    /// How much it matters now.
    pub severity: Severity,
    /// The agents that it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentName>,
    /// The rules that saw something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// How many findings it has.
    pub findings: u64,
    /// Who changed it, when that was a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What that person wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Record {
    /// A record of an event at a time.
    #[must_use]
    pub fn new(time: Timestamp, event: Event) -> Self {
        Self { time, event }
    }

    /// The record of a change of the control plane.
    #[must_use]
    pub fn change(
        time: Timestamp,
        actor: impl Into<String>,
        change: impl Into<String>,
        subject: impl Into<String>,
    ) -> Self {
        let change = Change {
            actor: actor.into(),
            change: change.into(),
            subject: subject.into(),
            details: BTreeMap::new(),
        };
        Self::new(time, Event::Change(Box::new(change)))
    }

    /// Adds a fact to a record of a change; leaves other records as they are.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        if let Event::Change(change) = &mut self.event {
            change.details.insert(name.to_owned(), value.into());
        }
        self
    }

    /// The bytes that go into the log: one line of JSON without the line's end.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("records are maps with text keys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip() {
        let record = Record::change(
            Timestamp::UNIX_EPOCH,
            "operator",
            "agent.registered",
            "triage",
        )
        .with("sponsor", "ada@example.org");
        let text = String::from_utf8(record.to_bytes()).unwrap();
        assert!(text.contains(r#""event":"change""#), "{text}");
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
