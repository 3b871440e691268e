//! What is held back by hand, since when tokens are refused, and runs of playbooks.

use jiff::{SignedDuration, Timestamp};
use model::AgentName;
use sqlx::sqlite::SqliteRow;

use crate::owed::owe;
use crate::row::{Reader, nanos};
use crate::{Store, StoreError};

/// Something that is held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What kind of thing: `all`, `segment` or `tool`.
    pub kind: String,
    /// Its name; empty for `all`, `server/tool` for a tool.
    pub name: String,
    /// Why, in words.
    pub because: String,
    /// Since when.
    pub held_at: Timestamp,
}

/// A run of a playbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// Its id; later runs have later ids.
    pub id: String,
    /// The playbook.
    pub playbook: String,
    /// What it is about, in one word: two runs about the same are not begun at once.
    pub subject: String,
    /// Whether it is over.
    pub over: bool,
    /// When it began.
    pub started_at: Timestamp,
    /// The run, as JSON.
    pub body: String,
}

impl Store {
    /// Keeps that something is held back; returns false when it is already. `owed` is kept for the audit
    /// log when it is new.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn hold(&self, held: &Held, owed: Option<&[u8]>) -> Result<bool, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let done = sqlx::query(
            "INSERT INTO holds (kind, name, because, held_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (kind, name) DO NOTHING",
        )
        .bind(&held.kind)
        .bind(&held.name)
        .bind(&held.because)
        .bind(nanos(held.held_at))
        .execute(&mut *transaction)
        .await?;
        let first = done.rows_affected() > 0;
        if first {
            owe(&mut transaction, owed).await?;
        }
        transaction.commit().await?;
        Ok(first)
    }

    /// Keeps that something is held back no more.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn release(&self, kind: &str, name: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM holds WHERE kind = $1 AND name = $2")
            .bind(kind)
            .bind(name)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// All that is held back.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn holds(&self) -> Result<Vec<Held>, StoreError> {
        sqlx::query("SELECT * FROM holds ORDER BY kind, name")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(|row| {
                let reader = Reader { what: "hold", row };
                Ok(Held {
                    kind: reader.text("kind")?,
                    name: reader.text("name")?,
                    because: reader.text("because")?,
                    held_at: reader.time("held_at")?,
                })
            })
            .collect()
    }

    /// Keeps that tokens which an agent was given up to now are refused. A later moment counts.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn set_token_floor(
        &self,
        agent: &AgentName,
        at: Timestamp,
        owed: Option<&[u8]>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.writer.begin().await?;
        sqlx::query(
            "INSERT INTO token_floors (agent, given_at) VALUES ($1, $2) \
             ON CONFLICT (agent) DO UPDATE SET given_at = excluded.given_at \
             WHERE token_floors.given_at < excluded.given_at",
        )
        .bind(agent.as_str())
        .bind(nanos(at))
        .execute(&mut *transaction)
        .await?;
        owe(&mut transaction, owed).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Since when tokens of which agents are refused.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn token_floors(&self) -> Result<Vec<(AgentName, Timestamp)>, StoreError> {
        sqlx::query("SELECT * FROM token_floors")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(|row| {
                let what = "token floor";
                let reader = Reader { what, row };
                Ok((reader.parsed("agent")?, reader.time("given_at")?))
            })
            .collect()
    }

    /// Keeps a run as it is now.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn keep_run(&self, run: &RunRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO playbook_runs (id, playbook, subject, over, started_at, body) \
             VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (id) DO UPDATE SET over = excluded.over, body = excluded.body",
        )
        .bind(&run.id)
        .bind(&run.playbook)
        .bind(&run.subject)
        .bind(i64::from(run.over))
        .bind(nanos(run.started_at))
        .bind(&run.body)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// One run.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn run(&self, id: &str) -> Result<Option<RunRow>, StoreError> {
        sqlx::query("SELECT * FROM playbook_runs WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.readers)
            .await?
            .map(|row| run(&row))
            .transpose()
    }

    /// The runs before one, the latest first; only those that are not over with `open`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn runs(
        &self,
        before: Option<&str>,
        limit: u32,
        open: bool,
    ) -> Result<Vec<RunRow>, StoreError> {
        sqlx::query(
            "SELECT * FROM playbook_runs WHERE ($1 IS NULL OR id < $1) AND over <= $2 \
             ORDER BY id DESC LIMIT $3",
        )
        .bind(before)
        .bind(i64::from(!open))
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(run)
        .collect()
    }

    /// How many runs are not over.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_runs(&self) -> Result<u64, StoreError> {
        let (count,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM playbook_runs WHERE over = 0")
            .fetch_one(&self.readers)
            .await?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// The latest runs of a playbook about something, at most 16.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn runs_about(
        &self,
        playbook: &str,
        subject: &str,
    ) -> Result<Vec<RunRow>, StoreError> {
        sqlx::query(
            "SELECT * FROM playbook_runs WHERE subject = $1 AND playbook = $2 \
             ORDER BY id DESC LIMIT 16",
        )
        .bind(subject)
        .bind(playbook)
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(run)
        .collect()
    }

    /// Throws away runs that are over and began longer than `keep` ago (the audit log still has them), and
    /// moments since when tokens and certificates are refused that are longer ago than any of them lives.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn prune_response(
        &self,
        now: Timestamp,
        keep: SignedDuration,
    ) -> Result<(), StoreError> {
        let before = |span| now.checked_sub(span).unwrap_or(Timestamp::MIN);
        sqlx::query("DELETE FROM playbook_runs WHERE over = 1 AND started_at <= $1")
            .bind(nanos(before(keep)))
            .execute(&self.writer)
            .await?;
        sqlx::query("DELETE FROM token_floors WHERE given_at <= $1")
            // A certificate lives for a day at most.
            .bind(nanos(before(SignedDuration::from_hours(25))))
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}

fn run(row: &SqliteRow) -> Result<RunRow, StoreError> {
    let reader = Reader {
        what: "run of a playbook",
        row,
    };
    Ok(RunRow {
        id: reader.text("id")?,
        playbook: reader.text("playbook")?,
        subject: reader.text("subject")?,
        over: reader.number("over")? != 0,
        started_at: reader.time("started_at")?,
        body: reader.text("body")?,
    })
}
