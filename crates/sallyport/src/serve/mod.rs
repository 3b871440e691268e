//! The running process: everything below put together, and its orderly beginning and end.
//!
//! The order at the start: read and check what people wrote, lock the data directory, take the
//! addresses, open the log, the keys and the store, make live what was before, and only then
//! accept connections. At the end: stop accepting, let what is in flight finish, save what tasks
//! have used, end the servers' programs, and sign the last checkpoint.

mod answers;
mod asked;
mod data;
mod databases;
mod delegation;
mod doors;
mod logging;
mod notify;
mod reload;
mod summary;
mod tls;
mod watch;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use audit::AuditLog;
use control::{
    Actor, Control, ControlSettings, Engine, EngineParts, OperatorToken, Responder, Settings,
    Signals as SharedSignals, Teller,
};
use gateway::caller::Authenticator;
use gateway::front::{Front, Settings as FrontSettings};
use gateway::live::Live;
use gateway::metrics::Metrics;
use gateway::peer::Peers;
use gateway::pipeline::Pipeline;
use gateway::redaction::Redactor;
use gateway::refusals::Refusals;
use gateway::serve::Options;
use identity::svid::Authority;
use identity::{KeyRing, dpop};
use jiff::{SignedDuration, Timestamp};
use model::config::{Config, Listener, TlsFiles};
use store::Store;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use vault::{Journals, Vault};

pub(crate) use data::log_dir;
pub(crate) use doors::launcher;
pub(crate) use logging::LogFormat;

use crate::failure::Failure;
use crate::output;
use crate::report;
use crate::setup::{self, Read, Setup, Severity};
use data::DataDir;
use databases::Databases;
use doors::Doors;
use reload::{Reload, Uses};
use tls::{Certificate, Renewable};

/// Proofs of possession that are remembered against replay, at up to 40 bytes each: enough for 13,000
/// calls a second by one key.
const PROOFS: usize = 1 << 22;
/// How long an orderly end waits for what is in flight.
const GRACE: Duration = Duration::from_secs(20);
/// How long the start waits for the watch to follow what was recorded before.
const CATCH_UP: Duration = Duration::from_secs(3);
/// Threads for work that blocks: the disk, and reading the setup.
const BLOCKING_THREADS: usize = 32;

/// Serves until it is told to end.
///
/// # Errors
/// [`Failure`] when it cannot start, or did not end in order.
pub(crate) fn run(file: &Path, format: LogFormat, verbose: u8) -> Result<(), Failure> {
    let begun = Instant::now();
    logging::start(format, verbose)?;
    keep_memory_private()?;
    let read = setup::read(file);
    let Some(setup) = read.setup.clone() else {
        return Err(refused(file, &read));
    };
    for advice in &read.remarks {
        let mistake = &advice.mistake;
        tracing::warn!(file = %mistake.file.display(), "{}", mistake.message);
    }
    let data = DataDir::open(&setup.config.data_dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("sallyport")
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|error| Failure::new(format!("the process cannot be started: {error}")))?;
    let ended = runtime.block_on(async {
        let running = Running::start(setup, read, &data).await?;
        running.until_told(begun).await
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    ended
}

/// Keeps other processes of the same user from this one's memory, environment and open files, and its keys
/// out of core dumps.
fn keep_memory_private() -> Result<(), Failure> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| Failure::new(format!("the process cannot be made private: {error}")))
}

fn refused(file: &Path, read: &Read) -> Failure {
    for remark in read
        .remarks
        .iter()
        .filter(|remark| remark.severity == Severity::Mistake)
    {
        output::note(format_args!("{}\n", report::show(remark, &read.texts)));
    }
    let tally = report::tally(read.count(Severity::Mistake), 0);
    Failure::new(format!(
        "Sallyport does not start with {tally} in its setup"
    ))
    .hint(format!(
        "correct what is said above; `sallyport check --config {}` looks again",
        file.display()
    ))
}

/// Everything that runs.
struct Running {
    config: Config,
    audit: Arc<AuditLog>,
    vault: Arc<Vault>,
    ledgers: Arc<Journals>,
    store: Store,
    engine: Arc<Engine>,
    doors: Doors,
    front: Arc<Front>,
    control: Arc<Control>,
    reload: Arc<Reload>,
    responder: Arc<Responder>,
    shared_signals: Arc<SharedSignals>,
    listeners: [Bound; 2],
    peers: Arc<Peers>,
    databases: Arc<Databases>,
    database_listener: Option<Bound>,
    proxy: Option<(Arc<web::proxy::Proxy>, Bound)>,
    signals: Signals,
}

