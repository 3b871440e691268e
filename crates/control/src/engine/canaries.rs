//! Canary tokens: made here, planted by people, and watched for in everything that passes.

use std::sync::Arc;

use jiff::Timestamp;
use model::record::Record;
use monitor::content::canary::Shape;
use monitor::content::{Canaries, Canary};
use store::StoredCanary;

use super::{Actor, Engine, EngineError, random, to_the_end};
use crate::api;

/// Longest label, in characters.
const LABEL: usize = 200;

impl Engine {
    /// Makes a canary token and watches for it from now on.
    ///
    /// # Errors
    /// [`EngineError`] when the label is not acceptable, there are too many, or the log or the store cannot
    /// be written.
    pub async fn create_canary(
        self: &Arc<Self>,
        actor: Actor,
        label: String,
        shape: Shape,
    ) -> Result<api::Canary, EngineError> {
        if label.trim().is_empty() || label.chars().count() > LABEL {
            return Err(EngineError::Invalid(format!(
                "a canary token needs a label of 1 to {LABEL} characters: where it is planted, and why"
            )));
        }
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _alone = engine.changes.write().await;
            let now = Timestamp::now();
            let minted = Canary::mint(shape, random(), label, now);
            let mut planted = engine.planted().await?;
            planted.push(minted.clone());
            let watched = watch(planted)?;
            // Without the token: whoever may read the log need not know what is watched for.
            let record = Record::change(now, actor.to_string(), "canary.created", &minted.label);
            engine.record(record).await?;
            let stored = StoredCanary {
                text: minted.text,
                label: minted.label,
                planted_at: now,
            };
            engine.store.add_canary(&stored).await?;
            engine.pipeline.inspection().set_canaries(watched);
            Ok(shown(stored))
        })
        .await
    }

    /// Does not watch for a token any more.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such token, or the log or the store cannot be written.
    pub async fn remove_canary(
        self: &Arc<Self>,
        actor: Actor,
        token: String,
    ) -> Result<api::Canary, EngineError> {
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _alone = engine.changes.write().await;
            let stored = engine.store.canaries().await?;
            let Some(gone) = stored.into_iter().find(|canary| canary.text == token) else {
                return Err(EngineError::not_found("canary token", "that was given"));
            };
            let now = Timestamp::now();
            let record = Record::change(now, actor.to_string(), "canary.removed", &gone.label);
            engine.record(record).await?;
            engine.store.remove_canary(&gone.text).await?;
            engine.watch_canaries().await?;
            Ok(shown(gone))
        })
        .await
    }

    /// The canary tokens, the latest first.
    ///
    /// # Errors
    /// [`EngineError`] when the store cannot be read.
    pub async fn canaries(&self) -> Result<Vec<api::Canary>, EngineError> {
        Ok(self
            .store
            .canaries()
            .await?
            .into_iter()
            .map(shown)
            .collect())
    }

    /// Watches for what the store has.
    pub(super) async fn watch_canaries(&self) -> Result<(), EngineError> {
        let watched = watch(self.planted().await?)?;
        self.pipeline.inspection().set_canaries(watched);
        Ok(())
    }

    async fn planted(&self) -> Result<Vec<Canary>, EngineError> {
        let stored = self.store.canaries().await?;
        let planted = stored.into_iter().map(|canary| Canary {
            text: canary.text,
            label: canary.label,
            minted_at: canary.planted_at,
        });
        Ok(planted.collect())
    }
}

fn watch(planted: Vec<Canary>) -> Result<Canaries, EngineError> {
    Canaries::watch(planted).map_err(|error| EngineError::TooMany(error.to_string()))
}

fn shown(canary: StoredCanary) -> api::Canary {
    api::Canary {
        token: canary.text,
        label: canary.label,
        created_at: canary.planted_at,
    }
}
