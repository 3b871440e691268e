//! Records that restrictions owe to the audit log.
//!
//! A restriction takes effect even while the log cannot be written. Its record is kept in the same
//! transaction as the restriction itself, and settled once the log has it, so that neither a full
//! disk nor a crash in between loses it.

use sqlx::{Row, SqliteConnection};

use crate::{Store, StoreError};

/// Keeps a record within a transaction.
pub(crate) async fn owe(
    transaction: &mut SqliteConnection,
    record: Option<&[u8]>,
) -> Result<(), sqlx::Error> {
    if let Some(record) = record {
        sqlx::query("INSERT INTO owed_records (record) VALUES ($1)")
            .bind(record)
            .execute(transaction)
            .await?;
    }
    Ok(())
}

impl Store {
    /// The records that are owed to the audit log, the oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn owed(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        sqlx::query("SELECT record FROM owed_records ORDER BY id")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(|row| Ok(row.try_get(0)?))
            .collect()
    }

    /// Says that the audit log has a record now.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn settle(&self, record: &[u8]) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM owed_records WHERE record = $1")
            .bind(record)
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}
