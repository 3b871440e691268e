//! What people are asked to approve, what they allowed, and how often that was used.

use jiff::Timestamp;
use model::approval::{Approval, ApprovalLevel, ApprovalStatus, Decided};
use model::{AgentName, ApprovalId, TaskId};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use crate::owed::owe;
use crate::row::{Reader, nanos};
use crate::{Store, StoreError};

/// Which approvals to list. What is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct ApprovalFilter {
    /// Those of this task.
    pub task: Option<TaskId>,
    /// Those of this agent's tasks.
    pub agent: Option<AgentName>,
    /// Those in this state; `now` tells which have expired.
    pub status: Option<ApprovalStatus>,
    /// Those asked for before this one, for reading page by page.
    pub before: Option<ApprovalId>,
    /// At most this many, the latest first.
    pub limit: u32,
}

/// How many requests may wait at once.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// In all.
    pub all: usize,
    /// Of one agent.
    pub per_agent: usize,
}

/// What became of a request that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filed {
    /// It is kept now.
    New,
    /// It was kept before.
    Before,
    /// So many wait already that it is not kept.
    TooMany(usize),
    /// Its task has ended, so it is not kept.
    TaskOver,
}

/// A level that was raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaisedLevel {
    /// Whose.
    pub of: LevelOf,
    /// The level.
    pub level: ApprovalLevel,
    /// Until when; `None` until it is lowered.
    pub until: Option<Timestamp>,
    /// Why, in words.
    pub because: String,
}

/// Whose level it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LevelOf {
    /// An agent's, in all its tasks.
    Agent(AgentName),
    /// A task's.
    Task(TaskId),
}

impl LevelOf {
    fn key(&self) -> (&'static str, String) {
        match self {
            Self::Agent(name) => ("agent", name.to_string()),
            Self::Task(id) => ("task", id.to_string()),
        }
    }
}

