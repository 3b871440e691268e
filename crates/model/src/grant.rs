//! What one task may do: RFC 9396 authorization details with constraints and budgets.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::agent::Proof;
use crate::name::ServerName;
use crate::pattern::Pattern;
use crate::rate::Rate;
use crate::spending::Spent;
use crate::statement::TableOperation;

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
    /// How often the task may call; what the configuration says, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Which of the task's inputs may steer arguments.
    #[serde(default, skip_serializing_if = "TrustedInputs::is_nothing")]
    pub trusted_inputs: TrustedInputs,
}

/// Which of a task's inputs count as the words of whom it is for. What an agent wrote when it opened the
/// task could come from anything that it has read before, so without this it steers nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedInputs {
    /// Whether the purpose does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub purpose: bool,
    /// The parameters whose values do.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub parameters: BTreeSet<String>,
}

impl TrustedInputs {
    /// Whether none of them does.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// When something that is allowed needs a person's approval besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NeedsApproval {
    /// Each time.
    Always,
}

/// One authorization detail: what may be done at one server. Which members mean something depends on
/// the kind; the others are empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permission {
    /// The authorization details type (RFC 9396 §2.1).
    #[serde(rename = "type")]
    pub kind: PermissionKind,
    /// The server.
    pub server: ServerName,
    /// MCP: tools that may be called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<CallPermission>,
    /// HTTP: endpoints that may be requested, such as `GET /customers/{id}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<CallPermission>,
    /// LLM: models that may be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<CallPermission>,
    /// A2A: skills that may be asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skills: Vec<CallPermission>,
    /// PostgreSQL: tables that may be touched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TablePermission>,
    /// MCP: resources, by URI, that may be read and subscribed to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Pattern>,
    /// MCP: prompts that may be fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<Pattern>,
    /// MCP: what the server may ask of the agent in return.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_requests: Vec<ServerRequest>,
    /// When a person must approve what it allows; never for talking to the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<NeedsApproval>,
    /// HTTP: whether tunnels may be opened that nobody looks into, so that no endpoint narrows them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub connect: bool,
}

impl Permission {
    /// A permission of a kind that allows nothing yet but to talk to the server.
    #[must_use]
    pub fn new(kind: PermissionKind, server: ServerName) -> Self {
        Self {
            kind,
            server,
            tools: Vec::new(),
            endpoints: Vec::new(),
            models: Vec::new(),
            skills: Vec::new(),
            tables: Vec::new(),
            resources: Vec::new(),
            prompts: Vec::new(),
            server_requests: Vec::new(),
            approval: None,
            connect: false,
        }
    }

    /// What may be called: tools, endpoints, models or skills, as the kind has it.
    #[must_use]
    pub fn calls(&self) -> &[CallPermission] {
        match self.kind {
            PermissionKind::Mcp => &self.tools,
            PermissionKind::Http => &self.endpoints,
            PermissionKind::Llm => &self.models,
            PermissionKind::A2a => &self.skills,
            PermissionKind::Postgres => &[],
        }
    }

    /// What may be called, to be changed.
    pub fn calls_mut(&mut self) -> &mut [CallPermission] {
        match self.kind {
            PermissionKind::Mcp => &mut self.tools,
            PermissionKind::Http => &mut self.endpoints,
            PermissionKind::Llm => &mut self.models,
            PermissionKind::A2a => &mut self.skills,
            PermissionKind::Postgres => &mut [],
        }
    }
}

/// The authorization details types in use: one for each kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PermissionKind {
    /// Use of an MCP server.
    #[serde(rename = "sallyport_mcp")]
    Mcp,
    /// Use of an HTTP API.
    #[serde(rename = "sallyport_http")]
    Http,
    /// Use of a provider of models.
    #[serde(rename = "sallyport_llm")]
    Llm,
    /// Use of another agent.
    #[serde(rename = "sallyport_a2a")]
    A2a,
    /// Use of a PostgreSQL database.
    #[serde(rename = "sallyport_postgres")]
    Postgres,
}

/// Leave to touch the tables whose name matches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TablePermission {
    /// Which tables, as `schema.name`.
    pub name: Pattern,
    /// In which ways.
    pub operations: BTreeSet<TableOperation>,
    /// The columns that may be read and written; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<BTreeSet<String>>,
    /// Which rows: an SQL condition that the database itself holds them to; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<String>,
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

/// Leave to call the tools, endpoints, models or skills whose name matches, with constrained
/// arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallPermission {
    /// Which ones.
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
    /// How often they may be called in this task; `None` leaves it to the overall budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_calls: Option<u32>,
}

impl CallPermission {
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

/// One amount of what was spent.
pub type AmountOf = fn(&Spent) -> u64;

/// How much a task may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Actions in all: tool calls, resource reads, prompt fetches, requests, statements, messages.
    #[serde(default = "Budget::default_calls")]
    pub calls: u32,
    /// Tokens of models, read and written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Money, in millionths of a US dollar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_usd: Option<u64>,
    /// Rows that databases return or change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Bytes that databases return, and that pass through tunnels, both ways together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl Budget {
    const fn default_calls() -> u32 {
        1_000
    }

    /// A budget that limits nothing but the number of actions.
    #[must_use]
    pub const fn of_calls(calls: u32) -> Self {
        Self {
            calls,
            tokens: None,
            micro_usd: None,
            rows: None,
            bytes: None,
        }
    }

    /// The limited amounts besides the number of actions, each with its name, its limit, and how
    /// much of it was spent.
    pub fn amounts(&self) -> impl Iterator<Item = (&'static str, u64, AmountOf)> + use<> {
        let each: [(_, _, AmountOf); 4] = [
            ("tokens", self.tokens, |spent| spent.tokens),
            ("micro_usd", self.micro_usd, |spent| spent.micro_usd),
            ("rows", self.rows, |spent| spent.rows),
            ("bytes", self.bytes, |spent| spent.bytes),
        ];
        each.into_iter()
            .filter_map(|(name, limit, of)| Some((name, limit?, of)))
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::of_calls(Self::default_calls())
    }
}
