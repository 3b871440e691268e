//! Tools of MCP servers: what was approved, what waits for a review; and canary tokens.

use jiff::Timestamp;
use model::ServerName;
use sqlx::sqlite::SqliteRow;

use crate::row::{Reader, nanos};
use crate::{Store, StoreError};

/// One tool of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTool {
    /// The server.
    pub server: ServerName,
    /// The tool's name, as the server lists it.
    pub tool: String,
    /// The definition that was approved.
    pub approved: Option<ApprovedTool>,
    /// The definition that is listed instead, or that nobody approved yet.
    pub listed: Option<ListedTool>,
}

/// A definition that was approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovedTool {
    /// It, as JSON.
    pub definition: String,
    /// SHA-256 of its canonical form.
    pub hash: [u8; 32],
    /// Who approved it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// A definition that is not to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTool {
    /// It, as JSON.
    pub definition: String,
    /// SHA-256 of its canonical form.
    pub hash: [u8; 32],
    /// When it was first seen.
    pub at: Timestamp,
    /// Whether somebody rejected it; else it waits for a review.
    pub rejected: bool,
    /// What detectors saw in it, as JSON.
    pub findings: String,
}

/// The hashes of one tool, which is all that decisions need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolHashes {
    /// The server.
    pub server: ServerName,
    /// The tool.
    pub tool: String,
    /// The definition that was approved.
    pub approved: Option<[u8; 32]>,
    /// The definition that is not to be used, and whether it was rejected.
    pub listed: Option<([u8; 32], bool)>,
}

/// A canary token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCanary {
    /// The text that is planted.
    pub text: String,
    /// Where it is planted and why, in words.
    pub label: String,
    /// When it was made.
    pub planted_at: Timestamp,
}

fn maybe_hash(reader: &Reader<'_>, column: &'static str) -> Result<Option<[u8; 32]>, StoreError> {
    use sqlx::Row;
    let bytes: Option<Vec<u8>> = reader
        .row
        .try_get(column)
        .map_err(|error| reader.damaged(error))?;
    bytes.map(|_| reader.hash(column)).transpose()
}

fn hashes(row: &SqliteRow) -> Result<ToolHashes, StoreError> {
    let reader = Reader { what: "tool", row };
    let rejected = reader.number("rejected")? != 0;
    Ok(ToolHashes {
        server: reader.parsed("server")?,
        tool: reader.text("tool")?,
        approved: maybe_hash(&reader, "approved_hash")?,
        listed: maybe_hash(&reader, "listed_hash")?.map(|hash| (hash, rejected)),
    })
}

fn tool(row: &SqliteRow) -> Result<StoredTool, StoreError> {
    let reader = Reader { what: "tool", row };
    let approved = match reader.maybe_text("approved")? {
        None => None,
        Some(definition) => Some(ApprovedTool {
            definition,
            hash: reader.hash("approved_hash")?,
            by: reader.text("approved_by")?,
            at: reader.time("approved_at")?,
        }),
    };
    let listed = match reader.maybe_text("listed")? {
        None => None,
        Some(definition) => Some(ListedTool {
            definition,
            hash: reader.hash("listed_hash")?,
            at: reader.time("listed_at")?,
            rejected: reader.number("rejected")? != 0,
            findings: reader.text("findings")?,
        }),
    };
    Ok(StoredTool {
        server: reader.parsed("server")?,
        tool: reader.text("tool")?,
        approved,
        listed,
    })
}

