//! Signals to and from other security systems: streams, events that wait, tokens that were taken.

use jiff::Timestamp;
use sqlx::{Row as _, SqliteConnection};

use crate::row::{Reader, index, nanos};
use crate::{Store, StoreError};

/// An event that a receiver has not taken yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingSignal {
    /// For whom.
    pub receiver: String,
    /// Names its token.
    pub jti: String,
    /// The claims of its token, as JSON.
    pub claims: String,
}

/// How far the log was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalsTold {
    /// The records before this index were told.
    pub position: u64,
    /// What was told last of whom, as JSON.
    pub levels: String,
}

impl Store {
    /// The streams, as JSON, by receiver.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn signal_streams(&self) -> Result<Vec<(String, String)>, StoreError> {
        sqlx::query("SELECT receiver, body FROM signal_streams ORDER BY receiver")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(|row| {
                let reader = Reader {
                    what: "stream of signals",
                    row,
                };
                Ok((reader.text("receiver")?, reader.text("body")?))
            })
            .collect()
    }

    /// Keeps the stream of a receiver.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn put_signal_stream(&self, receiver: &str, body: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO signal_streams (receiver, body) VALUES ($1, $2) \
             ON CONFLICT (receiver) DO UPDATE SET body = $2",
        )
        .bind(receiver)
        .bind(body)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Removes the stream of a receiver, with the events that wait for it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn remove_signal_stream(&self, receiver: &str) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        sqlx::query("DELETE FROM signal_streams WHERE receiver = $1")
            .bind(receiver)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM signals_waiting WHERE receiver = $1")
            .bind(receiver)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Lets events wait for their receivers, and keeps how far the log was told, all or nothing. At most
    /// `most` wait for one receiver: the oldest are dropped. Returns how many were.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn keep_signals(
        &self,
        events: &[WaitingSignal],
        told: &SignalsTold,
        most: u32,
    ) -> Result<u64, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let mut dropped = 0;
        for event in events {
            add(&mut transaction, event).await?;
            dropped += sqlx::query(
                "DELETE FROM signals_waiting WHERE receiver = $1 AND number <= (\
                 SELECT number FROM signals_waiting WHERE receiver = $1 \
                 ORDER BY number DESC LIMIT 1 OFFSET $2)",
            )
            .bind(&event.receiver)
            .bind(i64::from(most))
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        }
        sqlx::query(
            "INSERT INTO signals_told (one, position, levels) VALUES (1, $1, $2) \
             ON CONFLICT (one) DO UPDATE SET position = $1, levels = $2",
        )
        .bind(index(told.position))
        .bind(&told.levels)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(dropped)
    }

    /// Lets one more event wait for its receiver.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn add_signal(&self, event: &WaitingSignal) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        add(&mut transaction, event).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// How far the log was told; `None` when it never was.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn signals_told(&self) -> Result<Option<SignalsTold>, StoreError> {
        sqlx::query("SELECT position, levels FROM signals_told")
            .fetch_optional(&self.readers)
            .await?
            .map(|row| {
                let reader = Reader {
                    what: "how far signals were told",
                    row: &row,
                };
                Ok(SignalsTold {
                    position: reader.position("position")?,
                    levels: reader.text("levels")?,
                })
            })
            .transpose()
    }

    /// The events that have waited longest for a receiver, at most `limit`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn waiting_signals(
        &self,
        receiver: &str,
        limit: u32,
    ) -> Result<Vec<WaitingSignal>, StoreError> {
        sqlx::query(
            "SELECT receiver, jti, claims FROM signals_waiting WHERE receiver = $1 \
             ORDER BY number LIMIT $2",
        )
        .bind(receiver)
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(|row| {
            let reader = Reader {
                what: "signal that waits",
                row,
            };
            Ok(WaitingSignal {
                receiver: reader.text("receiver")?,
                jti: reader.text("jti")?,
                claims: reader.text("claims")?,
            })
        })
        .collect()
    }

    /// How many events wait, by receiver.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn count_waiting_signals(&self, receiver: &str) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) FROM signals_waiting WHERE receiver = $1")
            .bind(receiver)
            .fetch_one(&self.readers)
            .await?;
        Ok(u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default())
    }

    /// Forgets events that a receiver has taken.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn signals_delivered(
        &self,
        receiver: &str,
        jtis: &[String],
    ) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        for jti in jtis {
            sqlx::query("DELETE FROM signals_waiting WHERE receiver = $1 AND jti = $2")
                .bind(receiver)
                .bind(jti)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Whether a token of a transmitter was taken before.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn was_signal_taken(&self, transmitter: &str, jti: &str) -> Result<bool, StoreError> {
        let found = sqlx::query("SELECT 1 FROM signals_taken WHERE transmitter = $1 AND jti = $2")
            .bind(transmitter)
            .bind(jti)
            .fetch_optional(&self.readers)
            .await?;
        Ok(found.is_some())
    }

    /// Remembers that a token was taken, and forgets those that were taken before `oldest`.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn signal_taken(
        &self,
        transmitter: &str,
        jti: &str,
        at: Timestamp,
        oldest: Timestamp,
    ) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        sqlx::query(
            "INSERT INTO signals_taken (transmitter, jti, at) VALUES ($1, $2, $3) \
             ON CONFLICT (transmitter, jti) DO NOTHING",
        )
        .bind(transmitter)
        .bind(jti)
        .bind(nanos(at))
        .execute(&mut *transaction)
        .await?;
        sqlx::query("DELETE FROM signals_taken WHERE at < $1")
            .bind(nanos(oldest))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }
}

async fn add(connection: &mut SqliteConnection, event: &WaitingSignal) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO signals_waiting (number, receiver, jti, claims) \
         SELECT COALESCE(MAX(number), 0) + 1, $1, $2, $3 FROM signals_waiting WHERE TRUE \
         ON CONFLICT (receiver, jti) DO NOTHING",
    )
    .bind(&event.receiver)
    .bind(&event.jti)
    .bind(&event.claims)
    .execute(connection)
    .await?;
    Ok(())
}