impl Store {
    /// Keeps a request for approval, if it is new and there is room.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn file_approval(&self, request: &Approval, room: Room) -> Result<Filed, StoreError> {
        let text = json(request)?;
        let mut transaction = self.writer.begin().await?;
        let known = sqlx::query("SELECT 1 FROM approvals WHERE id = $1")
            .bind(request.id.to_string())
            .fetch_optional(&mut *transaction)
            .await?;
        if known.is_some() {
            return Ok(Filed::Before);
        }
        let open = sqlx::query("SELECT 1 FROM tasks WHERE id = $1 AND status = 'open'")
            .bind(request.task.to_string())
            .fetch_optional(&mut *transaction)
            .await?;
        if open.is_none() {
            return Ok(Filed::TaskOver);
        }
        let waiting = "SELECT COUNT(*) FROM approvals WHERE status = 'pending' AND expires_at > $1";
        let all: i64 = sqlx::query(waiting)
            .bind(nanos(request.asked_at))
            .fetch_one(&mut *transaction)
            .await?
            .try_get(0)?;
        let own: i64 = sqlx::query(
            "SELECT COUNT(*) FROM approvals WHERE status = 'pending' AND expires_at > $1 AND agent = $2",
        )
        .bind(nanos(request.asked_at))
        .bind(request.agent.as_str())
        .fetch_one(&mut *transaction)
        .await?
        .try_get(0)?;
        let count = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
        if count(own) >= room.per_agent || count(all) >= room.all {
            let many = if count(own) >= room.per_agent {
                own
            } else {
                all
            };
            return Ok(Filed::TooMany(count(many)));
        }
        sqlx::query(
            "INSERT INTO approvals (id, task, agent, status, asked_at, expires_at, uses, used, request) \
             VALUES ($1, $2, $3, 'pending', $4, $5, 0, 0, $6)",
        )
        .bind(request.id.to_string())
        .bind(request.task.to_string())
        .bind(request.agent.as_str())
        .bind(nanos(request.asked_at))
        .bind(nanos(request.expires_at))
        .bind(text)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Filed::New)
    }

    /// Decides a request that still waits; returns false when it does not any more.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn decide_approval(
        &self,
        id: &ApprovalId,
        status: ApprovalStatus,
        decided: &Decided,
    ) -> Result<bool, StoreError> {
        let allows = decided.allows.as_ref();
        let done = sqlx::query(
            "UPDATE approvals SET status = $2, decided = $3, uses = $4, \
             expires_at = COALESCE($5, expires_at) \
             WHERE id = $1 AND status = 'pending' AND expires_at > $6",
        )
        .bind(id.to_string())
        .bind(status.as_str())
        .bind(json(decided)?)
        .bind(i64::from(allows.map_or(0, |allows| allows.uses)))
        .bind(allows.map(|allows| nanos(allows.until)))
        .bind(nanos(decided.at))
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Ends a request that waits, or takes back what was allowed; returns false when it is neither.
    /// `owed` is kept for the audit log when something changed.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn end_approval(
        &self,
        id: &ApprovalId,
        status: ApprovalStatus,
        decided: &Decided,
        owed: Option<&[u8]>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let done = sqlx::query(
            "UPDATE approvals SET status = $2, decided = $3 \
             WHERE id = $1 AND status IN ('pending', 'approved')",
        )
        .bind(id.to_string())
        .bind(status.as_str())
        .bind(json(decided)?)
        .execute(&mut *transaction)
        .await?;
        let first = done.rows_affected() > 0;
        if first {
            owe(&mut transaction, owed).await?;
        }
        transaction.commit().await?;
        Ok(first)
    }

    /// Uses an approval once more; returns false when it is used up, over, or not one that holds.
    ///
    /// # Errors
    /// When the store cannot be written: then it was not used.
    pub async fn use_approval(&self, id: &ApprovalId, now: Timestamp) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE approvals SET used = used + 1 \
             WHERE id = $1 AND status = 'approved' AND used < uses AND expires_at > $2",
        )
        .bind(id.to_string())
        .bind(nanos(now))
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// One approval.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn approval(&self, id: &ApprovalId) -> Result<Option<Approval>, StoreError> {
        sqlx::query("SELECT * FROM approvals WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await?
            .map(|row| approval(&row))
            .transpose()
    }

    /// The approvals that a filter names, the latest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn approvals(
        &self,
        filter: &ApprovalFilter,
        now: Timestamp,
    ) -> Result<Vec<Approval>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM approvals WHERE 1 = 1");
        if let Some(task) = &filter.task {
            query.push(" AND task = ").push_bind(task.to_string());
        }
        if let Some(agent) = &filter.agent {
            query.push(" AND agent = ").push_bind(agent.as_str());
        }
        if let Some(before) = &filter.before {
            query.push(" AND id < ").push_bind(before.to_string());
        }
        match filter.status {
            None => {}
            Some(ApprovalStatus::Expired) => {
                query
                    .push(" AND status IN ('pending', 'approved') AND expires_at <= ")
                    .push_bind(nanos(now));
            }
            Some(status) => {
                query.push(" AND status = ").push_bind(status.as_str());
                if matches!(status, ApprovalStatus::Pending | ApprovalStatus::Approved) {
                    query.push(" AND expires_at > ").push_bind(nanos(now));
                }
            }
        }
        query
            .push(" ORDER BY id DESC LIMIT ")
            .push_bind(i64::from(filter.limit));
        let rows = query.build().fetch_all(&self.readers).await?;
        rows.iter().map(approval).collect()
    }

    /// All approvals of tasks that have not ended, in the order in which they were asked for. For the
    /// start.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_approvals(&self) -> Result<Vec<Approval>, StoreError> {
        sqlx::query(
            "SELECT approvals.* FROM approvals JOIN tasks ON tasks.id = approvals.task \
             WHERE tasks.status = 'open' ORDER BY approvals.id",
        )
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(approval)
        .collect()
    }

    /// Keeps how much of something needs a person. `owed` is kept for the audit log.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn set_approval_level(
        &self,
        raised: &RaisedLevel,
        owed: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let (kind, subject) = raised.of.key();
        let mut transaction = self.writer.begin().await?;
        if raised.level.is_usual() {
            sqlx::query("DELETE FROM approval_levels WHERE kind = $1 AND subject = $2")
                .bind(kind)
                .bind(subject)
                .execute(&mut *transaction)
                .await?;
        } else {
            sqlx::query(
                "INSERT INTO approval_levels (kind, subject, level, until, because) \
                 VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (kind, subject) DO UPDATE SET level = excluded.level, \
                 until = excluded.until, because = excluded.because",
            )
            .bind(kind)
            .bind(subject)
            .bind(raised.level.as_str())
            .bind(raised.until.map(nanos))
            .bind(&raised.because)
            .execute(&mut *transaction)
            .await?;
        }
        owe(&mut transaction, owed).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The levels that are raised; those that are over are left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn approval_levels(&self, now: Timestamp) -> Result<Vec<RaisedLevel>, StoreError> {
        sqlx::query(
            "SELECT * FROM approval_levels WHERE until IS NULL OR until > $1 ORDER BY kind, subject",
        )
        .bind(nanos(now))
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(|row| {
            let what = "approval level";
            let reader = Reader { what, row };
            let of = match reader.text("kind")?.as_str() {
                "agent" => LevelOf::Agent(reader.parsed("subject")?),
                "task" => LevelOf::Task(reader.parsed("subject")?),
                _ => return Err(reader.damaged("unknown kind")),
            };
            Ok(RaisedLevel {
                of,
                level: reader.parsed("level")?,
                until: reader.maybe_time("until")?,
                because: reader.text("because")?,
            })
        })
        .collect()
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Damaged {
        what: "approval",
        why: error.to_string(),
    })
}

fn approval(row: &SqliteRow) -> Result<Approval, StoreError> {
    let what = "approval";
    let reader = Reader { what, row };
    let mut approval: Approval = reader.json("request")?;
    approval.status = ApprovalStatus::parse(&reader.text("status")?)
        .ok_or_else(|| reader.damaged("unknown status"))?;
    approval.used = u32::try_from(reader.number("used")?).map_err(|error| reader.damaged(error))?;
    approval.decided = match reader.maybe_text("decided")? {
        None => None,
        Some(text) => Some(serde_json::from_str(&text).map_err(|error| reader.damaged(error))?),
    };
    Ok(approval)
}