/// A listener that has its address.
struct Bound {
    listener: TcpListener,
    certificate: Option<Arc<Certificate>>,
}

impl Bound {
    async fn new(name: &str, listener: &mut Listener) -> Result<Self, Failure> {
        let certificate = listener.tls.as_ref().map(Certificate::read).transpose()?;
        let bound = TcpListener::bind(listener.listen).await.map_err(|error| {
            Failure::new(format!(
                "{name} cannot listen on {}: {error}",
                listener.listen
            ))
            .hint(format!(
                "see what uses the address, or change `listen` in `[{name}]`"
            ))
        })?;
        // Port 0 is whatever the operating system chose.
        if let Ok(address) = bound.local_addr() {
            listener.listen = SocketAddr::new(listener.listen.ip(), address.port());
        }
        Ok(Self {
            listener: bound,
            certificate,
        })
    }

    /// Its certificate, with the files that it is read from.
    fn renewable(&self, files: Option<&TlsFiles>) -> Option<Renewable> {
        Some((files?.clone(), Arc::clone(self.certificate.as_ref()?)))
    }

    fn options(&self, config: &Config, peers: &Arc<Peers>) -> Result<Options, Failure> {
        let certificate = self.certificate.as_ref();
        let tls = certificate.map(|certificate| certificate.server(peers));
        Ok(Options {
            connections: config.limits.connections,
            head: Duration::from_secs(config.limits.request_seconds),
            grace: GRACE,
            tls: tls.transpose()?,
        })
    }
}

struct Signals {
    end: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let on = |kind| {
            signal(kind).map_err(|error| Failure::new(format!("signals cannot be had: {error}")))
        };
        Ok(Self {
            end: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
        })
    }
}

