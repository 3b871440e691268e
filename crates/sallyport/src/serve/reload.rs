//! Taking over what was changed in the files, as a whole or not at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use control::api::Reloaded;
use control::{Actor, Engine, ReloadError};
use gateway::front::Settings;
use jiff::Timestamp;
use model::config::Config;
use model::record::Record;
use tokio::sync::Mutex;

use super::doors::{self, Doors};
use super::engine_setup;
use super::tls::Certificate;
use crate::setup::{self, Read, Setup, Severity};

/// Most mistakes that are put into one record.
const RECORDED: usize = 20;

/// Reads the files anew and takes them into use.
pub(super) struct Reload {
    file: PathBuf,
    engine: Arc<Engine>,
    doors: Doors,
    settings: Arc<ArcSwap<Settings>>,
    /// Of the control listener and of the gateway.
    certificates: [Option<Arc<Certificate>>; 2],
    /// One reload at a time.
    state: Mutex<State>,
}

struct State {
    /// What is in use.
    config: Config,
    /// The configuration as it was at the start: addresses and the like stay as they were then.
    started: Config,
    /// The files as they were read last, good or not.
    texts: BTreeMap<PathBuf, String>,
}

impl Reload {
    /// Begins with what is in use.
    pub(super) fn new(
        setup: Setup,
        texts: BTreeMap<PathBuf, String>,
        started: Config,
        engine: Arc<Engine>,
        doors: Doors,
        settings: Arc<ArcSwap<Settings>>,
        certificates: [Option<Arc<Certificate>>; 2],
    ) -> Self {
        let state = State {
            config: setup.config,
            started,
            texts,
        };
        Self {
            file: setup.file,
            engine,
            doors,
            settings,
            certificates,
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
        for what in keep_what_is_fixed(&mut setup.config, &state.started) {
            tracing::warn!("`{what}` was changed; that takes effect at the next start");
        }
        let listeners = [&state.started.control, &state.started.gateway];
        for (certificate, listener) in self.certificates.iter().zip(listeners) {
            if let (Some(certificate), Some(files)) = (certificate, &listener.tls) {
                certificate
                    .renew(files)
                    .map_err(|failure| ReloadError::Failed(failure.to_string()))?;
            }
        }
        doors::reload(&self.doors, &setup.config).map_err(ReloadError::Mistakes)?;
        match self.engine.reload(actor, engine_setup(&setup)).await {
            Ok(reloaded) => {
                self.engine.live().set_annotated(setup.annotations);
                let mut settings = Settings::of(&setup.config);
                settings.base_url = self.engine.settings().gateway_url.clone();
                settings.issuer = self.engine.settings().control_url.clone();
                self.settings.store(Arc::new(settings));
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
        if let Err(error) = self.engine.live().record(&record).await {
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
        assert!(keep_what_is_fixed(&mut changed, &started).is_empty());
    }
}
