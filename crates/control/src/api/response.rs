//! Playbooks, their runs, what is held back, and blast radii.

use jiff::Timestamp;
use model::{AgentName, SegmentName, ServerName};
use response::run::{About, Answer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use response::Run;
pub use response::blast::Blast;

/// A playbook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Playbook {
    /// What it is called.
    pub name: String,
    /// Its title.
    pub title: String,
    /// What it is for, in words.
    pub description: String,
    /// How serious what it is for is: 1 to 100, or 0.
    pub severity: u8,
    /// Its labels.
    pub labels: Vec<String>,
    /// What it can do.
    pub acts: Vec<String>,
    /// Whether it came with the program.
    pub bundled: bool,
    /// SHA-256 of its text, in hexadecimal.
    pub hash: String,
}

/// A playbook, in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlaybookText {
    /// The playbook.
    #[serde(flatten)]
    pub playbook: Playbook,
    /// The procedure, for people.
    pub procedure: String,
    /// The document (CACAO 2.0).
    pub document: Value,
}

/// Begins a run: `POST /v1/playbooks/{name}/run`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginRun {
    /// What it is about.
    #[serde(default)]
    pub about: About,
    /// Whether nothing is to be done, and only shown what would be.
    #[serde(default)]
    pub dry: bool,
}

/// Says something about a step that waits: `POST /v1/runs/{id}/steps/{step}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerStep {
    /// What.
    pub answer: Answer,
    /// Who says it; the credential does not prove it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, or what came of it.
    #[serde(default)]
    pub note: String,
}

/// The answer to `POST /v1/response/actions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acted {
    /// What came of it, in words.
    pub outcome: String,
}

/// What is held back, or to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Hold {
    /// All agents.
    All,
    /// A segment.
    Segment {
        /// The segment.
        segment: SegmentName,
    },
    /// A tool, endpoint, model, skill, resource or prompt; a table as `schema.name`, or its name alone in every
    /// schema; where a tunnel leads as `host:port`, or the host alone at every port.
    Tool {
        /// The server.
        server: ServerName,
        /// Its name.
        tool: String,
    },
}

/// Holds something back, or releases it: `POST /v1/holds` and `POST /v1/holds/release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeHold {
    /// What.
    pub what: Hold,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// Something that is held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// What.
    pub what: Hold,
    /// Why, in words.
    #[serde(default)]
    pub because: String,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// The answer to `POST /v1/agents/{name}/tokens/revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokensRevoked {
    /// The agent whose tokens are refused.
    pub agent: AgentName,
}

/// The answer to `GET /v1/blast-radius`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlastRadius {
    /// The lists.
    #[serde(flatten)]
    pub blast: Blast,
    /// Nodes and edges.
    pub graph: Value,
}
