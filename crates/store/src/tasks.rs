//! Tasks, and what they have used.

use jiff::Timestamp;
use model::{AgentName, Task, TaskId, TaskStatus, TemplateName};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};

use crate::owed::owe;
use crate::row::{Reader, index, nanos};
use crate::{Store, StoreError};

/// Which tasks to list. What is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Tasks of this agent.
    pub agent: Option<AgentName>,
    /// Tasks in this state; `now` tells open from expired ones.
    pub status: Option<TaskStatus>,
    /// Tasks that are a part of this one.
    pub parent: Option<TaskId>,
    /// Tasks opened from this template.
    pub template: Option<TemplateName>,
    /// Tasks opened before this one, for reading page by page.
    pub before: Option<TaskId>,
    /// At most this many, the latest first.
    pub limit: u32,
}

/// A task that was open when the process ended, with what is needed to go on with it.
#[derive(Debug)]
pub struct OpenTask {
    /// The task.
    pub task: Task,
    /// The key of its salted hashes.
    pub salt: Vec<u8>,
    /// The position of its opening in the audit log.
    pub log_index: u64,
    /// The last snapshot of what it has used.
    pub usage: Option<UsageSnapshot>,
}

/// What a task had used at some point of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageSnapshot {
    /// The counters, as JSON.
    pub usage: String,
    /// All charged actions at positions before this one are in it.
    pub log_index: u64,
}

impl Store {
    /// Adds a task. `salt` is the key of its salted hashes, `log_index` the position of its
    /// opening in the audit log.
    ///
    /// # Errors
    /// [`StoreError::TaskExists`] when the id is in use; when the store cannot be written.
    pub async fn insert_task(
        &self,
        task: &Task,
        salt: &[u8],
        log_index: u64,
    ) -> Result<(), StoreError> {
        let json = |what| {
            move |error: serde_json::Error| StoreError::Damaged {
                what,
                why: error.to_string(),
            }
        };
        let parameters = serde_json::to_string(&task.parameters).map_err(json("parameter"))?;
        let grant = serde_json::to_string(&task.grant).map_err(json("grant"))?;
        sqlx::query(
            "INSERT INTO tasks (id, agent, instance, template, parameters, purpose, grant_json, \
             opened_at, expires_at, status, ended_at, ended_because, salt, log_index, parent) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        )
        .bind(task.id.to_string())
        .bind(task.agent.as_str())
        .bind(task.instance.map(|id| id.to_string()))
        .bind(task.template.as_str())
        .bind(parameters)
        .bind(&task.purpose)
        .bind(grant)
        .bind(nanos(task.opened_at))
        .bind(nanos(task.expires_at))
        .bind(task.status.as_str())
        .bind(task.ended_at.map(nanos))
        .bind(task.ended_because.as_deref())
        .bind(salt)
        .bind(index(log_index))
        .bind(task.parent.map(|id| id.to_string()))
        .execute(&self.writer)
        .await
        .map_err(|error| {
            if StoreError::is_duplicate(&error) {
                StoreError::TaskExists(task.id)
            } else {
                error.into()
            }
        })?;
        Ok(())
    }

    /// Ends a task. The first end wins: returns false when it had ended before or is not there.
    /// `owed` is kept for the audit log when this is the end.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn end_task(
        &self,
        id: &TaskId,
        status: TaskStatus,
        at: Timestamp,
        because: &str,
        owed: Option<&[u8]>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let done = sqlx::query(
            "UPDATE tasks SET status = $2, ended_at = $3, ended_because = $4 \
             WHERE id = $1 AND status = 'open'",
        )
        .bind(id.to_string())
        .bind(status.as_str())
        .bind(nanos(at))
        .bind(because)
        .execute(&mut *transaction)
        .await?;
        let first = done.rows_affected() > 0;
        if first {
            // What people allowed it, and were still asked, ends with it.
            sqlx::query(
                "UPDATE approvals SET status = 'cancelled' \
                 WHERE task = $1 AND status IN ('pending', 'approved')",
            )
            .bind(id.to_string())
            .execute(&mut *transaction)
            .await?;
            owe(&mut transaction, owed).await?;
        }
        transaction.commit().await?;
        Ok(first)
    }

    /// One task.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn task(&self, id: &TaskId) -> Result<Option<Task>, StoreError> {
        sqlx::query("SELECT * FROM tasks WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await?
            .map(|row| task(&row))
            .transpose()
    }

