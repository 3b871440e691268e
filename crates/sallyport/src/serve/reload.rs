//! Taking over what was changed in the files, as a whole or not at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use control::api::Reloaded;
use control::{Actor, Engine, ReloadError, Responder, Signals, Teller};
use gateway::front::Settings;
use jiff::Timestamp;
use model::config::{Config, Proxy};
use model::record::Record;
use tokio::sync::Mutex;

use super::databases::Databases;
use super::doors::{self, Doors};
use super::tls::Renewable;
use super::{Bound, engine_setup, inspection_rules};
use crate::failure::Failure;
use crate::setup::{self, Read, Setup, Severity};

/// Most mistakes that are put into one record.
const RECORDED: usize = 20;

/// Reads the files anew and takes them into use.
pub(super) struct Reload {
    file: PathBuf,
    engine: Arc<Engine>,
    doors: Doors,
    settings: Arc<ArcSwap<Settings>>,
    databases: Arc<Databases>,
    responder: Arc<Responder>,
    signals: Arc<Signals>,
    /// One reload at a time.
    state: Mutex<State>,
}

/// What is told of a reload.
pub(super) struct Uses {
    pub(super) engine: Arc<Engine>,
    pub(super) doors: Doors,
    pub(super) settings: Arc<ArcSwap<Settings>>,
    pub(super) databases: Arc<Databases>,
    pub(super) responder: Arc<Responder>,
    pub(super) signals: Arc<Signals>,
}

struct State {
    /// What is in use.
    config: Config,
    /// The configuration as it was at the start: addresses and the like stay as they were then.
    started: Config,
    /// The files as they were read last, good or not.
    texts: BTreeMap<PathBuf, String>,
    /// Those of the listeners that there are.
    certificates: Vec<Renewable>,
}

impl Reload {
    /// Begins with what is in use.
    pub(super) fn new(
        setup: Setup,
        texts: BTreeMap<PathBuf, String>,
        started: Config,
        uses: Uses,
        certificates: Vec<Renewable>,
    ) -> Self {
        let Uses {
            engine,
            doors,
            settings,
            databases,
            responder,
            signals,
        } = uses;
        let state = State {
            config: setup.config,
            started,
            texts,
            certificates,
        };
        Self {
            file: setup.file,
            engine,
            doors,
            settings,
            databases,
            responder,
            signals,
            state: Mutex::new(state),
        }
    }

    /// The configuration file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Reads the files and takes them into use. A mistake changes nothing; it is logged, recorded
    /// and shown in the status until a later reload succeeds.
    ///
    /// # Errors
    /// [`ReloadError`] with every mistake.
    pub(super) async fn now(&self, actor: Actor) -> Result<Reloaded, ReloadError> {
        let mut state = self.state.lock().await;
        let read = self.read().await?;
        self.take(&mut state, read, actor).await
    }

