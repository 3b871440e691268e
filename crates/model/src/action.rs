//! One attempted operation of an agent at an enforcement point.

use serde_json::{Map, Value};

use crate::grant::ServerRequest;
use crate::name::ServerName;

/// What an agent attempts.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Where.
    pub server: ServerName,
    /// The protocol's own name for it, such as `tools/call`. For records, never for decisions.
    pub method: String,
    /// What.
    pub operation: Operation,
}

/// The operations that decisions tell apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Call a tool.
    CallTool {
        /// The tool's name at the server.
        tool: String,
        /// The arguments as the upstream will see them.
        arguments: Map<String, Value>,
    },
    /// Read or watch a resource.
    ReadResource {
        /// Its URI.
        uri: String,
    },
    /// Fetch a prompt.
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
}

impl Operation {
    /// The Cedar action that this is, without its namespace.
    #[must_use]
    pub fn cedar_action(&self) -> &'static str {
        match self {
            Self::CallTool { .. } => "call_tool",
            Self::ReadResource { .. } => "read_resource",
            Self::GetPrompt { .. } => "get_prompt",
            Self::Converse => "converse",
            Self::Answer { .. } => "answer",
        }
    }

    /// What is touched: the tool, URI or prompt; empty for the server itself.
    #[must_use]
    pub fn target(&self) -> &str {
        match self {
            Self::CallTool { tool, .. } => tool,
            Self::ReadResource { uri } => uri,
            Self::GetPrompt { name } => name,
            Self::Converse | Self::Answer { .. } => "",
        }
    }

    /// Whether it counts against the task's budget.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        !matches!(self, Self::Converse | Self::Answer { .. })
    }
}
