//! What one task may do: RFC 9396 authorization details with constraints and budgets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::agent::Proof;
use crate::name::ServerName;
use crate::pattern::Pattern;

/// What one task may do. Fixed when the task opens; it can only run out, never grow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The authorization details (RFC 9396 §2).
    pub permissions: Vec<Permission>,
    /// The budget over all permissions.
    pub budget: Budget,
    /// The weakest proof of possession that calls under this grant may come with.
    pub proof: Proof,
}

/// One authorization detail: what may be done at one MCP server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permission {
    /// The authorization details type (RFC 9396 §2.1).
    #[serde(rename = "type")]
    pub kind: PermissionKind,
    /// The server.
    pub server: ServerName,
    /// Tools that may be called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolPermission>,
    /// Resources, by URI, that may be read and subscribed to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Pattern>,
    /// Prompts that may be fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<Pattern>,
    /// What the server may ask of the agent in return.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_requests: Vec<ServerRequest>,
}

/// The authorization details types in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PermissionKind {
    /// Use of an MCP server.
    #[serde(rename = "sallyport_mcp")]
    Mcp,
}

/// A kind of request that an MCP server may send to the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerRequest {
    /// `sampling/createMessage`: the server uses the agent's model.
    Sampling,
    /// `elicitation/create`: the server asks the user something.
    Elicitation,
    /// `roots/list`: the server learns which folders the agent works in.
    Roots,
}

impl ServerRequest {
    /// The kind that an MCP method is; `None` for a method that a server may never send.
    #[must_use]
    pub fn of_method(method: &str) -> Option<Self> {
        match method {
            "sampling/createMessage" => Some(Self::Sampling),
            "elicitation/create" => Some(Self::Elicitation),
            "roots/list" => Some(Self::Roots),
            _ => None,
        }
    }
}

/// Leave to call the tools whose name matches, with constrained arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolPermission {
    /// Which tools.
    pub name: Pattern,
    /// Constraints by argument: a top-level argument name, or a JSON Pointer (RFC 6901) that starts
    /// with `/`, in which a `*` segment stands for every element or member.
    /// A constrained argument must be present unless its constraint is `optional`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arguments: BTreeMap<String, Constraint>,
    /// Whether top-level arguments that no constraint names may be passed. When absent: only if
    /// there is no constraint at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_arguments: Option<OtherArguments>,
    /// How often these tools may be called in this task; `None` leaves it to the overall budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_calls: Option<u32>,
}

impl ToolPermission {
    /// Whether arguments that no constraint names may be passed.
    #[must_use]
    pub fn allows_other_arguments(&self) -> bool {
        match self.other_arguments {
            Some(OtherArguments::Allow) => true,
            Some(OtherArguments::Refuse) => false,
            None => self.arguments.is_empty(),
        }
    }
}

/// What happens to arguments that no constraint names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtherArguments {
    /// They may be passed, with any value.
    Allow,
    /// A call that passes one is refused.
    Refuse,
}

/// What an argument's value must satisfy. All parts that are given must hold. Applied to an array,
/// every element must satisfy it (and there must be at least one, unless `optional`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    /// The value is exactly this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<Value>,
    /// The value is one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<Value>>,
    /// The value is text that starts with this. Never use it for paths or URLs: use `below`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The value is a path at or below this folder, compared segment by segment after
    /// normalisation; whatever could be read two ways is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<String>,
    /// The value is text that this regular expression matches from end to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// The value is a number not less than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Number>,
    /// The value is a number not greater than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Number>,
    /// The argument may also be left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// How much a task may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Tool calls, resource reads and prompt fetches in all.
    pub calls: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { calls: 1_000 }
    }
}
