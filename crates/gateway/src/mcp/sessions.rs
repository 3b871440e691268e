//! Sessions of the revisions before 2026-07-28 (2025-11-25 `basic/transports`, Session Management).
//!
//! The gateway gives out ids of its own and keeps to itself which session at the upstream each one
//! stands for. A session is of use only to the principal that began it, and only with a token that
//! is good at that moment: it is no authentication.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use model::ServerName;
use model::config::Limits;
use model::grant::ServerRequest;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::exchange::Call;
use super::message::Id;
use super::revision::{Method, Revision};
use crate::caller::Principal;
use crate::upstream::freshness::Compared;

/// Most requests of one server that wait for the agent's answer, in one session.
const ASKED_LIMIT: usize = 256;
/// Most requests of the agent whose method is kept for answers that come on another stream.
const SENT_LIMIT: usize = 512;
/// Most calls that wait for an answer on another stream.
const WAITING_LIMIT: usize = 64;
/// Most refusals at once that are on their way to the upstream.
const TELLING_LIMIT: usize = 16;

/// All sessions.
#[derive(Default)]
pub(super) struct Sessions {
    table: Mutex<HashMap<Box<str>, Arc<Session>>>,
}

/// One session.
pub(super) struct Session {
    /// The id that the client knows.
    pub(super) id: HeaderValue,
    /// Whose it is.
    pub(super) principal: Principal,
    /// Where it is.
    pub(super) server: ServerName,
    /// The id that the upstream knows; none when the upstream keeps no sessions.
    pub(super) upstream_id: Option<HeaderValue>,
    /// Up to when the tools that it lists were compared with the pins.
    pub(super) compared: Arc<Compared>,
    revision: OnceLock<Revision>,
    used: Mutex<Instant>,
    traffic: Mutex<Traffic>,
    gone: CancellationToken,
    /// Refusals that are on their way to the upstream.
    telling: Arc<Semaphore>,
}

/// What a server asked of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Whether it is still there.
    Ping,
    /// Something that was decided.
    Request(ServerRequest),
}

#[derive(Default)]
struct Traffic {
    asked: HashMap<Id, Asked>,
    sent: VecDeque<(Id, Method)>,
    waiting: Vec<Call>,
}

/// There are as many sessions as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMany {
    /// Of this task.
    #[error("this task has {0} sessions open, which is as many as it may: end one (DELETE) first")]
    OfTask(usize),
    /// Of everyone.
    #[error("the gateway has {0} sessions open, which is as many as it may")]
    InAll(usize),
}

impl Sessions {
    /// Whether one more may begin.
    ///
    /// # Errors
    /// [`TooMany`] names the limit.
    pub(super) fn check_room(&self, principal: Principal, limits: &Limits) -> Result<(), TooMany> {
        has_room(&self.table.lock(), principal, limits)
    }

    /// Begins a session.
    ///
    /// # Errors
    /// [`TooMany`] names the limit.
    pub(super) fn begin(
        &self,
        principal: Principal,
        server: &ServerName,
        upstream_id: Option<HeaderValue>,
        limits: &Limits,
    ) -> Result<Arc<Session>, TooMany> {
        let mut random = [0u8; 24];
        getrandom::fill(&mut random).expect("the operating system gives randomness");
        let id = URL_SAFE_NO_PAD.encode(random);
        let session = Arc::new(Session {
            id: HeaderValue::try_from(&id).expect("base64url is legal in headers"),
            principal,
            server: server.clone(),
            upstream_id,
            compared: Arc::default(),
            revision: OnceLock::new(),
            used: Mutex::new(Instant::now()),
            traffic: Mutex::default(),
            gone: CancellationToken::new(),
            telling: Arc::new(Semaphore::new(TELLING_LIMIT)),
        });
        let mut table = self.table.lock();
        has_room(&table, principal, limits)?;
        table.insert(id.into(), Arc::clone(&session));
        Ok(session)
    }

    /// The session of an id, if it is this principal's at this server.
    pub(super) fn find(
        &self,
        id: &str,
        principal: Principal,
        server: &ServerName,
    ) -> Option<Arc<Session>> {
        let session = self.table.lock().get(id).cloned()?;
        let theirs = session.principal == principal && session.server == *server;
        theirs.then(|| {
            session.touch();
            session
        })
    }

    /// Ends a session here, with its streams.
    pub(super) fn end(&self, session: &Session) {
        if let Ok(id) = session.id.to_str() {
            self.table.lock().remove(id);
        }
        session.gone.cancel();
    }

    /// Ends the sessions of principals that are gone, and those without traffic for `idle`.
    pub(super) fn sweep(&self, alive: impl Fn(&Principal) -> bool, idle: Duration) {
        self.table.lock().retain(|_, session| {
            let stays = alive(&session.principal) && session.used.lock().elapsed() < idle;
            if !stays {
                session.gone.cancel();
            }
            stays
        });
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.table.lock().len()
    }
}

fn has_room(
    table: &HashMap<Box<str>, Arc<Session>>,
    principal: Principal,
    limits: &Limits,
) -> Result<(), TooMany> {
    if table.len() >= limits.sessions {
        return Err(TooMany::InAll(limits.sessions));
    }
    let own = table
        .values()
        .filter(|s| s.principal.task == principal.task)
        .count();
    if own >= limits.sessions_per_task {
        return Err(TooMany::OfTask(limits.sessions_per_task));
    }
    Ok(())
}

impl Session {
    /// Notes that there was traffic.
    pub(super) fn touch(&self) {
        *self.used.lock() = Instant::now();
    }

    /// The revision that the handshake settled; none before its result came.
    pub(super) fn revision(&self) -> Option<Revision> {
        self.revision.get().copied()
    }

