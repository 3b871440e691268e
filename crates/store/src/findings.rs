//! What detectors saw, and what became of it.

use jiff::{SignedDuration, Timestamp};
use model::inspection::Severity;
use model::{AgentName, ServerName, TaskId};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use crate::row::{Reader, index, nanos};
use crate::{Store, StoreError};

/// A finding as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingRow {
    /// Its number.
    pub id: u64,
    /// When it was made.
    pub at: Timestamp,
    /// The rule that saw it.
    pub rule: String,
    /// How much it matters.
    pub severity: Severity,
    /// The agent that it is about.
    pub agent: Option<AgentName>,
    /// The task that it is about.
    pub task: Option<TaskId>,
    /// The server that it is about.
    pub server: Option<ServerName>,
    /// The incident that it is in.
    pub incident: Option<u64>,
    /// All of it, as JSON.
    pub body: String,
}

/// An incident as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentRow {
    /// Its number.
    pub id: u64,
    /// The number of its last change that was worth telling.
    pub revision: u64,
    /// Where it is in its life, as a word.
    pub status: String,
    /// How much it matters.
    pub severity: Severity,
    /// When its last finding came.
    pub last: Timestamp,
    /// The agents that it is about.
    pub agents: Vec<AgentName>,
    /// All of it, as JSON.
    pub body: String,
}

/// Which findings, the latest first; with `after` the earliest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FindingFilter {
    /// Of this agent.
    pub agent: Option<AgentName>,
    /// Of this task.
    pub task: Option<TaskId>,
    /// At this server.
    pub server: Option<ServerName>,
    /// By this rule.
    pub rule: Option<String>,
    /// Of at least this severity.
    pub severity: Option<Severity>,
    /// In this incident.
    pub incident: Option<u64>,
    /// Before this one.
    pub before: Option<u64>,
    /// After this one.
    pub after: Option<u64>,
    /// At most so many.
    pub limit: u32,
}

/// Which incidents, the latest first; with `after` in the order of their changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IncidentFilter {
    /// About this agent.
    pub agent: Option<AgentName>,
    /// With this status, as a word.
    pub status: Option<String>,
    /// Of at least this severity.
    pub severity: Option<Severity>,
    /// Before this one.
    pub before: Option<u64>,
    /// Changed after this revision.
    pub after: Option<u64>,
    /// At most so many.
    pub limit: u32,
}

impl FindingRow {
    pub(crate) async fn put(&self, transaction: &mut SqliteConnection) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO findings (id, at, rule, severity, agent, task, server, incident, body) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
             ON CONFLICT (id) DO UPDATE SET body = excluded.body",
        )
        .bind(index(self.id))
        .bind(nanos(self.at))
        .bind(&self.rule)
        .bind(rank(self.severity))
        .bind(self.agent.as_ref().map(AgentName::as_str))
        .bind(self.task.map(|task| task.to_string()))
        .bind(self.server.as_ref().map(ServerName::as_str))
        .bind(self.incident.map(index))
        .bind(&self.body)
        .execute(transaction)
        .await?;
        Ok(())
    }
}

impl IncidentRow {
    pub(crate) async fn put(&self, transaction: &mut SqliteConnection) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO incidents (id, revision, status, severity, last_at, body) \
             VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, \
             status = excluded.status, severity = excluded.severity, \
             last_at = excluded.last_at, body = excluded.body",
        )
        .bind(index(self.id))
        .bind(index(self.revision))
        .bind(&self.status)
        .bind(rank(self.severity))
        .bind(nanos(self.last))
        .bind(&self.body)
        .execute(&mut *transaction)
        .await?;
        for agent in &self.agents {
            sqlx::query(
                "INSERT INTO incident_agents (incident, agent) VALUES ($1, $2) \
                 ON CONFLICT (incident, agent) DO NOTHING",
            )
            .bind(index(self.id))
            .bind(agent.as_str())
            .execute(&mut *transaction)
            .await?;
        }
        Ok(())
    }
}

