//! One attempted operation of an agent at an enforcement point.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::grant::{PermissionKind, ServerRequest};
use crate::name::ServerName;
use crate::spending::Spent;
use crate::statement::Statement;

/// What an agent attempts.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Where.
    pub server: ServerName,
    /// The protocol's own name for it, such as `tools/call`. For records, never for decisions.
    pub method: String,
    /// What.
    pub operation: Operation,
    /// What it may use up at most, as far as that is known beforehand. Held back from the task's
    /// budget until the action has ended.
    pub expected: Spent,
}

impl Action {
    /// An action of which nothing is known about what it will use up.
    #[must_use]
    pub fn new(server: ServerName, method: impl Into<String>, operation: Operation) -> Self {
        Self {
            server,
            method: method.into(),
            operation,
            expected: Spent::default(),
        }
    }
}

/// The operations that decisions tell apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Call a tool of an MCP server.
    CallTool {
        /// The tool's name at the server.
        tool: String,
        /// The arguments as the upstream will see them.
        arguments: Map<String, Value>,
    },
    /// Read or watch a resource of an MCP server.
    ReadResource {
        /// Its URI.
        uri: String,
    },
    /// Fetch a prompt of an MCP server.
    GetPrompt {
        /// Its name.
        name: String,
    },
    /// Talk to the server without touching anything: handshake, listings, pings, notifications.
    Converse,
    /// Let the server ask something of the agent.
    Answer {
        /// What it asks for.
        request: ServerRequest,
    },
    /// Send a request to an HTTP API.
    Request {
        /// The endpoint: method and path template, such as `GET /customers/{id}`. `WEBSOCKET` is
        /// the method of an upgrade.
        endpoint: String,
        /// What the request says: `path.NAME`, `query.NAME`, and `body.NAME` for each member of a
        /// JSON object, or `body` for anything else.
        arguments: Map<String, Value>,
    },
    /// Have a model generate something.
    Generate {
        /// The model, as the provider names it.
        model: String,
        /// The request's parameters.
        arguments: Map<String, Value>,
    },
    /// Send a message to another agent.
    Message {
        /// The skill that is asked for.
        skill: String,
        /// What the message says.
        arguments: Map<String, Value>,
    },
    /// Have a database carry out a statement.
    Query {
        /// What it says and touches.
        statement: Statement,
    },
    /// Open a tunnel to an HTTP API that nobody looks into.
    Connect {
        /// Where to: host and port, such as `api.example.org:443`.
        authority: String,
    },
}

impl Operation {
    /// What is touched: the tool, URI, prompt, endpoint, model or skill, the tables of a statement, or
    /// where a tunnel leads; empty for the server itself.
    #[must_use]
    pub fn target(&self) -> Cow<'_, str> {
        match self {
            Self::CallTool { tool: name, .. }
            | Self::ReadResource { uri: name }
            | Self::GetPrompt { name }
            | Self::Request { endpoint: name, .. }
            | Self::Generate { model: name, .. }
            | Self::Message { skill: name, .. }
            | Self::Connect { authority: name } => Cow::Borrowed(name),
            Self::Query { statement } => Cow::Owned(statement.target()),
            Self::Converse | Self::Answer { .. } => Cow::Borrowed(""),
        }
    }

    /// The name and the arguments of what is called, if something is: a tool, an endpoint, a model
    /// or a skill. The kind is that of the permissions that can cover it.
    #[must_use]
    pub fn call(&self) -> Option<(PermissionKind, &str, &Map<String, Value>)> {
        match self {
            Self::CallTool { tool, arguments } => Some((PermissionKind::Mcp, tool, arguments)),
            Self::Request {
                endpoint,
                arguments,
            } => Some((PermissionKind::Http, endpoint, arguments)),
            Self::Generate { model, arguments } => Some((PermissionKind::Llm, model, arguments)),
            Self::Message { skill, arguments } => Some((PermissionKind::A2a, skill, arguments)),
            _ => None,
        }
    }

    /// Whether it counts against the task's budget. What is only prepared counts when it is carried out.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        match self {
            Self::Converse | Self::Answer { .. } => false,
            Self::Query { statement } => !statement.is_prepared_only(),
            _ => true,
        }
    }
}
