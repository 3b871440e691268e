//! What is known of agents' behaviour, and how far the audit log was followed.

use sqlx::SqliteConnection;

use crate::row::{Reader, index};
use crate::{FindingRow, IncidentRow, Store, StoreError};

/// The part that holds what is known besides behaviour: suppressions, false alarms and scores.
pub const KNOWN: &str = "known";

/// What was kept of following the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    /// How far the log was followed; `None` when it never was.
    pub position: Option<WatchPosition>,
    /// What is known, by name.
    pub parts: Vec<(String, String)>,
}

/// How far the audit log was followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WatchPosition {
    /// The records before this index are in the parts.
    pub observed: u64,
    /// The findings about records before this index are in the store.
    pub told: u64,
}

/// What is to be kept together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WatchBatch {
    /// Findings; one that is there already is replaced.
    pub findings: Vec<FindingRow>,
    /// Incidents; one that is there already is replaced.
    pub incidents: Vec<IncidentRow>,
    /// Parts by name; one without a text is removed.
    pub parts: Vec<(String, Option<String>)>,
    /// Where the follower is, if that has changed.
    pub observed: Option<u64>,
    /// The records whose findings are in the store then, if that has changed.
    pub told: Option<u64>,
}

impl WatchBatch {
    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
            && self.incidents.is_empty()
            && self.parts.is_empty()
            && self.observed.is_none()
            && self.told.is_none()
    }
}

impl Store {
    /// What was kept of following the audit log. For the start.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn watched(&self) -> Result<Watched, StoreError> {
        let position = sqlx::query("SELECT observed, told FROM watch_position")
            .fetch_optional(&self.readers)
            .await?
            .map(|row| {
                let reader = Reader {
                    what: "position in the log",
                    row: &row,
                };
                Ok::<_, StoreError>(WatchPosition {
                    observed: reader.position("observed")?,
                    told: reader.position("told")?,
                })
            })
            .transpose()?;
        let parts = sqlx::query("SELECT name, body FROM watched_parts ORDER BY name")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(|row| {
                let reader = Reader {
                    what: "part of what is known of agents",
                    row,
                };
                Ok((reader.text("name")?, reader.text("body")?))
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(Watched { position, parts })
    }

    /// Keeps a batch, all of it or nothing.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn keep_watch(&self, batch: &WatchBatch) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        for finding in &batch.findings {
            finding.put(&mut transaction).await?;
        }
        for incident in &batch.incidents {
            incident.put(&mut transaction).await?;
        }
        for (name, body) in &batch.parts {
            put_part(&mut transaction, name, body.as_deref()).await?;
        }
        if batch.observed.is_some() || batch.told.is_some() {
            sqlx::query(
                "INSERT INTO watch_position (one, observed, told) \
                 VALUES (1, COALESCE($1, 0), COALESCE($2, 0)) \
                 ON CONFLICT (one) DO UPDATE SET \
                 observed = COALESCE($1, watch_position.observed), \
                 told = COALESCE($2, watch_position.told)",
            )
            .bind(batch.observed.map(index))
            .bind(batch.told.map(index))
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Throws parts away that nobody knows any more; how many there were.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn prune_parts(
        &self,
        is_known: impl Fn(&str) -> bool + Send,
    ) -> Result<usize, StoreError> {
        let rows = sqlx::query("SELECT name FROM watched_parts")
            .fetch_all(&self.readers)
            .await?;
        let mut unknown = Vec::new();
        for row in &rows {
            let reader = Reader {
                what: "part of what is known of agents",
                row,
            };
            let name = reader.text("name")?;
            if name != KNOWN && !is_known(&name) {
                unknown.push(name);
            }
        }
        let mut transaction = self.writer.begin().await?;
        for name in &unknown {
            put_part(&mut transaction, name, None).await?;
        }
        transaction.commit().await?;
        Ok(unknown.len())
    }
}

async fn put_part(
    transaction: &mut SqliteConnection,
    name: &str,
    body: Option<&str>,
) -> Result<(), StoreError> {
    let statement = match body {
        Some(_) => {
            "INSERT INTO watched_parts (name, body) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET body = excluded.body"
        }
        None => "DELETE FROM watched_parts WHERE name = $1",
    };
    let query = sqlx::query(statement).bind(name);
    match body {
        Some(body) => query.bind(body),
        None => query,
    }
    .execute(transaction)
    .await?;
    Ok(())
}
