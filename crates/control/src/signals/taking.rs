//! From what others say to what is done here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gateway::Body;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use identity::NotSigned;
use jiff::{SignedDuration, Timestamp};
use model::config::Reaction;
use model::record::Record;
use model::{AgentName, TaskId};
use response::signals::received::OLDEST;
use response::signals::subject::SubjectId;
use response::signals::{Event, EventKind, Level, Received, Unacceptable};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::delivery::read;
use super::{Signals, Transmitter};
use crate::engine::{Actor, EngineError};

/// Longest answer to a poll, in bytes.
const POLLED_BYTES: usize = 4 << 20;
/// How long one request to a transmitter may take; polls wait there for events.
const ANSWER: Duration = Duration::from_secs(60);
/// The least time between two polls, and the most after failures.
const POLL: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Most events of one answer to a poll.
const AT_ONCE: usize = 50;

/// Why a token is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTaken {
    #[error("{0}")]
    Signed(#[from] NotSigned),
    #[error("{0}")]
    Claims(#[from] Unacceptable),
    #[error("the keys of the transmitter cannot be fetched: {0}")]
    Keys(String),
    #[error("it cannot be kept; send it again later")]
    Kept,
}

impl NotTaken {
    /// The code of the error (RFC 8935 §2.4).
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Signed(NotSigned::Malformed) => "invalid_request",
            Self::Signed(NotSigned::UnknownKey | NotSigned::Signature) => "invalid_key",
            Self::Claims(why) => why.code(),
            Self::Keys(_) | Self::Kept => "unavailable",
        }
    }

    /// Whether the same token may be taken later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Keys(_) | Self::Kept)
    }
}

impl From<EngineError> for NotTaken {
    fn from(error: EngineError) -> Self {
        tracing::error!(%error, "a signal could not be acted on");
        Self::Kept
    }
}

impl From<store::StoreError> for NotTaken {
    fn from(error: store::StoreError) -> Self {
        tracing::error!(%error, "a signal could not be kept");
        Self::Kept
    }
}

/// Whom an event is about, of those that are known here.
#[derive(Default)]
struct Meant {
    agents: Vec<AgentName>,
    /// One task of theirs only.
    task: Option<TaskId>,
}

impl Signals {
    /// The transmitter of a name, if that is its token.
    pub(super) fn transmitter(&self, name: &str, shown: &str) -> Option<Arc<Transmitter>> {
        let peers = self.peers.load();
        let transmitter = peers.transmitters.get(name)?;
        let token = transmitter.token.as_ref()?;
        identity::secret::matches(shown, token).then(|| Arc::clone(transmitter))
    }

    /// Takes a token: acts on it, once.
    ///
    /// # Errors
    /// [`NotTaken`]; then nothing was done, or it may be done again.
    pub(super) async fn take(&self, from: &Transmitter, text: &str) -> Result<(), NotTaken> {
        let claims = from.keys.claims(text).await?;
        let now = Timestamp::now();
        let config = &from.config;
        let received = Received::read(&claims, &config.issuer, &config.audience, now)?;
        if self
            .store()
            .was_signal_taken(&from.name, &received.jti)
            .await?
        {
            return Ok(());
        }
        for event in &received.events {
            self.act(from, &received.jti, event).await?;
        }
        let oldest = now - SignedDuration::from_secs(OLDEST + 3_600);
        let taken = self
            .store()
            .signal_taken(&from.name, &received.jti, now, oldest);
        Ok(taken.await?)
    }

    async fn act(&self, from: &Transmitter, jti: &str, event: &Event) -> Result<(), NotTaken> {
        let config = &from.config;
        let reaction = match &event.kind {
            EventKind::SessionRevoked => config.session_revoked,
            EventKind::CredentialChange(change)
                if matches!(change.change_type.as_str(), "revoke" | "delete") =>
            {
                config.credential_change
            }
            EventKind::RiskLevelChange {
                current: Level::High,
                ..
            } => config.risk_level_change,
            EventKind::CredentialChange(_)
            | EventKind::RiskLevelChange { .. }
            | EventKind::Verification { .. }
            | EventKind::StreamUpdated { .. } => Reaction::Note,
        };
        let meant = self.meant(event).await?;
        let agents: Vec<&str> = meant.agents.iter().map(AgentName::as_str).collect();
        let kind = event.kind.uri();
        let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
        let actor = format!("transmitter:{}", from.name);
        let record = Record::change(Timestamp::now(), actor, "signals.received", jti)
            .with("event", kind.as_str())
            .with("subject", event.subject.to_json())
            .with("reason", event.reason.as_str())
            .with("agents", json!(agents))
            .with("task", meant.task.map(|task| task.to_string()))
            .with("reaction", reaction.as_str());
        self.engine.record(record).await?;
        let because = Some(format!("{} told {kind}", from.name));
        match reaction {
            Reaction::Note => {}
            Reaction::Quarantine => {
                for agent in meant.agents {
                    let done =
                        self.engine
                            .quarantine_agent(Actor::Sallyport, agent, because.clone());
                    ignore_ended(done.await)?;
                }
            }
            Reaction::EndTasks => {
                for task in self.open_tasks(&meant) {
                    let done = self
                        .engine
                        .revoke_task(Actor::Sallyport, task, because.clone());
                    ignore_ended(done.await)?;
                }
            }
        }
        Ok(())
    }

