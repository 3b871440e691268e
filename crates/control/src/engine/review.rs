//! Reviews: a person looks at what a server lists, and accepts or rejects it.

use std::sync::Arc;

use gateway::live::Cut;
use jiff::Timestamp;
use model::ServerName;
use model::record::Record;
use monitor::tools::{Definition, Hash, difference};
use policy::{Quarantined, ServerTools, ToolStanding};
use store::{ApprovedTool, ListedTool, StoredTool};

use super::{Actor, Engine, EngineError, to_the_end};
use crate::api::{ReviewedTool, ToolState};

/// Most lines of a definition that are shown.
const LINES: usize = 1_000;

impl Engine {
    /// The tools that are known of one server, or of all, with what there is to review.
    ///
    /// # Errors
    /// [`EngineError`] when the store cannot be read, or there is no such server.
    pub async fn reviewed_tools(
        &self,
        server: Option<&ServerName>,
    ) -> Result<Vec<ReviewedTool>, EngineError> {
        let servers = match server {
            Some(server) => {
                if self.live().world().tools(server).is_none() {
                    return Err(EngineError::not_found("MCP server", server));
                }
                vec![server.clone()]
            }
            None => self.servers().keys().cloned().collect(),
        };
        let mut all = Vec::new();
        for server in servers {
            for row in self.store.tools(&server).await? {
                all.push(shown(row)?);
            }
        }
        Ok(all)
    }

    /// Accepts the definition that a server lists. `hash` says which one was looked at: if the server has
    /// changed it again since, nothing is accepted.
    ///
    /// # Errors
    /// [`EngineError`] when nothing of that name or hash waits, or the log or the store cannot be written.
    pub async fn accept_tool(
        self: &Arc<Self>,
        actor: Actor,
        server: ServerName,
        tool: String,
        hash: Hash,
    ) -> Result<ReviewedTool, EngineError> {
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _alone = engine.changes.write().await;
            engine.may_give()?;
            let (known, mut row) = engine.tool_of(&server, &tool).await?;
            let Some(listed) = row.listed.take() else {
                return Err(nothing_waits(&server, &tool));
            };
            if Hash::from(listed.hash) != hash {
                return Err(changed_again(&server, &tool));
            }
            let now = Timestamp::now();
            let record = change(&actor, "tool.accepted", &server, &tool, now)
                .with("definition", hash.to_string());
            engine.record(record).await?;
            row.approved = Some(ApprovedTool {
                definition: listed.definition,
                hash: listed.hash,
                by: actor.to_string(),
                at: now,
            });
            engine
                .store
                .keep_tools(std::slice::from_ref(&row), None)
                .await?;
            let standing = ToolStanding {
                approved: Some(listed.hash),
                quarantined: None,
            };
            engine.publish_standing(&server, &known, tool, standing);
            shown(row)
        })
        .await
    }

    /// Rejects the definition that a server lists; or, where none waits, takes the approval back. The tool
    /// is not to be called from the moment that this returns, and what was under way at the server is cut.
    /// When the server lists again what was approved, the tool can be used again.
    ///
    /// # Errors
    /// [`EngineError`] when the tool is not known, or the log or the store cannot be written; then it holds
    /// all the same, until the process ends.
    pub async fn reject_tool(
        self: &Arc<Self>,
        actor: Actor,
        server: ServerName,
        tool: String,
        hash: Hash,
    ) -> Result<ReviewedTool, EngineError> {
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _alone = engine.changes.write().await;
            let (known, mut row) = engine.tool_of(&server, &tool).await?;
            let rejected = match (row.listed.take(), row.approved.take()) {
                (Some(listed), approved) if Hash::from(listed.hash) == hash => {
                    row.approved = approved;
                    ListedTool {
                        rejected: true,
                        ..listed
                    }
                }
                (None, Some(approved)) if Hash::from(approved.hash) == hash => ListedTool {
                    definition: approved.definition,
                    hash: approved.hash,
                    at: approved.at,
                    rejected: true,
                    findings: "[]".to_owned(),
                },
                _ => return Err(changed_again(&server, &tool)),
            };
            let standing = ToolStanding {
                approved: row.approved.as_ref().map(|approved| approved.hash),
                quarantined: Some(Quarantined {
                    hash: rejected.hash,
                    rejected: true,
                }),
            };
            row.listed = Some(rejected);
            engine.publish_standing(&server, &known, tool.clone(), standing);
            engine.live().cut(Cut::Server(&server)).await;
            let record = change(&actor, "tool.rejected", &server, &tool, Timestamp::now())
                .with("definition", hash.to_string());
            engine.record(record).await?;
            engine
                .store
                .keep_tools(std::slice::from_ref(&row), None)
                .await?;
            shown(row)
        })
        .await
    }

    async fn tool_of(
        &self,
        server: &ServerName,
        tool: &str,
    ) -> Result<(Arc<ServerTools>, StoredTool), EngineError> {
        let known = self.live().world().tools(server).map(Arc::clone);
        let known = known.ok_or_else(|| EngineError::not_found("MCP server", server))?;
        let row = self.store.tool(server, tool).await?;
        let row = row.ok_or_else(|| nothing_waits(server, tool))?;
        Ok((known, row))
    }

    fn publish_standing(
        &self,
        server: &ServerName,
        known: &ServerTools,
        tool: String,
        standing: ToolStanding,
    ) {
        let mut next = known.clone();
        next.tools.insert(tool, standing);
        self.publish_tools(server, next);
    }
}