impl Running {
    async fn start(setup: Setup, read: Read, data: &DataDir) -> Result<Self, Failure> {
        // First of all, so that none of them ends the process in the middle.
        let signals = Signals::new()?;
        let written = setup.config.clone();
        let mut config = setup.config.clone();
        let listeners = [
            Bound::new("control", &mut config.control).await?,
            Bound::new("gateway", &mut config.gateway).await?,
        ];
        let database_listener = match postgres::Endpoint::is_wanted(&config) {
            true => Some(Bound::new("postgres", &mut config.postgres).await?),
            false => None,
        };
        let proxy_listener = match &mut config.proxy {
            Some(proxy) => {
                let mut listener = proxy.listener();
                let bound = Bound::new("proxy", &mut listener).await?;
                proxy.listen = listener.listen;
                Some(bound)
            }
            None => None,
        };
        let audit = open_log(&config, data).await?;
        let keys = KeyRing::open(&data.keys(), Timestamp::now())
            .map_err(|error| Failure::new(format!("the signing keys cannot be used: {error}")))?;
        let keys = Arc::new(keys);
        let authority = open_authority(&config, data)?;
        let operator =
            OperatorToken::open(data.path()).map_err(|error| Failure::new(error.to_string()))?;
        let store = Store::open(data.path())
            .await
            .map_err(|error| Failure::new(error.to_string()))?;
        let world = policy::World::new(Arc::clone(&setup.policies));
        let live = Arc::new(Live::new(world, Arc::clone(&audit)));
        live.set_annotated(setup.annotations.clone());
        live.approvals().configure(config.approvals.clone());
        let authenticator = Authenticator::new(
            Arc::clone(&keys),
            config.control.base_url(),
            dpop::Proofs::new(PROOFS),
        );
        let redactor = Redactor::new(&config.redaction).map_err(|error| {
            Failure::new(format!("a redaction pattern cannot be used: {error}"))
        })?;
        let pipeline = Arc::new(Pipeline::new(
            live,
            authenticator,
            redactor,
            Arc::new(Metrics::default()),
        ));
        pipeline.set_rates(&config.limits);
        pipeline.nonces().set(config.proofs.demand_nonces());
        let vault = open_vault(&config, data).await?;
        let ledgers = open_ledgers(data).await?;
        pipeline.live().keep_ledgers_in(Arc::clone(&ledgers));
        pipeline.contents().keep_in(Arc::clone(&vault));
        pipeline.contents().configure(&config);
        pipeline.inspection().set_rules(inspection_rules(&setup));
        let settings = Arc::new(ArcSwap::from_pointee(FrontSettings::of(&config)));
        let doors::Built {
            doors,
            http,
            a2a,
            llm,
            databases: database_door,
            proxy,
        } = doors::all(&setup.file, &config, &pipeline, &settings, &keys)?;
        let refusals = Refusals::new(Arc::clone(pipeline.live()));
        let peers = Arc::new(Peers::new(Arc::clone(&authority), refusals));
        let databases = Arc::new(Databases::new(database_door, Arc::clone(&peers)));
        let front = Front::new(Arc::clone(&settings), http);
        let front = Arc::new(front.putting_off(Arc::clone(&pipeline)));
        let swept = doors.clone();
        let engine = Engine::start(EngineParts {
            store: store.clone(),
            pipeline,
            keys,
            authority,
            log_dir: data.log(),
            setup: engine_setup(&setup),
            settings: Settings {
                trust_domain: config.trust_domain.clone(),
                control_url: config.control.base_url(),
                gateway_url: config.gateway.base_url(),
                databases: databases.known(),
                certificates: config.control.tls.is_some() && config.gateway.tls.is_some(),
                proxy_url: config.proxy.as_ref().map(model::config::Proxy::base_url),
                confinement_lacks: crate::confined::Kernel::probe().lacks().map(str::to_owned),
                limits: control::Limits::default(),
            },
            sweep: Arc::new(move || swept.iter().for_each(|door| door.sweep())),
        })
        .await
        .map_err(|error| Failure::new(error.to_string()).hint(error.remedy()))?;
        a2a.delegate_with(delegation::through(&engine));
        let kept = asked::kept(&store)
            .await
            .map_err(|error| Failure::new(error.to_string()))?;
        a2a.remember(kept, asked::Asked::start(store.clone()));
        let kept = answers::kept(&store)
            .await
            .map_err(|error| Failure::new(error.to_string()))?;
        llm.remember(kept, answers::Answers::start(store.clone()));
        let teller = Teller::new(&config.response)
            .map_err(|error| Failure::new(error.to_string()).hint(error.remedy()))?;
        let responder = Responder::new(
            Arc::clone(&engine),
            config.response.clone(),
            setup.playbooks.clone(),
            teller,
            data.log(),
            data.evidence(),
        );
        let shared_signals = SharedSignals::open(
            Arc::clone(&engine),
            &config.signals,
            &config.servers,
            &config.limits,
        )
        .await
        .map_err(|error| Failure::new(error.to_string()))?;
        let reload = Arc::new(Reload::new(
            setup,
            read.texts,
            written,
            Uses {
                engine: Arc::clone(&engine),
                doors: doors.clone(),
                settings,
                databases: Arc::clone(&databases),
                responder: Arc::clone(&responder),
                signals: Arc::clone(&shared_signals),
            },
            certificates(
                &config,
                &listeners,
                database_listener.as_ref(),
                proxy_listener.as_ref(),
            ),
        ));
        let asked = Arc::clone(&reload);
        responder.reload_with(Arc::new(move || {
            let reload = Arc::clone(&asked);
            Box::pin(async move { reload.now(Actor::Sallyport).await })
        }));
        let asked = Arc::clone(&reload);
        let control = Arc::new(Control::new(
            Arc::clone(&engine),
            ControlSettings {
                operator,
                loopback: config.control.listen.ip().is_loopback(),
                reload: Some(Arc::new(move || {
                    let reload = Arc::clone(&asked);
                    Box::pin(async move { reload.now(Actor::Operator).await })
                })),
                responder: Some(Arc::clone(&responder)),
                signals: Some(Arc::clone(&shared_signals)),
            },
        ));
        Ok(Self {
            config,
            audit,
            vault,
            ledgers,
            store,
            engine,
            doors,
            front,
            control,
            reload,
            responder,
            shared_signals,
            listeners,
            peers,
            databases,
            database_listener,
            proxy: proxy.zip(proxy_listener),
            signals,
        })
    }