    /// The tasks that a filter names, the latest first. A task past its time counts as expired
    /// even when nobody has noted that yet.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn tasks(
        &self,
        filter: &TaskFilter,
        now: Timestamp,
    ) -> Result<Vec<Task>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM tasks WHERE 1 = 1");
        if let Some(agent) = &filter.agent {
            query.push(" AND agent = ").push_bind(agent.as_str());
        }
        if let Some(template) = &filter.template {
            query.push(" AND template = ").push_bind(template.as_str());
        }
        if let Some(parent) = &filter.parent {
            query.push(" AND parent = ").push_bind(parent.to_string());
        }
        if let Some(before) = &filter.before {
            query.push(" AND id < ").push_bind(before.to_string());
        }
        match filter.status {
            None => {}
            Some(TaskStatus::Open) => {
                query
                    .push(" AND status = 'open' AND expires_at > ")
                    .push_bind(nanos(now));
            }
            Some(TaskStatus::Expired) => {
                query
                    .push(" AND (status = 'expired' OR (status = 'open' AND expires_at <= ")
                    .push_bind(nanos(now))
                    .push("))");
            }
            Some(status) => {
                query.push(" AND status = ").push_bind(status.as_str());
            }
        }
        query
            .push(" ORDER BY id DESC LIMIT ")
            .push_bind(i64::from(filter.limit));
        let rows = query.build().fetch_all(&self.readers).await?;
        rows.iter()
            .map(|row| {
                task(row).map(|task| Task {
                    status: task.status_at(now),
                    ..task
                })
            })
            .collect()
    }

    /// All tasks that have not been ended, expired or not, with what they had used. For the start.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_tasks(&self) -> Result<Vec<OpenTask>, StoreError> {
        sqlx::query(
            "SELECT tasks.*, usage_snapshots.usage AS used, \
             usage_snapshots.log_index AS used_index FROM tasks \
             LEFT JOIN usage_snapshots ON usage_snapshots.task = tasks.id \
             WHERE status = 'open' ORDER BY id",
        )
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(|row| {
            let reader = Reader { what: "task", row };
            let usage = match reader.maybe_text("used")? {
                Some(usage) => Some(UsageSnapshot {
                    usage,
                    log_index: reader.position("used_index")?,
                }),
                None => None,
            };
            Ok(OpenTask {
                task: task(row)?,
                salt: reader.bytes("salt")?,
                log_index: reader.position("log_index")?,
                usage,
            })
        })
        .collect()
    }

    /// Keeps what tasks have used, all or none of them. `log_index` is a position of the audit log
    /// such that the charged actions before it are in these counters. The last one per task counts.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn save_usage(
        &self,
        usage: &[(TaskId, String)],
        log_index: u64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        for (task, usage) in usage {
            sqlx::query(
                "INSERT INTO usage_snapshots (task, usage, log_index) VALUES ($1, $2, $3) \
                 ON CONFLICT (task) DO UPDATE SET usage = excluded.usage, \
                 log_index = excluded.log_index",
            )
            .bind(task.to_string())
            .bind(usage)
            .bind(index(log_index))
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// The last snapshot of what a task has used.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn usage(&self, id: &TaskId) -> Result<Option<UsageSnapshot>, StoreError> {
        sqlx::query("SELECT * FROM usage_snapshots WHERE task = $1")
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await?
            .map(|row| {
                let reader = Reader {
                    what: "usage snapshot",
                    row: &row,
                };
                Ok(UsageSnapshot {
                    usage: reader.text("usage")?,
                    log_index: reader.position("log_index")?,
                })
            })
            .transpose()
    }
}

fn task(row: &SqliteRow) -> Result<Task, StoreError> {
    let reader = Reader { what: "task", row };
    Ok(Task {
        id: reader.parsed("id")?,
        agent: reader.parsed("agent")?,
        instance: reader.maybe_parsed("instance")?,
        parent: reader.maybe_parsed("parent")?,
        template: reader.parsed("template")?,
        parameters: reader.json("parameters")?,
        purpose: reader.text("purpose")?,
        grant: reader.json("grant_json")?,
        opened_at: reader.time("opened_at")?,
        expires_at: reader.time("expires_at")?,
        status: TaskStatus::parse(&reader.text("status")?)
            .ok_or_else(|| reader.damaged("unknown status"))?,
        ended_at: reader.maybe_time("ended_at")?,
        ended_because: reader.maybe_text("ended_because")?,
    })
}