fn change(actor: &Actor, change: &str, server: &ServerName, tool: &str, now: Timestamp) -> Record {
    Record::change(now, actor.to_string(), change, server.as_str())
        .with("tool", monitor::text::escaped(tool, 128))
}

fn nothing_waits(server: &ServerName, tool: &str) -> EngineError {
    EngineError::conflict(
        format!(
            "nothing of tool `{}` of server `{server}` waits for a review",
            monitor::text::escaped(tool, 80)
        ),
        "`sallyport mcp review` shows what does; a tool is known once an agent has listed the tools",
    )
}

fn changed_again(server: &ServerName, tool: &str) -> EngineError {
    EngineError::conflict(
        format!(
            "the definition of tool `{}` of server `{server}` is not the one that was looked at",
            monitor::text::escaped(tool, 80)
        ),
        "look at it again: `sallyport mcp review` shows what the server lists now",
    )
}

fn read(text: &str) -> Result<Definition, EngineError> {
    serde_json::from_str(text).map_err(|error| {
        EngineError::Recovery(format!("a tool's definition in the store: {error}"))
    })
}

fn shown(row: StoredTool) -> Result<ReviewedTool, EngineError> {
    let approved = row
        .approved
        .as_ref()
        .map(|it| read(&it.definition))
        .transpose()?;
    let listed = row
        .listed
        .as_ref()
        .map(|it| read(&it.definition))
        .transpose()?;
    let state = match (&row.approved, &row.listed) {
        (_, Some(listed)) if listed.rejected => ToolState::Rejected,
        (Some(_), Some(_)) => ToolState::Changed,
        (None, _) => ToolState::New,
        (Some(_), None) => ToolState::Approved,
    };
    let text = match (&approved, &listed) {
        (Some(approved), Some(listed)) => difference(approved, listed),
        (None, Some(one)) | (Some(one), None) => {
            let mut lines = one.lines();
            lines.truncate(LINES);
            lines.join("\n")
        }
        (None, None) => String::new(),
    };
    let findings = row
        .listed
        .as_ref()
        .map(|it| serde_json::from_str(&it.findings));
    Ok(ReviewedTool {
        server: row.server,
        tool: row.tool,
        state,
        approved: row
            .approved
            .as_ref()
            .map(|it| Hash::from(it.hash).to_string()),
        approved_by: row.approved.as_ref().map(|it| it.by.clone()),
        approved_at: row.approved.as_ref().map(|it| it.at),
        listed: row
            .listed
            .as_ref()
            .map(|it| Hash::from(it.hash).to_string()),
        listed_at: row.listed.as_ref().map(|it| it.at),
        findings: findings.and_then(Result::ok).unwrap_or_default(),
        text,
    })
}
