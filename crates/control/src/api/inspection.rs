//! Tools that were approved or wait for a review, and canary tokens.

use jiff::Timestamp;
use model::ServerName;
use monitor::Finding;
pub use monitor::content::canary::Shape;
use serde::{Deserialize, Serialize};

/// How a tool stands to what was approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolState {
    /// It is listed as something else than what was approved, and waits for a review.
    Changed,
    /// Nobody approved it yet: it waits for a review.
    New,
    /// What it is listed as was rejected.
    Rejected,
    /// It is what was approved.
    Approved,
}

impl ToolState {
    /// The word in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::New => "new",
            Self::Rejected => "rejected",
            Self::Approved => "approved",
        }
    }

    /// Whether somebody has to look at it.
    #[must_use]
    pub fn waits(self) -> bool {
        matches!(self, Self::Changed | Self::New)
    }
}

/// A tool, with what there is to review: an item of `GET /v1/tools`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReviewedTool {
    /// The server.
    pub server: ServerName,
    /// The tool's name, as the server lists it: text of others.
    pub tool: String,
    /// How it stands.
    pub state: ToolState,
    /// The hash of the definition that was approved: SHA-256 of its canonical form (RFC 8785).
    pub approved: Option<String>,
    /// Who approved it: `operator`, or `first contact`.
    pub approved_by: Option<String>,
    /// When.
    pub approved_at: Option<Timestamp>,
    /// The hash of the definition that is listed instead.
    pub listed: Option<String>,
    /// When it was first seen.
    pub listed_at: Option<Timestamp>,
    /// What detectors saw in the definition that is listed instead.
    pub findings: Vec<Finding>,
    /// The definition, or the difference from what was approved to what is listed, as lines for people in
    /// which nothing acts or hides.
    pub text: String,
}

/// Accepts or rejects a definition: `POST /v1/servers/{name}/tools/accept` and `…/reject`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewTool {
    /// The tool.
    pub tool: String,
    /// The hash of the definition that was looked at.
    pub definition: String,
}

/// A canary token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// The text to plant.
    pub token: String,
    /// Where it is planted and why, in words.
    pub label: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Makes a canary token: `POST /v1/canaries`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateCanary {
    /// Where it will be planted and why, in words; 1 to 200 characters.
    pub label: String,
    /// What it is to look like.
    pub shape: Shape,
}

/// Takes a canary token up again: `POST /v1/canaries/remove`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveCanary {
    /// The token.
    pub token: String,
}
