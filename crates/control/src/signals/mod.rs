//! Signals to and from other security systems (OpenID Shared Signals Framework 1.0, CAEP 1.0).
//!
//! ```text
//!  audit log ──follower──▶ telling ──▶ store ──▶ delivery ──push──▶ receiver
//!  scores ────────────────▶            └───────▶ streams ◀──poll─── receiver
//!  transmitter ──push or poll──▶ taking ──▶ tasks revoked, agents quarantined, a record in any case
//! ```
//!
//! What is told is made from records, and is in the store before the log is taken as told: it is told at
//! least once, also after a crash. Who is told, where, and whose word is taken stands in the configuration.

mod delivery;
mod events;
mod keys;
mod known;
mod places;
pub(crate) mod streams;
mod taking;
mod telling;
mod tokens;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway::upstream::Web;
use identity::DocumentType;
use jiff::Timestamp;
use model::ServerName;
use model::config::{Limits, Server, SignalReceiver, SignalTransmitter, Signals as Configured};
use parking_lot::Mutex;
use response::signals::stream::Status;
use response::signals::{Event, Stream};
use serde_json::{Value, json};
use store::{Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::keys::Keys;
use self::places::Places;
use self::tokens::Tokens;
use crate::api;
use crate::engine::Engine;

/// Most events that wait for one receiver; the oldest are dropped, and that is said.
const WAITING: u32 = 10_000;

/// Signals of one process.
pub struct Signals {
    engine: Arc<Engine>,
    peers: ArcSwap<Peers>,
    /// The streams, by receiver.
    streams: Mutex<BTreeMap<String, Stream>>,
    /// One change of a stream at a time, so that what is kept and what holds are the same.
    changing: tokio::sync::Mutex<()>,
    /// When each stream was verified last.
    verified: Mutex<BTreeMap<String, Timestamp>>,
    /// Events that came from the log and are not in the store yet, with their records.
    heard: Mutex<VecDeque<(u64, Event)>>,
    /// Grows when events were put into the store.
    news: watch::Sender<u64>,
}

/// Everybody in the configuration, ready for use.
#[derive(Default)]
struct Peers {
    receivers: BTreeMap<String, Receiver>,
    transmitters: BTreeMap<String, Arc<Transmitter>>,
}

/// One who is told.
struct Receiver {
    config: SignalReceiver,
    /// The hash of the token that it shows.
    token: [u8; 32],
    /// Where events are pushed to, and the path there.
    push: Option<(Arc<Web>, String)>,
}

impl Receiver {
    /// The URL that events are pushed to.
    fn place(&self) -> Option<String> {
        let (web, path) = self.push.as_ref()?;
        Some(format!("{}{path}", web.base_url()))
    }
}

/// One whose word is taken.
struct Transmitter {
    name: String,
    config: SignalTransmitter,
    /// The hash of the token that it shows when it pushes.
    token: Option<[u8; 32]>,
    /// The server where it is asked for events.
    web: Option<Arc<Web>>,
    keys: Keys,
    /// How the gateway shows there who it is, if not by the server's own credential.
    tokens: Option<Tokens>,
}

impl Peers {
    fn of(
        config: &Configured,
        servers: &BTreeMap<ServerName, Server>,
        limits: &Limits,
    ) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        let web = |server: &ServerName| {
            let known = servers.get(server);
            let known = known.ok_or_else(|| format!("there is no server `{server}`"))?;
            Web::new(server, known, limits)
                .map(Arc::new)
                .map_err(|error| error.to_string())
        };
        let secret = |secret: &model::config::Secret| {
            let text = gateway::upstream::read_secret(secret)?;
            // Shorter ones could be guessed.
            match text.len() {
                0..16 => Err("it is shorter than 16 bytes".to_owned()),
                _ => std::str::from_utf8(&text)
                    .map(identity::secret::hash)
                    .map_err(|_| "it is not text".to_owned()),
            }
        };
        let mut peers = Self::default();
        for (name, receiver) in &config.receivers {
            let mut refuse = |why: String| {
                wrong.push(format!("signals.receivers.{name}: {why}"));
            };
            let token = secret(&receiver.token).map_err(|why| format!("its `token`: {why}"));
            let push = match (&receiver.server, &receiver.push) {
                (Some(server), Some(path)) => web(server).map(|web| Some((web, path.clone()))),
                (None, None) => Ok(None),
                _ => Err("`server` and `push` belong together".to_owned()),
            };
            match (token, push) {
                (Ok(token), Ok(push)) => {
                    let config = receiver.clone();
                    let made = Receiver {
                        config,
                        token,
                        push,
                    };
                    peers.receivers.insert(name.clone(), made);
                }
                (token, push) => {
                    token
                        .err()
                        .into_iter()
                        .chain(push.err())
                        .for_each(&mut refuse);
                }
            }
        }
        for (name, config) in &config.transmitters {
            let made = || -> Result<Transmitter, String> {
                let web = config.server.as_ref().map(web).transpose()?;
                let places = Arc::new(Places::of(config)?);
                let tokens = config.oauth.as_ref();
                Ok(Transmitter {
                    name: name.clone(),
                    token: config.token.as_ref().map(secret).transpose()?,
                    keys: Keys::of(config, web.as_ref(), &places)?,
                    tokens: tokens.map(|it| Tokens::of(it, &places)).transpose()?,
                    config: config.clone(),
                    web,
                })
            };
            match made() {
                Ok(made) => {
                    peers.transmitters.insert(name.clone(), Arc::new(made));
                }
                Err(why) => {
                    wrong.push(format!("signals.transmitters.{name}: {why}"));
                }
            }
        }
        if wrong.is_empty() {
            Ok(peers)
        } else {
            Err(wrong)
        }
    }
}