    /// Serves until a signal says to end, then ends in order.
    async fn until_told(self, begun: Instant) -> Result<(), Failure> {
        let Self {
            config,
            audit,
            vault,
            ledgers,
            store,
            engine,
            doors,
            front,
            control,
            reload,
            responder,
            shared_signals,
            listeners,
            peers,
            databases,
            database_listener,
            proxy,
            mut signals,
        } = self;
        // Agents that looked bad do so from the first request on.
        let stop_watch = CancellationToken::new();
        let watch = engine.watch().start(stop_watch.clone());
        if !engine.watch().caught_up(CATCH_UP).await {
            tracing::info!(
                records = engine.watch().lag(),
                "the log is still being followed; findings about what was recorded before come later"
            );
        }
        let stop = CancellationToken::new();
        let options = [
            listeners[0].options(&config, &peers)?,
            listeners[1].options(&config, &peers)?,
        ];
        let [control_listener, gateway_listener] = listeners.map(|bound| bound.listener);
        let [control_options, gateway_options] = options;
        let serving = tokio::spawn(gateway::serve::serve(
            gateway_listener,
            front,
            gateway_options,
            stop.clone(),
        ));
        if let Some(bound) = database_listener {
            databases.serve(bound, &config.postgres, &config)?;
        }
        if let Some((proxy, bound)) = proxy {
            let options = bound.options(&config, &peers)?;
            if let Ok(address) = bound.listener.local_addr() {
                tracing::info!(%address, "HTTP APIs are reached through the forward proxy too");
            }
            tokio::spawn(gateway::serve::serve(
                bound.listener,
                proxy,
                options,
                stop.clone(),
            ));
        }
        // The control listener ends last of the two: what is in flight may still be cut by hand.
        let stop_control = CancellationToken::new();
        let controlling = tokio::spawn(gateway::serve::serve(
            control_listener,
            Arc::clone(&control),
            control_options,
            stop_control.clone(),
        ));
        let stop_engine = CancellationToken::new();
        let housekeeping = tokio::spawn({
            let (engine, stop) = (Arc::clone(&engine), stop_engine.clone());
            async move { engine.run(stop).await }
        });
        let stop_responses = CancellationToken::new();
        let responses = responder.start(stop_responses.clone());
        let signalling = shared_signals.start(stop_responses.clone());
        let watching = tokio::spawn(watch_files(Arc::clone(&reload)));
        tracing::info!(
            control = config.control.base_url(),
            gateway = config.gateway.base_url(),
            millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "ready"
        );
        notify::tell(&format!("READY=1\nMAINPID={}\n", std::process::id()));
        summary::show(&engine.status().await, &config, reload.file());

        loop {
            tokio::select! {
                _ = signals.end.recv() => break,
                _ = signals.interrupt.recv() => break,
                _ = signals.hangup.recv() => {
                    // What went wrong is in the log already.
                    let _ = reload.now(Actor::Operator).await;
                }
            }
        }
        tracing::info!("ending; a second signal ends at once");
        notify::tell("STOPPING=1\n");
        watching.abort();
        let orderly = async {
            stop.cancel();
            let _ = serving.await;
            stop_control.cancel();
            let _ = controlling.await;
            stop_responses.cancel();
            let _ = responses.await;
            let _ = signalling.await;
            stop_engine.cancel();
            let _ = housekeeping.await;
            for door in doors.iter() {
                door.stop().await;
            }
            engine.pipeline().write_counts();
            control.write_counts();
            stop_watch.cancel();
            let _ = watch.await;
            // Records of results wait for it.
            vault.close().await;
            // An error is that it has panicked, and then nothing can be done.
            let _ = tokio::task::spawn_blocking(move || ledgers.close()).await;
            audit.close().await;
            store.close().await;
        };
        tokio::select! {
            () = orderly => {
                tracing::info!("ended");
                Ok(())
            }
            _ = signals.end.recv() => Err(Failure::new("ended at once, since a second signal came")),
            _ = signals.interrupt.recv() => Err(Failure::new("ended at once, since a second signal came")),
        }
    }
}

/// The certificates of listeners, with the files that they are read from.
fn certificates(
    config: &Config,
    listeners: &[Bound; 2],
    databases: Option<&Bound>,
    proxy: Option<&Bound>,
) -> Vec<Renewable> {
    let [control, gateway] = listeners;
    let all = [
        (&config.control.tls, Some(control)),
        (&config.gateway.tls, Some(gateway)),
        (&config.postgres.tls, databases),
    ];
    let proxy = config.proxy.iter().map(|about| (&about.tls, proxy));
    let renewable = all
        .into_iter()
        .chain(proxy)
        .filter_map(|(tls, bound)| bound?.renewable(tls.as_ref()));
    renewable.collect()
}