    /// The same, unless the files say what they said before. What came of it is in the log.
    pub(super) async fn if_changed(&self) {
        let mut state = self.state.lock().await;
        match self.read().await {
            Ok(read) if read.texts != state.texts => {
                let _ = self.take(&mut state, read, Actor::Sallyport).await;
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the changed files were not read"),
        }
    }

    async fn read(&self) -> Result<Read, ReloadError> {
        let file = self.file.clone();
        tokio::task::spawn_blocking(move || setup::read(&file))
            .await
            .map_err(|error| ReloadError::Failed(error.to_string()))
    }

    async fn take(
        &self,
        state: &mut State,
        read: Read,
        actor: Actor,
    ) -> Result<Reloaded, ReloadError> {
        let taken = match read.setup.clone() {
            Some(setup) => self.publish(state, setup, actor.clone()).await,
            None => Err(ReloadError::Mistakes(mistakes(&read))),
        };
        state.texts = read.texts;
        match &taken {
            Ok(reloaded) => {
                self.engine.set_setup_problem(None);
                tracing::info!(
                    policy_version = reloaded.policy_version,
                    servers = reloaded.servers,
                    templates = reloaded.templates,
                    policies = reloaded.policies,
                    "the changed files are in use"
                );
            }
            Err(error) => self.refused(&actor, error).await,
        }
        taken
    }

    /// Takes a setup into use. Servers come first: of all parts only they can turn out not to work
    /// although they were checked, since their secrets are read.
    async fn publish(
        &self,
        state: &mut State,
        mut setup: Setup,
        actor: Actor,
    ) -> Result<Reloaded, ReloadError> {
        if !self.databases.is_open() {
            // Nothing was started with it yet.
            state.started.postgres = setup.config.postgres.clone();
        }
        for what in keep_what_is_fixed(&mut setup.config, &state.started) {
            tracing::warn!("`{what}` was changed; that takes effect at the next start");
        }
        let failed = |failure: Failure| ReloadError::Failed(failure.to_string());
        for (files, certificate) in &state.certificates {
            certificate.renew(files).map_err(failed)?;
        }
        let mut listener = setup.config.postgres.clone();
        let bound = match postgres::Endpoint::is_wanted(&setup.config) {
            true if !self.databases.is_open() => Some(
                Bound::new("postgres", &mut listener)
                    .await
                    .map_err(failed)?,
            ),
            _ => None,
        };
        // Its secrets are read too, so it can turn out not to work as servers can.
        let teller = Teller::new(&setup.config.response)
            .map_err(|error| ReloadError::Failed(error.to_string()))?;
        let config = &setup.config;
        let signals = Signals::prepare(&config.signals, &config.servers, &config.limits)
            .map_err(|error| ReloadError::Failed(error.to_string()))?;
        doors::reload(&self.doors, &setup.config).map_err(ReloadError::Mistakes)?;
        match self.engine.reload(actor, engine_setup(&setup)).await {
            Ok(reloaded) => {
                let rules = inspection_rules(&setup);
                self.engine.pipeline().inspection().set_rules(rules);
                self.engine.live().set_annotated(setup.annotations);
                let response = setup.config.response.clone();
                self.responder.configure(response, setup.playbooks, teller);
                self.signals.configure(signals);
                self.engine
                    .live()
                    .approvals()
                    .configure(setup.config.approvals.clone());
                self.engine.pipeline().contents().configure(&setup.config);
                self.engine.pipeline().set_rates(&setup.config.limits);
                let demanded = setup.config.proofs.demand_nonces();
                self.engine.pipeline().nonces().set(demanded);
                let mut settings = Settings::of(&setup.config);
                settings.base_url = self.engine.settings().gateway_url.clone();
                settings.issuer = self.engine.settings().control_url.clone();
                self.settings.store(Arc::new(settings));
                if let Some(bound) = bound {
                    state
                        .certificates
                        .extend(bound.renewable(listener.tls.as_ref()));
                    let served = self.databases.serve(bound, &listener, &setup.config);
                    served.map_err(failed)?;
                }
                state.config = setup.config;
                Ok(reloaded)
            }
            Err(error) => {
                // Back to what was in use; it was in use a moment ago, so this can hardly fail.
                if let Err(errors) = doors::reload(&self.doors, &state.config) {
                    for error in errors {
                        tracing::error!(%error, "a server of the earlier setup cannot be used any more");
                    }
                }
                Err(ReloadError::Failed(error.to_string()))
            }
        }
    }

    /// Says that a change was not taken over: in the log of the process, in the status, and in the
    /// audit log.
    async fn refused(&self, actor: &Actor, error: &ReloadError) {
        let all = match error {
            ReloadError::Mistakes(all) => all.clone(),
            ReloadError::Failed(what) => vec![what.clone()],
        };
        for mistake in &all {
            tracing::error!("{mistake}");
        }
        tracing::error!("the changed files were not taken over; what was in use before goes on");
        self.engine.set_setup_problem(Some(format!(
            "the changed files were not taken over: {}",
            all.first().map_or("unknown", String::as_str)
        )));
        let shown: Vec<String> = all.iter().take(RECORDED).cloned().collect();
        let subject = self.engine.settings().trust_domain.to_string();
        let record = Record::change(
            Timestamp::now(),
            actor.to_string(),
            "setup.refused",
            subject,
        )
        .with("mistakes", all.len())
        .with("first", shown);
        if let Err(error) = self.engine.live().record(record).await {
            tracing::error!(%error, "the refused change was not recorded");
        }
    }
}

/// Keeps what cannot change while the process runs; returns what the file says otherwise.
fn keep_what_is_fixed(config: &mut Config, started: &Config) -> Vec<&'static str> {
    let mut kept = Vec::new();
    if config.trust_domain != started.trust_domain {
        kept.push("trust_domain");
        config.trust_domain = started.trust_domain.clone();
    }
    if config.data_dir != started.data_dir {
        kept.push("data_dir");
        config.data_dir = started.data_dir.clone();
    }
    if config.identity != started.identity {
        kept.push("identity");
        config.identity = started.identity.clone();
    }
    if config.limits.connections != started.limits.connections {
        kept.push("limits.connections");
        config.limits.connections = started.limits.connections;
    }
    for (name, new, old) in [
        ("control", &mut config.control, &started.control),
        ("gateway", &mut config.gateway, &started.gateway),
        ("postgres", &mut config.postgres, &started.postgres),
    ] {
        let origins = new.allowed_origins.clone();
        let mut same = old.clone();
        same.allowed_origins.clone_from(&origins);
        if *new != same {
            kept.push(name);
        }
        *new = same;
    }
    let (new, old) = (config.proxy.clone(), started.proxy.clone());
    let fixed = new.zip(old).map(|(new, old)| Proxy {
        listen: old.listen,
        public_url: old.public_url,
        tls: old.tls,
        ..new
    });
    // Whether there is one at all is fixed too.
    let same = fixed.or_else(|| started.proxy.clone());
    if config.proxy != same {
        kept.push("proxy");
    }
    config.proxy = same;
    kept
}