/// Why signals cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignalsError {
    /// The configuration names something that is not there, or that cannot be read.
    #[error("{}", .0.join("; "))]
    Configuration(Vec<String>),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a configuration of signals became, ready to be taken into use.
pub struct Prepared(Peers);

impl Signals {
    /// Goes on from what was kept. Nothing is told or taken until [`Signals::start`].
    ///
    /// # Errors
    /// [`SignalsError`]
    pub async fn open(
        engine: Arc<Engine>,
        config: &Configured,
        servers: &BTreeMap<ServerName, Server>,
        limits: &Limits,
    ) -> Result<Arc<Self>, SignalsError> {
        let peers = Peers::of(config, servers, limits).map_err(SignalsError::Configuration)?;
        let mut streams = BTreeMap::new();
        for (receiver, body) in engine.store().signal_streams().await? {
            match serde_json::from_str::<Stream>(&body) {
                Ok(stream) => {
                    streams.insert(receiver, stream);
                }
                Err(error) => {
                    tracing::error!(%receiver, %error, "a stream of signals cannot be read; make it anew");
                }
            }
        }
        Ok(Arc::new(Self {
            engine,
            peers: ArcSwap::from_pointee(peers),
            streams: Mutex::new(streams),
            changing: tokio::sync::Mutex::default(),
            verified: Mutex::default(),
            heard: Mutex::default(),
            news: watch::Sender::new(0),
        }))
    }

    /// Reads another configuration, to be taken into use with [`Signals::configure`].
    ///
    /// # Errors
    /// [`SignalsError::Configuration`]
    pub fn prepare(
        config: &Configured,
        servers: &BTreeMap<ServerName, Server>,
        limits: &Limits,
    ) -> Result<Prepared, SignalsError> {
        Peers::of(config, servers, limits)
            .map(Prepared)
            .map_err(SignalsError::Configuration)
    }

    /// Takes another configuration into use.
    pub fn configure(&self, prepared: Prepared) {
        self.peers.store(Arc::new(prepared.0));
        self.tell_news();
    }

    /// Begins to tell and to take, until `stop` is cancelled; the handle ends then.
    pub fn start(self: &Arc<Self>, stop: CancellationToken) -> tokio::task::JoinHandle<()> {
        let signals = Arc::clone(self);
        let hearing = Arc::downgrade(self);
        self.engine
            .watch()
            .on_change(Box::new(move |index, record| {
                if let Some(signals) = hearing.upgrade() {
                    signals.hear(index, record);
                }
            }));
        // What is recorded from here on is heard, since it is followed later; what was before is read.
        let from = self.engine.live().audit().size();
        tokio::spawn(async move {
            tokio::join!(
                signals.tell(from, stop.clone()),
                signals.deliver(stop.clone()),
                signals.poll_transmitters(stop),
            );
        })
    }

    fn store(&self) -> &Store {
        self.engine.store()
    }

    fn issuer(&self) -> &str {
        &self.engine.settings().control_url
    }

    fn tell_news(&self) {
        self.news
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The stream of a receiver, if events are put into it now.
    fn open_stream(&self, receiver: &str) -> Option<Stream> {
        let streams = self.streams.lock();
        let stream = streams.get(receiver)?;
        (stream.status != Status::Disabled).then(|| stream.clone())
    }

    /// The claims of the token that tells an event to a receiver (RFC 8417 §2.2, SSF 1.0 §4).
    fn claims(&self, receiver: &Receiver, event: &Event, jti: &str) -> Value {
        json!({
            "iss": self.issuer(),
            "aud": receiver.config.audience,
            "iat": Timestamp::now().as_second(),
            "jti": jti,
            "sub_id": event.subject.to_json(),
            "events": event.to_json(),
        })
    }

    /// Signs the claims of a token.
    fn sign(&self, claims: &str) -> Option<String> {
        let signed = self
            .engine
            .keys()
            .sign_compact(DocumentType::SecurityEvent, claims.as_bytes());
        signed
            .inspect_err(|error| tracing::error!(%error, "a signal could not be signed"))
            .ok()
    }

    /// Who is told, and whose word is taken.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn peers(&self) -> Result<api::SignalPeers, StoreError> {
        let peers = self.peers.load_full();
        let mut receivers = Vec::new();
        for (name, receiver) in &peers.receivers {
            let stream = self.streams.lock().get(name).cloned();
            receivers.push(api::SignalReceiver {
                name: name.clone(),
                audience: receiver.config.audience.clone(),
                stream: stream.map(|stream| api::SignalStream {
                    id: stream.id,
                    delivery: stream.method.as_str().to_owned(),
                    status: stream.status.as_str().to_owned(),
                    description: stream.description,
                }),
                waiting: self.store().count_waiting_signals(name).await?,
            });
        }
        let transmitters = peers.transmitters.values().map(|transmitter| {
            let config = &transmitter.config;
            api::SignalTransmitter {
                name: transmitter.name.clone(),
                issuer: config.issuer.clone(),
                polled: config.poll.is_some(),
                pushes: config.token.is_some(),
                session_revoked: config.session_revoked.as_str().to_owned(),
                credential_change: config.credential_change.as_str().to_owned(),
                risk_level_change: config.risk_level_change.as_str().to_owned(),
            }
        });
        Ok(api::SignalPeers {
            receivers,
            transmitters: transmitters.collect(),
        })
    }
}

/// An identifier that nobody can guess.
fn unique() -> String {
    gateway::hex(&crate::engine::random::<16>())
}
