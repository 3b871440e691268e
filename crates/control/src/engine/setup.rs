//! What people wrote, taken into use; servers switched off and on; keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway::live::Cut;
use gateway::redaction::Redactor;
use jiff::Timestamp;
use model::ServerName;
use model::config::Server;
use model::record::Record;
use policy::ServerFacts;

use super::restriction::Restriction;
use super::{Actor, Engine, EngineError, Restricted, Setup, to_the_end};
use crate::api;

impl Engine {
    /// Takes new policies, templates, servers and redaction rules into use. Open tasks keep the
    /// grants that they have. When the policies changed, everything under way is cut, so that it is
    /// decided anew; otherwise what is under way at servers that changed or are gone.
    ///
    /// # Errors
    /// [`EngineError`] when a redaction pattern is wrong or the log cannot be written; then
    /// everything stays as it was.
    pub async fn reload(
        self: &Arc<Self>,
        actor: Actor,
        setup: Setup,
    ) -> Result<api::Reloaded, EngineError> {
        let redactor = Redactor::new(&setup.redaction)
            .map_err(|error| EngineError::Redaction(error.to_string()))?;
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _alone = engine.changes.write().await;
            let record = loaded(
                &actor,
                "setup.reloaded",
                engine.settings.trust_domain.as_str(),
                &setup,
            );
            let pins = Self::stored_pins(&engine.store).await?;
            engine.record(record).await?;
            engine.publish_pins(&setup.servers, &pins);
            let before = engine.servers.load_full();
            let new_policies =
                engine.live().world().policies().version() != setup.policies.version();
            engine.pipeline.set_redactor(redactor);
            engine.publish_setup(&setup);
            engine.watch.configure(setup.monitor.clone());
            let gone: Vec<ServerName> = before
                .iter()
                .filter(|(name, server)| setup.servers.get(*name) != Some(*server))
                .map(|(name, _)| name.clone())
                .collect();
            if new_policies {
                engine.live().cut(Cut::All).await;
            } else {
                for name in &gone {
                    engine.live().cut(Cut::Server(name)).await;
                }
            }
            Ok(api::Reloaded {
                policy_version: setup.policies.version().to_owned(),
                policies: setup.policies.len(),
                templates: setup.templates.len(),
                servers: setup.servers.len(),
                cut: new_policies || !gone.is_empty(),
            })
        })
        .await
    }

    /// Makes a setup live. Servers that were disabled by hand stay disabled.
    pub(super) fn publish_setup(&self, setup: &Setup) {
        let templates = Arc::new(setup.templates.clone());
        self.live().change_world(|world| {
            let facts = server_facts(&setup.servers, |name| {
                world.server(name).is_none_or(|facts| facts.enabled)
            });
            world
                .with_policies(Arc::clone(&setup.policies))
                .with_templates(Arc::clone(&templates))
                .with_servers(facts)
        });
        self.servers.store(Arc::new(setup.servers.clone()));
    }

    /// Switches a server off: nothing is forwarded to it when this returns, and what was streaming
    /// is cut.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such server.
    pub async fn disable_server(
        self: &Arc<Self>,
        actor: Actor,
        name: ServerName,
    ) -> Result<Restricted<ServerName>, EngineError> {
        let engine = Arc::clone(self);
        to_the_end(async move {
            if engine.live().world().server(&name).is_none() {
                return Err(EngineError::not_found("server", &name));
            }
            engine.publish_disabled(&name).await;
            let _alone = engine.changes.write().await;
            engine.publish_disabled(&name).await;
            let record = Record::change(
                Timestamp::now(),
                actor.to_string(),
                "server.disabled",
                name.as_str(),
            );
            let restriction = Restriction::Server(name.clone());
            let (warnings, _) = engine.write_restriction(restriction, &record).await;
            Ok(Restricted {
                now: name,
                warnings,
            })
        })
        .await
    }

    async fn publish_disabled(&self, name: &ServerName) {
        self.live()
            .change_world(|world| world.with_server_enabled(name, false));
        self.live().cut(Cut::Server(name)).await;
    }

    /// Switches a server on again.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such server, or the log or the store cannot be written.
    pub async fn enable_server(
        self: &Arc<Self>,
        actor: Actor,
        name: ServerName,
    ) -> Result<ServerName, EngineError> {
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _alone = engine.changes.write().await;
            engine.may_give()?;
            let enabled = engine
                .live()
                .world()
                .server(&name)
                .map(|facts| facts.enabled);
            match enabled {
                None => return Err(EngineError::not_found("server", &name)),
                Some(true) => return Ok(name),
                Some(false) => {}
            }
            let record = Record::change(
                Timestamp::now(),
                actor.to_string(),
                "server.enabled",
                name.as_str(),
            );
            engine.record(record).await?;
            engine.store.set_server_enabled(&name, true, None).await?;
            engine
                .live()
                .change_world(|world| world.with_server_enabled(&name, true));
            Ok(name)
        })
        .await
    }

    /// Makes a new signing key for tokens; tokens signed with the one before stay good until they
    /// expire. Returns the new key's id.
    ///
    /// # Errors
    /// [`EngineError`] when the log is not healthy or the key cannot be written.
    pub async fn rotate_keys(self: &Arc<Self>, actor: Actor) -> Result<String, EngineError> {
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _alone = engine.changes.write().await;
            let now = Timestamp::now();
            engine.live().audit().health()?;
            let kid = engine
                .keys
                .rotate(now)
                .map_err(|error| EngineError::Keys(error.to_string()))?;
            engine.record_or_owe(&rotated(&actor, now, &kid)).await;
            Ok(kid)
        })
        .await
    }
}

pub(super) fn rotated(actor: &Actor, now: Timestamp, kid: &str) -> Record {
    Record::change(now, actor.to_string(), "keys.rotated", kid)
}

/// The facts about servers that decisions look at.
pub(super) fn server_facts(
    servers: &BTreeMap<ServerName, Server>,
    enabled: impl Fn(&ServerName) -> bool,
) -> BTreeMap<ServerName, ServerFacts> {
    servers
        .iter()
        .map(|(name, server)| {
            let facts = ServerFacts {
                segment: server.segment.clone(),
                enabled: enabled(name),
            };
            (name.clone(), facts)
        })
        .collect()
}

/// The record of a setup that is taken into use, at the start or later.
pub(super) fn loaded(actor: &Actor, change: &str, subject: &str, setup: &Setup) -> Record {
    let names = |names: Vec<&str>| {
        names
            .into_iter()
            .map(serde_json::Value::from)
            .collect::<Vec<_>>()
    };
    Record::change(Timestamp::now(), actor.to_string(), change, subject)
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("policy_version", setup.policies.version())
        .with("policies", setup.policies.len())
        .with(
            "templates",
            names(setup.templates.keys().map(|name| name.as_str()).collect()),
        )
        .with(
            "servers",
            names(setup.servers.keys().map(|name| name.as_str()).collect()),
        )
}