/// Every mistake in words, with its place.
fn mistakes(read: &Read) -> Vec<String> {
    read.remarks
        .iter()
        .filter(|remark| remark.severity == Severity::Mistake)
        .map(|remark| {
            let mistake = &remark.mistake;
            let line = read
                .texts
                .get(&mistake.file)
                .and_then(|text| mistake.line_in(text));
            match line {
                Some(line) => format!("{}:{line}: {}", mistake.file.display(), mistake.message),
                None => format!("{}: {}", mistake.file.display(), mistake.message),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(Path::new("sallyport.toml"), text).unwrap()
    }

    #[test]
    fn what_is_fixed_stays_and_is_named() {
        let started = config("trust_domain = \"a.example\"\n");
        let mut changed = config(
            "trust_domain = \"b.example\"\ndata_dir = \"elsewhere\"\n\
             [gateway]\nlisten = \"127.0.0.1:1\"\nallowed_origins = [\"https://x.example\"]\n\
             [limits]\nconnections = 1\nsessions = 7\n",
        );
        let kept = keep_what_is_fixed(&mut changed, &started);
        assert_eq!(
            kept,
            ["trust_domain", "data_dir", "limits.connections", "gateway"]
        );
        assert_eq!(changed.gateway.listen, started.gateway.listen);
        assert_eq!(changed.gateway.allowed_origins, ["https://x.example"]);
        assert_eq!(changed.limits.sessions, 7);
        assert!(changed.proxy.is_none());
        assert!(keep_what_is_fixed(&mut changed, &started).is_empty());
    }

    #[test]
    fn of_the_proxy_only_the_listener_is_fixed() {
        let head = "trust_domain = \"a.example\"\n";
        let started = config(&format!("{head}[proxy]\n"));
        let mut changed = config(&format!("{head}[proxy]\ninspect = true\n"));
        assert!(keep_what_is_fixed(&mut changed, &started).is_empty());
        assert!(changed.proxy.as_ref().unwrap().inspect);
        let mut moved = config(&format!("{head}[proxy]\nlisten = \"127.0.0.1:1\"\n"));
        assert_eq!(keep_what_is_fixed(&mut moved, &started), ["proxy"]);
        assert_eq!(moved.proxy, started.proxy);
        let mut gone = config(head);
        assert_eq!(keep_what_is_fixed(&mut gone, &started), ["proxy"]);
        assert_eq!(gone.proxy, started.proxy);
        let mut added = config(&format!("{head}[proxy]\n"));
        assert_eq!(keep_what_is_fixed(&mut added, &config(head)), ["proxy"]);
        assert!(added.proxy.is_none());
    }
}