/// Takes over changed files until it is aborted.
async fn watch_files(reload: Arc<Reload>) {
    let mut watch = match watch::Watch::new(reload.file()) {
        Ok(watch) => watch,
        Err(error) => {
            tracing::warn!(%error, "changed files will not be noticed; use `sallyport reload`");
            return;
        }
    };
    loop {
        watch.changed().await;
        reload.if_changed().await;
    }
}

/// Opens the audit log; what had to be repaired is said.
async fn open_log(config: &Config, data: &DataDir) -> Result<Arc<AuditLog>, Failure> {
    let dir = data.log();
    // The name of the log in its checkpoints (C2SP tlog-checkpoint).
    let origin = format!("{}/sallyport", config.trust_domain);
    let options = audit::Options::new(origin, data.log_key());
    let opened = tokio::task::spawn_blocking(move || AuditLog::open(&dir, options)).await;
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("the audit log cannot be used: {error}"))
            .hint("`sallyport audit verify` looks closer; nothing is served without a log")
    };
    let (audit, recovery) = opened
        .map_err(|error| failed(&error))?
        .map_err(|error| failed(&error))?;
    if recovery.torn_bytes > 0 {
        tracing::warn!(
            torn_bytes = recovery.torn_bytes,
            "the last process ended while it wrote: the torn end of the audit log was dropped; \
             it held no record that anybody relied on"
        );
    }
    tracing::debug!(
        records = recovery.records,
        from_journal = recovery.from_journal,
        begun = recovery.begun,
        "the audit log is open"
    );
    Ok(audit)
}

/// Opens the certification authority of the trust domain.
fn open_authority(config: &Config, data: &DataDir) -> Result<Arc<Authority>, Failure> {
    let seconds = i64::try_from(config.identity.svid_seconds).unwrap_or(i64::MAX);
    let authority = Authority::open(
        &data.authority(),
        config.trust_domain.clone(),
        SignedDuration::from_secs(seconds),
        Timestamp::now(),
    );
    authority.map(Arc::new).map_err(|error| {
        Failure::new(format!(
            "the certification authority cannot be used: {error}"
        ))
        .hint("it is in the folder `authority` of the data directory")
    })
}

/// Opens the vault.
async fn open_vault(config: &Config, data: &DataDir) -> Result<Arc<Vault>, Failure> {
    let (dir, key) = (data.vault(), data.vault_key());
    let limits = gateway::content::limits(&config.vault);
    let opened = tokio::task::spawn_blocking(move || Vault::open(&dir, &key, limits)).await;
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("the vault cannot be used: {error}"))
            .hint("docs/vault.md says what is in it, and what depends on its key")
    };
    opened
        .map_err(|error| failed(&error))?
        .map_err(|error| failed(&error))
}

/// Opens what is kept of what tasks have read; behind the vault, which makes the key.
async fn open_ledgers(data: &DataDir) -> Result<Arc<Journals>, Failure> {
    let (dir, key) = (data.ledgers(), data.vault_key());
    let limits = vault::JournalLimits::default();
    let opened = tokio::task::spawn_blocking(move || Journals::open(&dir, &key, limits)).await;
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("the ledgers of tasks cannot be used: {error}")).hint(
            "with no process running, the folder `ledgers` may be removed: tasks are then asked about what \
             they have read",
        )
    };
    opened
        .map_err(|error| failed(&error))?
        .map_err(|error| failed(&error))
}

/// What is looked for in contents, and what is done about it.
fn inspection_rules(setup: &Setup) -> gateway::inspection::Rules {
    let templates = setup
        .templates
        .iter()
        .filter(|(_, template)| template.inspection != model::inspection::Inspection::default())
        .map(|(name, template)| (name.clone(), template.inspection.clone()))
        .collect();
    gateway::inspection::Rules::new(Arc::clone(&setup.scanner), &setup.config, templates)
}

/// What the engine takes from the setup.
fn engine_setup(setup: &Setup) -> control::Setup {
    control::Setup {
        policies: Arc::clone(&setup.policies),
        templates: setup.templates.clone(),
        servers: setup.config.servers.clone(),
        redaction: setup.config.redaction.clone(),
        monitor: setup.config.monitor.clone(),
    }
}
