//! What happens by itself: tasks expire, usage is saved, what is over is thrown away.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::TaskStatus;
use model::record::Record;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::setup::rotated;
use super::{Actor, Engine, EngineError, svids, to_the_end};

/// How often expired tasks are looked for. They are refused from the moment of their expiry all
/// the same; this is how long what they are streaming may go on.
const TICK: Duration = Duration::from_millis(250);
/// How often handles of ended tasks are swept and what is owed is tried again.
const SWEEP: Duration = Duration::from_secs(1);
/// How often usage is saved; a crash makes the log be read back for at most this long.
const SAVE: Duration = Duration::from_secs(30);
/// How often the store is pruned and keys are looked at.
const PRUNE: Duration = Duration::from_secs(3_600);
/// How long ended tasks stay in memory, so that their agents are told how they ended.
const REMEMBER: SignedDuration = SignedDuration::from_secs(600);

impl Engine {
    /// Does what happens by itself until `stop` is cancelled; then saves what tasks have used and
    /// records the end. Cancel it when nothing is served any more.
    pub async fn run(self: &Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let start = Instant::now();
        let (mut swept, mut saved, mut pruned) = (start, start, start);
        let mut first = true;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = tick.tick() => {}
            }
            let now = Timestamp::now();
            self.expire_tasks(now).await;
            if is_due(&mut swept, SWEEP) {
                self.sweep();
                self.pay_owed().await;
            }
            if is_due(&mut saved, SAVE) {
                self.live().forget_ended(now, REMEMBER);
                self.live().forget_expired_tokens(now);
                self.save_usage_or_warn().await;
            }
            if is_due(&mut pruned, PRUNE) || std::mem::take(&mut first) {
                self.prune(now).await;
                self.expire_kept(now).await;
            }
        }
        self.pay_owed().await;
        self.save_usage_or_warn().await;
        let subject = self.settings.trust_domain.as_str();
        let record = Record::change(Timestamp::now(), "sallyport", "sallyport.stopped", subject);
        if let Err(error) = self.record(record).await {
            tracing::error!(%error, "the end was not recorded");
        }
    }

    /// Keeps what open tasks have used.
    ///
    /// # Errors
    /// [`EngineError`] when the store cannot be written.
    pub async fn save_usage(&self) -> Result<(), EngineError> {
        // The position first: whatever the log has now was charged before it was recorded, so it
        // is in the counters that are read after this.
        let size = self.live().audit().size();
        let now = Timestamp::now();
        let mut usage = Vec::new();
        for task in self.live().tasks() {
            if task.status_at(now) == TaskStatus::Open {
                let text = serde_json::to_string(&task.usage())
                    .map_err(|error| EngineError::Recovery(error.to_string()))?;
                usage.push((task.task().id, text));
            }
        }
        if !usage.is_empty() {
            self.store.save_usage(&usage, size).await?;
        }
        Ok(())
    }

    async fn save_usage_or_warn(&self) {
        if let Err(error) = self.save_usage().await {
            tracing::warn!(%error, "what tasks have used was not saved; the log still has it");
        }
    }

    async fn prune(self: &Arc<Self>, now: Timestamp) {
        let keep = self.settings.limits.keep_ended;
        if let Err(error) = self.store.prune(now, keep).await {
            tracing::warn!(%error, "the store was not pruned");
        }
        if let Err(error) = self.store.prune_response(now, keep).await {
            tracing::warn!(%error, "runs of playbooks were not pruned");
        }
        let engine = Arc::clone(self);
        let rotation = to_the_end(async move {
            let _alone = engine.changes.write().await;
            engine.live().audit().health()?;
            let rotation = engine.keys.rotate_if_due(now);
            if let Some(kid) = rotation.map_err(|error| EngineError::Keys(error.to_string()))? {
                engine
                    .record_or_owe(&rotated(&Actor::Sallyport, now, &kid))
                    .await;
            }
            let made = engine.authority.rotate_if_due(now);
            if made.map_err(|error| EngineError::Keys(error.to_string()))? {
                let record = svids::made(&Actor::Sallyport, now, &engine.authority);
                engine.record_or_owe(&record).await;
            }
            Ok(())
        });
        if let Err(error) = rotation.await {
            tracing::warn!(%error, "the signing keys were not looked at");
        }
    }
}

/// Whether so much time has passed since the last time; then it begins anew.
fn is_due(last: &mut Instant, every: Duration) -> bool {
    let due = last.elapsed() >= every;
    if due {
        *last = Instant::now();
    }
    due
}
