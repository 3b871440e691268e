//! The vault, for operators: what is kept, looked at and destroyed. Whoever looks, or destroys, is on record
//! before it happens.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use model::record::Record;
use model::{DecisionId, TaskId};
use vault::{Head, Holding, Shown, Vault};

use super::tasks::words;
use super::{Actor, Engine, EngineError, to_the_end};

/// Most payloads of one task that are listed.
const MOST_LISTED: usize = 10_000;

impl Engine {
    fn vault(&self) -> Result<&Arc<Vault>, EngineError> {
        let vault = self.pipeline.contents().vault();
        vault.ok_or_else(|| {
            EngineError::conflict(
                "this process has no vault",
                "start it with `sallyport serve`, which has one",
            )
        })
    }

    /// What is kept of each task, the latest task first.
    ///
    /// # Errors
    /// [`EngineError`] when there is no vault.
    pub fn kept_tasks(
        &self,
        before: Option<&TaskId>,
        most: usize,
    ) -> Result<Vec<(TaskId, Holding)>, EngineError> {
        Ok(self.vault()?.tasks(before, most))
    }

    /// What is kept of one task, the latest first, by what stands in clear: no content.
    ///
    /// # Errors
    /// [`EngineError`] when nothing is kept of it, or the vault cannot be read.
    pub async fn kept_payloads(&self, task: TaskId) -> Result<Vec<Head>, EngineError> {
        let vault = Arc::clone(self.vault()?);
        blocking(move || vault.list(&task, MOST_LISTED)).await
    }

    /// Opens what is kept of a decision, or one part of it. It is on record, with who looked, before anybody
    /// sees it.
    ///
    /// # Errors
    /// [`EngineError`] when nothing is kept of it, its key was destroyed, or the log cannot be written.
    pub async fn show_kept(
        &self,
        actor: &Actor,
        decision: DecisionId,
        part: Option<String>,
    ) -> Result<Vec<Shown>, EngineError> {
        let part = part.map(|part| words("part", &part)).transpose()?;
        let vault = Arc::clone(self.vault()?);
        let wanted = part.clone();
        let shown = blocking(move || vault.show(&decision, wanted.as_deref())).await?;
        let record = Record::change(
            Timestamp::now(),
            actor.to_string(),
            "vault.shown",
            decision.to_string(),
        )
        .with(
            "task",
            shown.first().map(|shown| shown.head.task.to_string()),
        )
        .with("part", part)
        .with("payloads", shown.len());
        self.record(record).await?;
        Ok(shown)
    }

    /// Destroys everything that is kept of a task, for good: its key is. It is on record before it happens;
    /// the log still verifies, and still has the hashes.
    ///
    /// # Errors
    /// [`EngineError`] when nothing is kept of it, or the log or the vault cannot be written.
    pub async fn destroy_kept(
        self: &Arc<Self>,
        actor: Actor,
        task: TaskId,
        because: Option<String>,
    ) -> Result<Holding, EngineError> {
        let because = words("because", because.as_deref().unwrap_or_default())?;
        let engine = Arc::clone(self);
        to_the_end(async move {
            let vault = Arc::clone(engine.vault()?);
            let holding = |vault: &Vault| vault.holding(&task);
            let before = holding(&vault).ok_or_else(|| nothing_of(&task))?;
            if before.destroyed {
                return Ok(before);
            }
            let record = |change: &str| {
                let now = Timestamp::now();
                Record::change(now, actor.to_string(), change, task.to_string())
                    .with("payloads", before.payloads)
                    .with("because", because.as_str())
            };
            engine.record(record("vault.destroyed")).await?;
            if let Err(error) = vault.destroy(task).await {
                let failed = record("vault.not_destroyed").with("error", error.to_string());
                engine.record_or_owe(&failed).await;
                return Err(error.into());
            }
            // What an open task has read is kept too, for as long as it is open.
            if let Some(task) = engine.live().task(&task) {
                task.destroy_kept_ledger();
            }
            Ok(holding(&vault).unwrap_or(before))
        })
        .await
    }

    /// Removes what is older than it may be.
    pub(super) async fn expire_kept(&self, now: Timestamp) {
        let Ok(vault) = self.vault() else { return };
        let days = i64::from(self.pipeline.contents().keep_days());
        let before = now.saturating_sub(SignedDuration::from_hours(24 * days));
        let before = before.unwrap_or(Timestamp::MIN);
        match vault.expire(before).await {
            Ok(expired) if expired.payloads > 0 => {
                let subject = self.settings.trust_domain.as_str();
                let record = Record::change(now, "sallyport", "vault.expired", subject)
                    .with("before", before.to_string())
                    .with("payloads", expired.payloads)
                    .with("tasks", expired.tasks)
                    .with("bytes", expired.bytes);
                self.record_or_owe(&record).await;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "old content was not removed from the vault"),
        }
    }
}

fn nothing_of(task: &TaskId) -> EngineError {
    vault::VaultError::NothingOf { task: *task }.into()
}

/// Reads the vault where it keeps nobody waiting.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, vault::VaultError> + Send + 'static,
) -> Result<T, EngineError> {
    let read = tokio::task::spawn_blocking(read).await;
    Ok(read.map_err(|_| EngineError::Ending)??)
}