    /// Keeps what the handshake settled; what is settled stays.
    pub(super) fn settle(&self, revision: Revision) {
        self.revision.get_or_init(|| revision);
    }

    /// Cancelled when the session ends.
    pub(super) fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    /// Leave to tell the upstream of one more refusal; `None` when many are on their way already,
    /// since a server that asks without end must not be answered without end.
    pub(super) fn tell(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.telling).try_acquire_owned().ok()
    }

    /// A request of the server is on its way to the agent. False when too many wait already.
    pub(super) fn ask(&self, id: Id, asked: Asked) -> bool {
        let mut traffic = self.traffic.lock();
        if traffic.asked.len() >= ASKED_LIMIT && !traffic.asked.contains_key(&id) {
            return false;
        }
        traffic.asked.insert(id, asked);
        true
    }

    /// What the server asked with this id, if it did and was not answered yet.
    pub(super) fn asked(&self, id: &Id) -> Option<Asked> {
        self.traffic.lock().asked.get(id).copied()
    }

    /// The agent has answered.
    pub(super) fn answered(&self, id: &Id) {
        self.traffic.lock().asked.remove(id);
    }

    /// A request of the agent is on its way to the server.
    pub(super) fn sent(&self, id: Id, method: Method) {
        let mut traffic = self.traffic.lock();
        if traffic.sent.len() >= SENT_LIMIT {
            traffic.sent.pop_front();
        }
        traffic.sent.push_back((id, method));
    }

    /// The method of the latest request with this id: its answer may come, or come again, on a
    /// resumed stream.
    pub(super) fn method_of(&self, id: &Id) -> Option<Method> {
        let traffic = self.traffic.lock();
        traffic
            .sent
            .iter()
            .rev()
            .find(|(known, _)| known == id)
            .map(|(_, method)| *method)
    }

    /// Keeps calls whose stream was closed before their answer came: it may come when the client
    /// resumes the stream.
    pub(super) fn wait_for(&self, calls: Vec<Call>) {
        let mut traffic = self.traffic.lock();
        traffic.waiting.extend(calls);
        let over = traffic.waiting.len().saturating_sub(WAITING_LIMIT);
        traffic.waiting.drain(..over);
    }

    /// Takes the call that an answer is for, if it waits.
    pub(super) fn take_waiting(&self, id: &Id) -> Option<Call> {
        let mut traffic = self.traffic.lock();
        let position = traffic.waiting.iter().position(|call| call.id == *id)?;
        Some(traffic.waiting.swap_remove(position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use model::{InstanceId, TaskId};

    fn principal(n: u8) -> Principal {
        Principal {
            instance: InstanceId::new(Timestamp::UNIX_EPOCH, [n; 10]),
            task: TaskId::new(Timestamp::UNIX_EPOCH, [n; 10]),
        }
    }

    fn limits() -> Limits {
        Limits {
            sessions: 3,
            sessions_per_task: 2,
            ..Limits::default()
        }
    }

    #[test]
    fn a_session_is_of_use_only_to_whom_began_it() {
        let sessions = Sessions::default();
        let files = ServerName::parse("files").unwrap();
        let upstream_id = HeaderValue::from_static("upstream-secret");
        let session = sessions
            .begin(principal(1), &files, Some(upstream_id), &limits())
            .unwrap();
        let id = session.id.to_str().unwrap();
        assert!(id.len() >= 32 && !id.contains("upstream"));
        assert!(sessions.find(id, principal(1), &files).is_some());
        assert!(sessions.find(id, principal(2), &files).is_none());
        assert!(
            sessions
                .find(id, principal(1), &ServerName::parse("git").unwrap())
                .is_none()
        );
        assert!(
            sessions
                .find("upstream-secret", principal(1), &files)
                .is_none()
        );
        sessions.end(&session);
        assert!(sessions.find(id, principal(1), &files).is_none());
        assert!(session.gone().is_cancelled());
    }

    #[test]
    fn there_are_only_so_many() {
        let sessions = Sessions::default();
        let files = ServerName::parse("files").unwrap();
        let begin = |n| {
            sessions
                .begin(principal(n), &files, None, &limits())
                .map(|_| ())
        };
        assert_eq!(begin(1), Ok(()));
        assert_eq!(begin(1), Ok(()));
        assert_eq!(begin(1), Err(TooMany::OfTask(2)));
        assert_eq!(begin(2), Ok(()));
        assert_eq!(begin(3), Err(TooMany::InAll(3)));
        sessions.sweep(|p| *p == principal(2), Duration::from_secs(60));
        assert_eq!(sessions.len(), 1);
        sessions.sweep(|_| true, Duration::ZERO);
        assert_eq!(sessions.len(), 0);
    }

    #[test]
    fn memory_of_a_session_is_bounded() {
        let sessions = Sessions::default();
        let files = ServerName::parse("files").unwrap();
        let session = sessions
            .begin(principal(1), &files, None, &limits())
            .unwrap();
        for n in 0..2_000 {
            session.sent(Id::Number(n), Method::CallTool);
            session.ask(Id::Number(n), Asked::Ping);
        }
        assert_eq!(session.method_of(&Id::Number(0)), None);
        assert_eq!(
            session.method_of(&Id::Number(1_999)),
            Some(Method::CallTool)
        );
        assert_eq!(session.asked(&Id::Number(0)), Some(Asked::Ping));
        assert_eq!(session.asked(&Id::Number(1_999)), None);
        session.answered(&Id::Number(0));
        assert!(session.ask(Id::Number(1_999), Asked::Ping));
        session.sent(Id::Number(1_999), Method::ListTools);
        assert_eq!(
            session.method_of(&Id::Number(1_999)),
            Some(Method::ListTools)
        );
    }
}