impl Store {
    /// The hashes of all tools of all servers.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn tool_hashes(&self) -> Result<Vec<ToolHashes>, StoreError> {
        sqlx::query(
            "SELECT server, tool, approved_hash, listed_hash, rejected FROM tools \
             ORDER BY server, tool",
        )
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(hashes)
        .collect()
    }

    /// The tools of a server, with their definitions.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn tools(&self, server: &ServerName) -> Result<Vec<StoredTool>, StoreError> {
        sqlx::query("SELECT * FROM tools WHERE server = $1 ORDER BY tool")
            .bind(server.as_str())
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(tool)
            .collect()
    }

    /// One tool of a server.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn tool(
        &self,
        server: &ServerName,
        name: &str,
    ) -> Result<Option<StoredTool>, StoreError> {
        sqlx::query("SELECT * FROM tools WHERE server = $1 AND tool = $2")
            .bind(server.as_str())
            .bind(name)
            .fetch_optional(&self.readers)
            .await?
            .as_ref()
            .map(tool)
            .transpose()
    }

    /// How many bytes the definitions take up that are kept of a server without being approved.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn listed_bytes(&self, server: &ServerName) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "SELECT COALESCE(SUM(LENGTH(listed)), 0) AS bytes FROM tools WHERE server = $1",
        )
        .bind(server.as_str())
        .fetch_one(&self.readers)
        .await?;
        Reader {
            what: "tool",
            row: &row,
        }
        .position("bytes")
    }

    /// Keeps tools as they are now, each in place of what was kept of it, and that the server has been met.
    ///
    /// # Errors
    /// When the store cannot be written; then nothing was.
    pub async fn keep_tools(
        &self,
        tools: &[StoredTool],
        met: Option<(&ServerName, Timestamp)>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        for one in tools {
            let (approved, listed) = (one.approved.as_ref(), one.listed.as_ref());
            sqlx::query(
                "INSERT INTO tools (server, tool, approved, approved_hash, approved_by, approved_at, \
                 listed, listed_hash, listed_at, rejected, findings) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
                 ON CONFLICT (server, tool) DO UPDATE SET approved = excluded.approved, \
                 approved_hash = excluded.approved_hash, approved_by = excluded.approved_by, \
                 approved_at = excluded.approved_at, listed = excluded.listed, \
                 listed_hash = excluded.listed_hash, listed_at = excluded.listed_at, \
                 rejected = excluded.rejected, findings = excluded.findings",
            )
            .bind(one.server.as_str())
            .bind(&one.tool)
            .bind(approved.map(|it| it.definition.as_str()))
            .bind(approved.map(|it| it.hash.to_vec()))
            .bind(approved.map(|it| it.by.as_str()))
            .bind(approved.map(|it| nanos(it.at)))
            .bind(listed.map(|it| it.definition.as_str()))
            .bind(listed.map(|it| it.hash.to_vec()))
            .bind(listed.map(|it| nanos(it.at)))
            .bind(i64::from(listed.is_some_and(|it| it.rejected)))
            .bind(listed.map_or("[]", |it| it.findings.as_str()))
            .execute(&mut *transaction)
            .await?;
        }
        if let Some((server, at)) = met {
            sqlx::query(
                "INSERT INTO met_servers (server, met_at) VALUES ($1, $2) \
                 ON CONFLICT (server) DO NOTHING",
            )
            .bind(server.as_str())
            .bind(nanos(at))
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// The servers whose tools have been seen.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn met_servers(&self) -> Result<Vec<ServerName>, StoreError> {
        sqlx::query("SELECT server FROM met_servers ORDER BY server")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(|row| {
                Reader {
                    what: "met server",
                    row,
                }
                .parsed("server")
            })
            .collect()
    }

    /// Keeps a canary token; `false` when it is kept already.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn add_canary(&self, canary: &StoredCanary) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO canaries (text, label, planted_at) VALUES ($1, $2, $3) \
             ON CONFLICT (text) DO NOTHING",
        )
        .bind(&canary.text)
        .bind(&canary.label)
        .bind(nanos(canary.planted_at))
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Forgets a canary token; `false` when there was none.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn remove_canary(&self, text: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM canaries WHERE text = $1")
            .bind(text)
            .execute(&self.writer)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// The canary tokens, the latest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn canaries(&self) -> Result<Vec<StoredCanary>, StoreError> {
        sqlx::query("SELECT * FROM canaries ORDER BY planted_at DESC, text")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(|row| {
                let reader = Reader {
                    what: "canary",
                    row,
                };
                Ok(StoredCanary {
                    text: reader.text("text")?,
                    label: reader.text("label")?,
                    planted_at: reader.time("planted_at")?,
                })
            })
            .collect()
    }
}