impl Store {
    /// Findings, as JSON.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn findings(&self, filter: &FindingFilter) -> Result<Vec<String>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT body FROM findings WHERE 1 = 1");
        if let Some(agent) = &filter.agent {
            query.push(" AND agent = ").push_bind(agent.as_str());
        }
        if let Some(task) = &filter.task {
            query.push(" AND task = ").push_bind(task.to_string());
        }
        if let Some(server) = &filter.server {
            query.push(" AND server = ").push_bind(server.as_str());
        }
        if let Some(rule) = &filter.rule {
            query.push(" AND rule = ").push_bind(rule.as_str());
        }
        if let Some(severity) = filter.severity {
            query.push(" AND severity >= ").push_bind(rank(severity));
        }
        if let Some(incident) = filter.incident {
            query.push(" AND incident = ").push_bind(index(incident));
        }
        if let Some(before) = filter.before {
            query.push(" AND id < ").push_bind(index(before));
        }
        query.push(match filter.after {
            Some(_) => " AND id > ",
            None => " ORDER BY id DESC LIMIT ",
        });
        if let Some(after) = filter.after {
            query
                .push_bind(index(after))
                .push(" ORDER BY id ASC LIMIT ");
        }
        query.push_bind(i64::from(filter.limit));
        let rows = query.build().fetch_all(&self.readers).await?;
        rows.iter().map(|row| body("finding", row)).collect()
    }

    /// One finding, as JSON.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn finding(&self, id: u64) -> Result<Option<String>, StoreError> {
        self.one("finding", "SELECT body FROM findings WHERE id = $1", id)
            .await
    }

    /// Incidents, as JSON.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn incidents(&self, filter: &IncidentFilter) -> Result<Vec<String>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT body FROM incidents WHERE 1 = 1");
        if let Some(agent) = &filter.agent {
            query
                .push(" AND id IN (SELECT incident FROM incident_agents WHERE agent = ")
                .push_bind(agent.as_str())
                .push(")");
        }
        if let Some(status) = &filter.status {
            query.push(" AND status = ").push_bind(status.as_str());
        }
        if let Some(severity) = filter.severity {
            query.push(" AND severity >= ").push_bind(rank(severity));
        }
        if let Some(before) = filter.before {
            query.push(" AND id < ").push_bind(index(before));
        }
        query.push(match filter.after {
            Some(_) => " AND revision > ",
            None => " ORDER BY id DESC LIMIT ",
        });
        if let Some(after) = filter.after {
            query
                .push_bind(index(after))
                .push(" ORDER BY revision ASC LIMIT ");
        }
        query.push_bind(i64::from(filter.limit));
        let rows = query.build().fetch_all(&self.readers).await?;
        rows.iter().map(|row| body("incident", row)).collect()
    }

    /// One incident, as JSON.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn incident(&self, id: u64) -> Result<Option<String>, StoreError> {
        self.one("incident", "SELECT body FROM incidents WHERE id = $1", id)
            .await
    }

    async fn one(
        &self,
        what: &'static str,
        statement: &'static str,
        id: u64,
    ) -> Result<Option<String>, StoreError> {
        sqlx::query(statement)
            .bind(index(id))
            .fetch_optional(&self.readers)
            .await?
            .map(|row| body(what, &row))
            .transpose()
    }

    /// The highest number of a finding, of an incident, and of an incident's revision; 0 where there is none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn highest_findings(&self) -> Result<(u64, u64, u64), StoreError> {
        let row = sqlx::query(
            "SELECT (SELECT COALESCE(MAX(id), 0) FROM findings) AS finding, \
             (SELECT COALESCE(MAX(id), 0) FROM incidents) AS incident, \
             (SELECT COALESCE(MAX(revision), 0) FROM incidents) AS revision",
        )
        .fetch_one(&self.readers)
        .await?;
        let reader = Reader {
            what: "number of findings",
            row: &row,
        };
        Ok((
            reader.position("finding")?,
            reader.position("incident")?,
            reader.position("revision")?,
        ))
    }

    /// Throws findings away that are older than `keep`, and incidents that somebody dealt with and whose
    /// last finding is. The audit log still has their records.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn prune_findings(
        &self,
        now: Timestamp,
        keep: SignedDuration,
    ) -> Result<(), StoreError> {
        let before = nanos(now.checked_sub(keep).unwrap_or(Timestamp::MIN));
        let mut transaction = self.writer.begin().await?;
        // The newest stays, since numbers go on from it.
        for statement in [
            "DELETE FROM findings WHERE at <= $1 AND id < (SELECT MAX(id) FROM findings)",
            "DELETE FROM incidents WHERE status <> 'open' AND last_at <= $1 \
             AND id < (SELECT MAX(id) FROM incidents) \
             AND revision < (SELECT MAX(revision) FROM incidents)",
        ] {
            sqlx::query(statement)
                .bind(before)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

fn body(what: &'static str, row: &SqliteRow) -> Result<String, StoreError> {
    Reader { what, row }.text("body")
}

/// The severity as a number that can be compared.
fn rank(severity: Severity) -> i64 {
    match severity {
        Severity::Info => 0,
        Severity::Low => 1,
        Severity::Medium => 2,
        Severity::High => 3,
        Severity::Critical => 4,
    }
}
