//! What steps of playbooks can do: a closed set. Each can be done twice with the effect of once, but for
//! telling people, which says so.

use model::{AgentName, SegmentName, ServerName, TaskId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Longest text that people are told, in characters.
const TEXT: usize = 4_000;
/// Longest name of a tool, in bytes.
const TOOL: usize = 1_024;

/// One thing that is done. In JSON, `action` says which, and the other members say to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", deny_unknown_fields)]
pub enum Act {
    /// Ends one task, and its parts.
    #[serde(rename = "task.end")]
    EndTask {
        /// The task.
        task: TaskId,
    },
    /// Ends all open tasks of an agent, and their parts.
    #[serde(rename = "tasks.end")]
    EndTasks {
        /// The agent.
        agent: AgentName,
    },
    /// Refuses every token that an agent has been given so far.
    #[serde(rename = "tokens.revoke")]
    RevokeTokens {
        /// The agent.
        agent: AgentName,
    },
    /// Stops an agent, and the agents that act under parts of its tasks.
    #[serde(rename = "agent.quarantine")]
    Quarantine {
        /// The agent.
        agent: AgentName,
        /// Whether the agents under it are stopped too.
        #[serde(default)]
        sub_agents: bool,
    },
    /// Lets nobody use a tool, endpoint, model, skill, resource or prompt of a server.
    #[serde(rename = "tool.disable")]
    DisableTool {
        /// The server.
        server: ServerName,
        /// The tool's name.
        tool: String,
    },
    /// Lets nobody reach a server.
    #[serde(rename = "server.disable")]
    DisableServer {
        /// The server.
        server: ServerName,
    },
    /// Wants a person's approval for more of what an agent does.
    #[serde(rename = "approval.raise")]
    RaiseApproval {
        /// The agent.
        agent: AgentName,
        /// `changes` or `all`.
        level: model::approval::ApprovalLevel,
    },
    /// Cuts a segment off: its agents may do nothing, and nobody reaches its servers.
    #[serde(rename = "segment.isolate")]
    IsolateSegment {
        /// The segment.
        segment: SegmentName,
    },
    /// Has a server's credential replaced, and takes the new one into use.
    #[serde(rename = "credential.rotate")]
    RotateCredential {
        /// The server.
        server: ServerName,
    },
    /// Collects the records about an agent or a task, with their proofs, into one file.
    #[serde(rename = "evidence.collect")]
    CollectEvidence {
        /// The agent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentName>,
        /// The task.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<TaskId>,
        /// The incident.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        incident: Option<String>,
    },
    /// Tells people. Told again after a crash in between, with the same key.
    #[serde(rename = "notify")]
    Notify {
        /// The channel, as the configuration names it.
        channel: String,
        /// What.
        text: String,
    },
}

/// The names of all acts, with what they do in words.
pub const ACTS: [(&str, &str); 12] = [
    ("task.end", "end the task and its parts"),
    ("tasks.end", "end all open tasks of the agent"),
    (
        "tokens.revoke",
        "refuse every token the agent was given so far",
    ),
    ("agent.quarantine", "stop the agent"),
    ("tool.disable", "let nobody use the tool"),
    ("server.disable", "let nobody reach the server"),
    (
        "approval.raise",
        "want a person's approval for more of what the agent does",
    ),
    ("segment.isolate", "cut the segment off"),
    ("credential.rotate", "have the server's credential replaced"),
    (
        "evidence.collect",
        "collect the records with their proofs into one file",
    ),
    ("notify", "tell people"),
    // What people do has no act; steps for them go by this name where modes are configured.
    (PERSON, "hand to a person"),
];

/// The name of steps for people.
pub const PERSON: &str = "person";

impl Act {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::EndTask { .. } => "task.end",
            Self::EndTasks { .. } => "tasks.end",
            Self::RevokeTokens { .. } => "tokens.revoke",
            Self::Quarantine { .. } => "agent.quarantine",
            Self::DisableTool { .. } => "tool.disable",
            Self::DisableServer { .. } => "server.disable",
            Self::RaiseApproval { .. } => "approval.raise",
            Self::IsolateSegment { .. } => "segment.isolate",
            Self::RotateCredential { .. } => "credential.rotate",
            Self::CollectEvidence { .. } => "evidence.collect",
            Self::Notify { .. } => "notify",
        }
    }

    /// Whether it takes something away from somebody.
    #[must_use]
    pub fn restricts(&self) -> bool {
        !matches!(self, Self::CollectEvidence { .. } | Self::Notify { .. })
    }

    /// Reads an act from its members, with everything filled in.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn read(members: Map<String, Value>) -> Result<Self, String> {
        let act: Self =
            serde_json::from_value(Value::Object(members)).map_err(|error| error.to_string())?;
        let plain = |text: &str, most: usize| {
            !text.is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control)
        };
        match &act {
            Self::DisableTool { tool, .. } if !plain(tool, TOOL) => {
                Err("`tool` is no name of a tool".to_owned())
            }
            Self::Notify { channel, text } => {
                let lines = text.lines().all(|line| !line.chars().any(char::is_control));
                if !plain(channel, 64) {
                    Err("`channel` is no name of a channel".to_owned())
                } else if text.is_empty() || text.chars().count() > TEXT || !lines {
                    Err(format!(
                        "`text` is empty, has control characters, or more than {TEXT}"
                    ))
                } else {
                    Ok(act)
                }
            }
            Self::CollectEvidence {
                agent: None,
                task: None,
                incident: None,
            } => Err("say about which `agent`, `task` or `incident`".to_owned()),
            Self::CollectEvidence { incident, .. }
                if incident.as_ref().is_some_and(|it| !plain(it, 64)) =>
            {
                Err("`incident` is no id of an incident".to_owned())
            }
            Self::RaiseApproval { level, .. } if level.is_usual() => {
                Err("`level` is `changes` or `all`: `usual` raises nothing".to_owned())
            }
            _ => Ok(act),
        }
    }

    /// A member's value as it could be: for checking a playbook whose variables have no values yet.
    pub(crate) fn sample(member: &str) -> &'static str {
        match member {
            "task" => "task_00000000000070008000000000000000",
            "level" => "all",
            _ => "sample",
        }
    }

    /// What it does, to what, in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::EndTask { task } => format!("end {task} and its parts"),
            Self::EndTasks { agent } => format!("end all open tasks of `{agent}`"),
            Self::RevokeTokens { agent } => {
                format!("refuse every token that `{agent}` was given so far")
            }
            Self::Quarantine {
                agent,
                sub_agents: true,
            } => format!("stop `{agent}` and the agents under it"),
            Self::Quarantine { agent, .. } => format!("stop `{agent}`"),
            Self::DisableTool { server, tool } => {
                format!("let nobody use `{}` of `{server}`", tool.escape_debug())
            }
            Self::DisableServer { server } => format!("let nobody reach `{server}`"),
            Self::RaiseApproval { agent, level } => {
                format!("raise what `{agent}` needs approval for to `{level}`")
            }
            Self::IsolateSegment { segment } => format!("cut the segment `{segment}` off"),
            Self::RotateCredential { server } => {
                format!("have the credential of `{server}` replaced")
            }
            Self::CollectEvidence {
                agent,
                task,
                incident,
            } => {
                let mut about = Vec::new();
                about.extend(incident.as_ref().map(|it| format!("incident {it}")));
                about.extend(agent.as_ref().map(|it| format!("`{it}`")));
                about.extend(task.as_ref().map(ToString::to_string));
                format!("collect the evidence about {}", about.join(", "))
            }
            Self::Notify { channel, text } => {
                let first = text.lines().next().unwrap_or_default();
                format!("tell `{channel}`: {first}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Act, String> {
        Act::read(value.as_object().unwrap().clone())
    }

    #[test]
    fn every_act_is_read_by_its_name_and_written_the_same() {
        for value in [
            json!({"action": "task.end", "task": Act::sample("task")}),
            json!({"action": "tasks.end", "agent": "a"}),
            json!({"action": "tokens.revoke", "agent": "a"}),
            json!({"action": "agent.quarantine", "agent": "a", "sub_agents": true}),
            json!({"action": "tool.disable", "server": "s", "tool": "t"}),
            json!({"action": "server.disable", "server": "s"}),
            json!({"action": "approval.raise", "agent": "a", "level": "all"}),
            json!({"action": "segment.isolate", "segment": "s"}),
            json!({"action": "credential.rotate", "server": "s"}),
            json!({"action": "evidence.collect", "agent": "a"}),
            json!({"action": "notify", "channel": "soc", "text": "two\nlines"}),
        ] {
            let act = read(value.clone()).unwrap();
            assert_eq!(serde_json::to_value(&act).unwrap(), value);
            assert_eq!(value["action"], act.name());
            assert!(ACTS.iter().any(|(name, _)| *name == act.name()));
            assert!(!act.in_words().is_empty());
        }
    }

    #[test]
    fn what_is_no_act_is_refused() {
        for bad in [
            json!({"action": "bash", "command": "rm -rf /"}),
            json!({"action": "task.end"}),
            json!({"action": "task.end", "task": "all"}),
            json!({"action": "tasks.end", "agent": "a", "force": true}),
            json!({"action": "agent.quarantine", "agent": "../x"}),
            json!({"action": "evidence.collect"}),
            json!({"action": "notify", "channel": "soc", "text": "\u{1b}[2J"}),
            json!({"action": "notify", "channel": "", "text": "x"}),
            json!({"action": "tool.disable", "server": "s", "tool": ""}),
            json!({"action": "approval.raise", "agent": "a", "level": "usual"}),
            json!({}),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
