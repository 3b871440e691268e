//! What other agents gave out, and the webhooks that were registered with them.

use jiff::Timestamp;
use model::{InstanceId, ServerName, TaskId};
use sqlx::SqliteConnection;

use crate::row::{Reader, nanos};
use crate::{Store, StoreError};

/// An id that another agent gave out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenId {
    /// Under which task it was asked.
    pub task: TaskId,
    /// By which instance.
    pub instance: InstanceId,
    /// At which server.
    pub server: ServerName,
    /// What it names, in one word.
    pub kind: String,
    /// The id.
    pub id: String,
    /// The skill that it belongs to.
    pub skill: String,
    /// The sub-task that the other agent acts under.
    pub sub_task: Option<TaskId>,
}

/// A webhook that an agent registered with another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The hash of the address that the other agent was given.
    pub address: [u8; 32],
    /// The hash of the token that it was given.
    pub token: [u8; 32],
    /// Under which task it was registered.
    pub task: TaskId,
    /// By which instance.
    pub instance: InstanceId,
    /// How that was proved, in one word.
    pub proof: String,
    /// At which server.
    pub server: ServerName,
    /// The other agent's task.
    pub asked_task: Option<String>,
    /// The skill that it belongs to.
    pub skill: String,
    /// The sub-task that the other agent acts under.
    pub sub_task: Option<TaskId>,
    /// What the agent wrote, as JSON.
    pub hook: String,
}

/// A change of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskedChange {
    /// An id was given out.
    Given(GivenId),
    /// An id was forgotten.
    Forgotten {
        /// Under which task it was asked.
        task: TaskId,
        /// By which instance.
        instance: InstanceId,
        /// At which server.
        server: ServerName,
        /// What it names, in one word.
        kind: String,
        /// The id.
        id: String,
    },
    /// A webhook was registered.
    Registered(Webhook),
    /// A webhook was removed.
    Unregistered([u8; 32]),
}

impl Store {
    /// Keeps changes, all or none of them, in their order. What belongs to tasks that are not there is
    /// left out.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn keep_asked(
        &self,
        changes: &[AskedChange],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        for change in changes {
            keep(&mut transaction, change, now).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// The ids that belong to tasks that are open, the oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn given_ids(&self, now: Timestamp) -> Result<Vec<GivenId>, StoreError> {
        sqlx::query(
            "SELECT given_ids.* FROM given_ids JOIN tasks ON tasks.id = given_ids.task \
             WHERE tasks.status = 'open' AND tasks.expires_at > $1 \
             ORDER BY given_at, given_ids.id",
        )
        .bind(nanos(now))
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(|row| {
            let reader = Reader {
                what: "given id",
                row,
            };
            Ok(GivenId {
                task: reader.parsed("task")?,
                instance: reader.parsed("instance")?,
                server: reader.parsed("server")?,
                kind: reader.text("kind")?,
                id: reader.text("id")?,
                skill: reader.text("skill")?,
                sub_task: reader.maybe_parsed("sub_task")?,
            })
        })
        .collect()
    }

    /// The webhooks that belong to tasks that are open.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn webhooks(&self, now: Timestamp) -> Result<Vec<Webhook>, StoreError> {
        sqlx::query(
            "SELECT webhooks.* FROM webhooks JOIN tasks ON tasks.id = webhooks.task \
             WHERE tasks.status = 'open' AND tasks.expires_at > $1",
        )
        .bind(nanos(now))
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(|row| {
            let reader = Reader {
                what: "webhook",
                row,
            };
            Ok(Webhook {
                address: reader.hash("address")?,
                token: reader.hash("token")?,
                task: reader.parsed("task")?,
                instance: reader.parsed("instance")?,
                proof: reader.text("proof")?,
                server: reader.parsed("server")?,
                asked_task: reader.maybe_text("asked_task")?,
                skill: reader.text("skill")?,
                sub_task: reader.maybe_parsed("sub_task")?,
                hook: reader.text("hook")?,
            })
        })
        .collect()
    }
}

async fn keep(
    transaction: &mut SqliteConnection,
    change: &AskedChange,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let query = match change {
        AskedChange::Given(given) => sqlx::query(
            "INSERT INTO given_ids (task, instance, server, kind, id, skill, sub_task, given_at) \
             SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE EXISTS (SELECT 1 FROM tasks WHERE id = $1) \
             ON CONFLICT (task, instance, server, kind, id) DO NOTHING",
        )
        .bind(given.task.to_string())
        .bind(given.instance.to_string())
        .bind(given.server.as_str())
        .bind(&given.kind)
        .bind(&given.id)
        .bind(&given.skill)
        .bind(given.sub_task.map(|id| id.to_string()))
        .bind(nanos(now)),
        AskedChange::Forgotten {
            task,
            instance,
            server,
            kind,
            id,
        } => sqlx::query(
            "DELETE FROM given_ids WHERE task = $1 AND instance = $2 AND server = $3 \
             AND kind = $4 AND id = $5",
        )
        .bind(task.to_string())
        .bind(instance.to_string())
        .bind(server.as_str())
        .bind(kind)
        .bind(id),
        AskedChange::Registered(webhook) => sqlx::query(
            "INSERT INTO webhooks (address, token, task, instance, proof, server, asked_task, skill, \
             sub_task, hook) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 \
             WHERE EXISTS (SELECT 1 FROM tasks WHERE id = $3) ON CONFLICT (address) DO NOTHING",
        )
        .bind(&webhook.address[..])
        .bind(&webhook.token[..])
        .bind(webhook.task.to_string())
        .bind(webhook.instance.to_string())
        .bind(&webhook.proof)
        .bind(webhook.server.as_str())
        .bind(&webhook.asked_task)
        .bind(&webhook.skill)
        .bind(webhook.sub_task.map(|id| id.to_string()))
        .bind(&webhook.hook),
        AskedChange::Unregistered(address) => {
            sqlx::query("DELETE FROM webhooks WHERE address = $1").bind(&address[..])
        }
    };
    query.execute(transaction).await?;
    Ok(())
}
