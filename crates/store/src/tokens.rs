//! Revoked tokens, disabled servers, and throwing away what is over.

use jiff::{SignedDuration, Timestamp};
use model::ServerName;

use crate::owed::owe;
use crate::row::{Reader, nanos};
use crate::{Store, StoreError};

impl Store {
    /// Keeps the SHA-256 hash of a revoked token until it has expired; returns false when it is
    /// kept already. `owed` is kept for the audit log when it is new.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn revoke_token(
        &self,
        hash: &[u8; 32],
        expires: Timestamp,
        owed: Option<&[u8]>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let done = sqlx::query(
            "INSERT INTO revoked_tokens (hash, expires_at) VALUES ($1, $2) \
             ON CONFLICT (hash) DO NOTHING",
        )
        .bind(&hash[..])
        .bind(nanos(expires))
        .execute(&mut *transaction)
        .await?;
        let first = done.rows_affected() > 0;
        if first {
            owe(&mut transaction, owed).await?;
        }
        transaction.commit().await?;
        Ok(first)
    }

    /// The hashes of revoked tokens that have not expired, with when they do.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn revoked_tokens(
        &self,
        now: Timestamp,
    ) -> Result<Vec<([u8; 32], Timestamp)>, StoreError> {
        sqlx::query("SELECT * FROM revoked_tokens WHERE expires_at > $1")
            .bind(nanos(now))
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(|row| {
                let reader = Reader {
                    what: "revoked token",
                    row,
                };
                Ok((reader.hash("hash")?, reader.time("expires_at")?))
            })
            .collect()
    }

    /// Throws away what is over: revoked tokens and enrolments that have expired, and tasks that
    /// ended longer than `keep` ago (the audit log still has them).
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn prune(&self, now: Timestamp, keep: SignedDuration) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        for table in [
            "DELETE FROM revoked_tokens WHERE expires_at <= $1",
            "DELETE FROM enrolments WHERE expires_at <= $1",
            "DELETE FROM approval_levels WHERE until <= $1 OR (kind = 'task' AND subject NOT IN \
             (SELECT id FROM tasks WHERE status = 'open'))",
            "DELETE FROM usage_snapshots WHERE task IN (SELECT id FROM tasks \
             WHERE status <> 'open' AND ended_at <= $1)",
            "DELETE FROM given_ids WHERE task IN (SELECT id FROM tasks \
             WHERE status <> 'open' AND ended_at <= $1)",
            "DELETE FROM webhooks WHERE task IN (SELECT id FROM tasks \
             WHERE status <> 'open' AND ended_at <= $1)",
        ] {
            sqlx::query(table)
                .bind(nanos(now))
                .execute(&mut *transaction)
                .await?;
        }
        let before = now.checked_sub(keep).unwrap_or(Timestamp::MIN);
        sqlx::query("DELETE FROM tasks WHERE status <> 'open' AND ended_at <= $1")
            .bind(nanos(before))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Keeps whether a server was disabled by hand; returns false when that was so before. Servers
    /// are enabled unless kept here. `owed` is kept for the audit log when it is a change.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn set_server_enabled(
        &self,
        name: &ServerName,
        enabled: bool,
        owed: Option<&[u8]>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let statement = if enabled {
            "DELETE FROM disabled_servers WHERE name = $1"
        } else {
            "INSERT INTO disabled_servers (name) VALUES ($1) ON CONFLICT (name) DO NOTHING"
        };
        let done = sqlx::query(statement)
            .bind(name.as_str())
            .execute(&mut *transaction)
            .await?;
        let first = done.rows_affected() > 0;
        if first {
            owe(&mut transaction, owed).await?;
        }
        transaction.commit().await?;
        Ok(first)
    }

    /// The servers that were disabled by hand.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn disabled_servers(&self) -> Result<Vec<ServerName>, StoreError> {
        sqlx::query("SELECT name FROM disabled_servers ORDER BY name")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(|row| {
                Reader {
                    what: "disabled server",
                    row,
                }
                .parsed("name")
            })
            .collect()
    }
}