    /// The agents that an event names, or whose sponsor it names.
    async fn meant(&self, event: &Event) -> Result<Meant, NotTaken> {
        let domain = self.engine.settings().trust_domain.as_str();
        let mut meant = Meant::default();
        let known = self.store().agents().await?;
        let mut named = false;
        if let Some(user) = event.subject.user() {
            named = true;
            let by_id = user.agent(domain);
            let sponsor = match user {
                SubjectId::Email(email) => Some(email.as_str()),
                // Many issuers use the address as the name of their subject.
                SubjectId::IssuerSubject { sub, .. } => Some(sub.as_str()),
                _ => None,
            };
            let is_meant = |agent: &model::Agent| {
                by_id.as_ref() == Some(&agent.name)
                    || sponsor.is_some_and(|email| agent.sponsor.eq_ignore_ascii_case(email))
            };
            let all = known.into_iter().filter(is_meant);
            meant.agents = all.map(|agent| agent.name).collect();
        }
        if let Some(SubjectId::Opaque(session)) = event.subject.session()
            && let Ok(id) = TaskId::parse(session)
            && let Some(task) = self.engine.live().task(&id)
        {
            let agent = task.task().agent.clone();
            if !named || meant.agents.contains(&agent) {
                meant.agents = vec![agent];
                meant.task = Some(id);
            }
        }
        Ok(meant)
    }

    fn open_tasks(&self, meant: &Meant) -> Vec<TaskId> {
        if let Some(task) = meant.task {
            return vec![task];
        }
        let tasks = self.engine.live().tasks().into_iter();
        tasks
            .filter(|task| task.ending().is_none() && meant.agents.contains(&task.task().agent))
            .map(|task| task.task().id)
            .collect()
    }

    /// Asks the transmitters that are polled, until `stop` is cancelled.
    pub(super) async fn poll_transmitters(self: &Arc<Self>, stop: CancellationToken) {
        let mut polling: BTreeMap<String, (Arc<Transmitter>, CancellationToken)> = BTreeMap::new();
        let mut news = self.news.subscribe();
        loop {
            let peers = self.peers.load_full();
            polling.retain(|name, (transmitter, stop)| {
                let same = peers
                    .transmitters
                    .get(name)
                    .is_some_and(|now| Arc::ptr_eq(now, transmitter));
                if !same {
                    stop.cancel();
                }
                same
            });
            for (name, transmitter) in &peers.transmitters {
                if transmitter.config.poll.is_some() && !polling.contains_key(name) {
                    let stop = stop.child_token();
                    polling.insert(name.clone(), (Arc::clone(transmitter), stop.clone()));
                    let (signals, transmitter) = (Arc::clone(self), Arc::clone(transmitter));
                    tokio::spawn(async move {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = signals.poll(&transmitter) => {}
                        }
                    });
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = news.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Asks a transmitter for events again and again (RFC 8936).
    async fn poll(&self, from: &Transmitter) {
        let mut acknowledged = Acknowledged::default();
        let mut wait = POLL;
        loop {
            match poll_once(from, &acknowledged).await {
                Ok(sets) => {
                    acknowledged = Acknowledged::default();
                    wait = POLL;
                    for (jti, text) in sets.into_iter().take(AT_ONCE) {
                        match self.take(from, &text).await {
                            Ok(()) => acknowledged.ack.push(jti),
                            Err(problem) if problem.may_pass() => {
                                tracing::warn!(transmitter = from.name, %problem, "a signal is asked for again");
                            }
                            Err(problem) => {
                                tracing::error!(transmitter = from.name, %problem, "a signal was refused");
                                let told = json!({ "err": problem.code(), "description": problem.to_string() });
                                acknowledged.errors.insert(jti, told);
                            }
                        }
                    }
                }
                Err(why) => {
                    tracing::warn!(transmitter = from.name, %why, ?wait, "signals could not be polled");
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
            tokio::time::sleep(wait).await;
        }
    }
}

/// What becomes of something that has ended meanwhile is no failure.
fn ignore_ended<T>(done: Result<T, EngineError>) -> Result<(), EngineError> {
    match done {
        Ok(_) | Err(EngineError::NotFound { .. } | EngineError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What the next poll tells of the events of the one before.
#[derive(Default)]
struct Acknowledged {
    ack: Vec<String>,
    errors: BTreeMap<String, Value>,
}

async fn poll_once(
    from: &Transmitter,
    acknowledged: &Acknowledged,
) -> Result<BTreeMap<String, String>, String> {
    #[derive(Deserialize)]
    struct Polled {
        #[serde(default)]
        sets: BTreeMap<String, String>,
    }
    let mut body = json!({
        "maxEvents": AT_ONCE, "returnImmediately": false, "ack": acknowledged.ack,
    });
    if !acknowledged.errors.is_empty() {
        body["setErrs"] = json!(acknowledged.errors);
    }
    let body = body.to_string();
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    let json = HeaderValue::from_static("application/json");
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, json.clone());
    headers.insert(ACCEPT, json);
    headers.insert(CONTENT_LENGTH, body.len().into());
    if let Some(tokens) = &from.tokens {
        headers.insert(AUTHORIZATION, tokens.header().await?);
    }
    let request: Request<Body> = request.map(|()| gateway::full(body));
    let path = from.config.poll.as_deref().unwrap_or_default();
    let web = from.web.as_ref();
    let web = web.ok_or_else(|| "no server says where to ask".to_owned())?;
    let polled = tokio::time::timeout(ANSWER, read(web, request, path, POLLED_BYTES)).await;
    let (status, body) = polled.map_err(|_| "no answer within a minute".to_owned())??;
    if status == StatusCode::UNAUTHORIZED
        && let Some(tokens) = &from.tokens
    {
        // It may have been taken back before its time.
        tokens.forget().await;
    }
    if status != StatusCode::OK {
        return Err(format!("it answered with {status}"));
    }
    let polled: Polled = serde_json::from_slice(&body)
        .map_err(|_| "its answer is not what RFC 8936 says".to_owned())?;
    Ok(polled.sets)
}
