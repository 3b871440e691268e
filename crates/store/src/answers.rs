//! Answers of models that their provider keeps, and which task each was given to.

use jiff::Timestamp;
use model::{ServerName, TaskId};

use crate::row::{Reader, index, nanos};
use crate::{Store, StoreError};

/// An answer that a provider of models keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The task that it was given to.
    pub task: TaskId,
    /// The server whose answer it is.
    pub server: ServerName,
    /// The provider's id of it.
    pub id: String,
    /// The tokens that going on with it reads again.
    pub tokens: u64,
}

impl Store {
    /// Keeps answers, all or none of them, and of all only the latest `most`. What belongs to tasks that
    /// are not there is left out.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn keep_answers(
        &self,
        answers: &[StoredAnswer],
        most: u32,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        for answer in answers {
            sqlx::query(
                "INSERT INTO stored_answers (task, server, id, tokens, given_at) \
                 SELECT $1, $2, $3, $4, $5 WHERE EXISTS (SELECT 1 FROM tasks WHERE id = $1) \
                 ON CONFLICT (task, server, id) DO UPDATE SET tokens = excluded.tokens",
            )
            .bind(answer.task.to_string())
            .bind(answer.server.as_str())
            .bind(&answer.id)
            .bind(index(answer.tokens))
            .bind(nanos(now))
            .execute(&mut *transaction)
            .await?;
        }
        sqlx::query(
            "DELETE FROM stored_answers WHERE given_at <= \
             (SELECT given_at FROM stored_answers ORDER BY given_at DESC LIMIT 1 OFFSET $1)",
        )
        .bind(i64::from(most))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The answers that were given to tasks that are open, the oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stored_answers(&self, now: Timestamp) -> Result<Vec<StoredAnswer>, StoreError> {
        sqlx::query(
            "SELECT stored_answers.* FROM stored_answers \
             JOIN tasks ON tasks.id = stored_answers.task \
             WHERE tasks.status = 'open' AND tasks.expires_at > $1 ORDER BY given_at",
        )
        .bind(nanos(now))
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(|row| {
            let reader = Reader {
                what: "stored answer",
                row,
            };
            Ok(StoredAnswer {
                task: reader.parsed("task")?,
                server: reader.parsed("server")?,
                id: reader.text("id")?,
                tokens: reader.position("tokens")?,
            })
        })
        .collect()
    }
}
