//! Both directions of a session, in one task: what either side sends is taken as it comes, and nothing
//! waits for one side while the other could go on.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use gateway::caller::Caller;
use gateway::pipeline::Dispatch;
use gateway::resource::Route;
use model::Spent;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

use super::entry::Admitted;
use super::expected::{Expected, Running};
use super::named::{Names, Prepared};
use crate::door::Endpoint;
use crate::listen::Client;
use crate::role::Plan;
use crate::sql::{Analysed, Catalog, Flows};
use crate::upstream::Database;
use crate::wire::backend::{ErrorResponse, put};
use crate::wire::{self, WireError};

/// How much is read at once, in bytes, and how much room there is at least for it.
const CHUNK: usize = 32 << 10;
const LEAST_ROOM: usize = 4 << 10;
/// Most bytes, and most messages, that the database has got and not answered. They fit into the buffers of
/// the operating system, so that writing to it never waits for its answers to be read.
const IN_FLIGHT: usize = 32 << 10;
const UNANSWERED: usize = 128;
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long the database may take longer than it lets statements take.
const SLACK: Duration = Duration::from_secs(30);

/// Where a copy from the client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copying {
    /// There is none.
    No,
    /// The database was asked to begin one.
    Asked,
    /// The client sends data.
    In,
    /// The client has sent all.
    Done,
}

/// The end of a session.
pub(super) struct End {
    /// What the client is told.
    pub(super) told: Option<ErrorResponse>,
}

impl End {
    pub(super) fn told(sqlstate: &'static str, what: &str) -> Self {
        Self {
            told: Some(ErrorResponse::fatal(sqlstate, what)),
        }
    }

    pub(super) fn violation(error: &WireError) -> Self {
        let sqlstate = match error {
            WireError::TooLong(..) => "54000",
            _ => "08P01",
        };
        Self::told(sqlstate, &error.to_string())
    }

    fn silent() -> Self {
        Self { told: None }
    }
}

/// One session.
pub(super) struct Relay<'a> {
    pub(super) endpoint: &'a Arc<Endpoint>,
    pub(super) caller: Caller,
    pub(super) route: Route,
    pub(super) database: Arc<Database>,
    pub(super) catalog: Catalog,
    pub(super) plan: Plan,
    pub(super) names: Names,
    /// Statements that were understood before, by their shape.
    pub(super) analyses: HashMap<String, Arc<Analysed>>,
    /// What decides in them, where somebody asks.
    pub(super) flows: HashMap<String, Arc<Flows>>,
    pub(super) expected: VecDeque<Expected>,
    /// What was permitted when it was prepared, and not carried out yet.
    pub(super) unspent: Vec<(Arc<Prepared>, Running)>,
    /// Whether everything up to the next Sync is ignored.
    pub(super) skipping: bool,
    pub(super) copying: Copying,
    /// Whether a result was withheld, so that nothing passes until the database is ready again.
    pub(super) withholding: bool,
    /// Whether the client has said good bye.
    pub(super) ending: bool,
    pub(super) to_upstream: BytesMut,
    pub(super) to_client: BytesMut,
    pub(super) from_upstream: BytesMut,
    /// Bytes of a row that are still to be passed on.
    pub(super) passing: usize,
    pub(super) longest_row: usize,
    /// Bytes that the database has got since it last had answered everything.
    pub(super) in_flight: usize,
    /// Held until the database has what was permitted.
    pub(super) dispatches: Vec<Dispatch>,
    /// What was passed on and not taken from the budget yet.
    pub(super) unsettled: Spent,
    /// Whether each row is taken from the budget by itself.
    pub(super) counts_each: bool,
}

/// Serves a session to its end.
pub(super) async fn relay(endpoint: &Arc<Endpoint>, mut client: Client, admitted: Admitted) {
    let Admitted {
        caller,
        route,
        database,
        catalog,
        plan,
        role: _,
        ready,
        cancellable,
        _slot,
        _counted,
    } = admitted;
    let limits = endpoint.settings.load().limits.clone();
    let budget = caller.task.grant().budget();
    let counts_each = budget.rows.is_some() || budget.bytes.is_some();
    let mut upstream = ready.stream;
    let mut relay = Relay {
        endpoint,
        caller,
        route,
        database,
        catalog,
        plan,
        names: Names::default(),
        analyses: HashMap::new(),
        flows: HashMap::new(),
        expected: VecDeque::new(),
        unspent: Vec::new(),
        skipping: false,
        copying: Copying::No,
        withholding: false,
        ending: false,
        to_upstream: BytesMut::with_capacity(CHUNK),
        to_client: BytesMut::with_capacity(CHUNK),
        from_upstream: ready.buffer,
        passing: 0,
        longest_row: limits.response_bytes,
        in_flight: 0,
        dispatches: Vec::new(),
        unsettled: Spent::default(),
        counts_each,
    };
    let times = Times::new(&limits, &relay.database);
    let End { told } = relay
        .serve(&mut client, &mut upstream, &times, limits.request_bytes)
        .await;
    // Whatever was permitted and is not done is recorded as cut or cancelled.
    let busy = !relay.expected.is_empty();
    relay.dispatches.clear();
    if busy
        && let Some(target) = endpoint
            .cancels
            .find(cancellable.number, &cancellable.secret)
    {
        target.cancel().await;
    }
    let farewell = async {
        let mut bye = BytesMut::new();
        put(&mut bye, b'X', |_| {});
        let _ = upstream.write_all(&bye).await;
        let _ = upstream.shutdown().await;
        if let Some(told) = told {
            let _ = client.write_all(&told.to_bytes()).await;
        }
        let _ = client.shutdown().await;
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// How long what may take.
struct Times {
    ends: Instant,
    idle: Duration,
    request: Duration,
    answer: Duration,
}

impl Times {
    fn new(limits: &model::config::Limits, database: &Database) -> Self {
        let about = &database.server.postgres;
        Self {
            ends: Instant::now() + Duration::from_secs(about.session_seconds.min(1 << 30)),
            idle: Duration::from_secs(limits.session_idle_seconds.min(1 << 30)),
            request: Duration::from_secs(limits.request_seconds.min(1 << 30)),
            answer: Duration::from_secs(about.statement_seconds.min(1 << 30)) + SLACK,
        }
    }
}

impl Relay<'_> {
    async fn serve<C, U>(
        &mut self,
        client: &mut C,
        upstream: &mut U,
        times: &Times,
        longest: usize,
    ) -> End
    where
        C: AsyncRead + AsyncWrite + Unpin,
        U: AsyncRead + AsyncWrite + Unpin,
    {
        let cut = self.caller.signal();
        let cut = cut.cut();
        tokio::pin!(cut);
        let stopping = self.endpoint.stopping.clone();
        let stopping = stopping.cancelled();
        tokio::pin!(stopping);
        let mut from_client = BytesMut::with_capacity(CHUNK);
        let timer = tokio::time::sleep_until(times.ends);
        tokio::pin!(timer);
        loop {
            // What is already here goes first.
            let turn = async {
                self.take_all(&mut from_client, longest).await?;
                write(upstream, &mut self.to_upstream, times.request).await?;
                self.dispatches.clear();
                write(client, &mut self.to_client, times.request).await
            };
            let ended = tokio::select! {
                biased;
                () = &mut cut => Err(cut_off()),
                turned = turn => turned,
            };
            if let Err(end) = ended {
                return end;
            }
            if self.ending && self.expected.is_empty() {
                return End::silent();
            }
            let wants = !self.ending && self.may_take(from_client.len());
            let patience = match (self.expected.is_empty(), from_client.is_empty()) {
                (false, _) => times.answer,
                (true, false) => times.request,
                (true, true) => times.idle,
            };
            timer
                .as_mut()
                .reset(times.ends.min(Instant::now() + patience));
            make_room(&mut from_client);
            make_room(&mut self.from_upstream);
            let ended = tokio::select! {
                biased;
                () = &mut cut => Err(cut_off()),
                read = upstream.read_buf(&mut self.from_upstream) => match read {
                    Ok(0) | Err(_) => Err(End::told("08006", "the database closed the session")),
                    Ok(_) => self.answers(),
                },
                read = client.read_buf(&mut from_client), if wants => match read {
                    Ok(0) | Err(_) => Err(End::silent()),
                    Ok(_) => Ok(()),
                },
                () = &mut stopping => Err(End::told("57P01", "the gateway ends")),
                () = &mut timer => Err(End::told(
                    "57P05",
                    "the session took longer than it may, or nothing happened in it for too long",
                )),
            };
            if let Err(end) = ended {
                // What the database said before goes out before it.
                let _ = write(client, &mut self.to_client, FAREWELL).await;
                return end;
            }
        }
    }

    /// Takes all whole messages of the client that may be taken now.
    async fn take_all(&mut self, from_client: &mut BytesMut, longest: usize) -> Result<(), End> {
        while !self.ending {
            let next = wire::peek(from_client).map_err(|error| End::violation(&error))?;
            let length = next.map_or(0, |(_, length)| length);
            if length > longest {
                return Err(End::violation(&WireError::TooLong(length, longest)));
            }
            if !self.may_take(length) || self.follows_unseen(from_client) {
                self.press();
                return Ok(());
            }
            match wire::next(from_client, longest).map_err(|error| End::violation(&error))? {
                Some(message) => self.take(message).await?,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Whether a message of this length may be taken now.
    fn may_take(&self, length: usize) -> bool {
        match self.copying {
            Copying::In => true,
            // What comes next means something else when the copy fails.
            Copying::Asked | Copying::Done => false,
            Copying::No => {
                self.expected.is_empty()
                    || (self.expected.len() < UNANSWERED && self.in_flight + length <= IN_FLIGHT)
            }
        }
    }

    /// Has the database answer what it has, when the client sent more than can be on its way at once.
    fn press(&mut self) {
        let waits = !matches!(
            self.expected.back(),
            None | Some(Expected::Sync(_) | Expected::Query(_))
        );
        if waits && self.copying == Copying::No {
            put(&mut self.to_upstream, b'H', |_| {});
        }
    }
}

/// Makes room for the next read where little is left. Asking for all of it each time would have the buffer
/// made anew each time.
fn make_room(buffer: &mut BytesMut) {
    if buffer.capacity() - buffer.len() < LEAST_ROOM {
        buffer.reserve(CHUNK);
    }
}

fn cut_off() -> End {
    End {
        told: Some(
            ErrorResponse::fatal(
                "57P01",
                "the task, the agent or the server was ended while the session was open",
            )
            .hint("see the audit log for who ended it and why; open a new task if you may"),
        ),
    }
}

/// Writes all of a buffer, unless the other side does not take it in time.
async fn write<W>(to: &mut W, buffer: &mut BytesMut, patience: Duration) -> Result<(), End>
where
    W: AsyncWrite + Unpin,
{
    if buffer.is_empty() {
        return Ok(());
    }
    let writing = async {
        to.write_all(buffer).await?;
        to.flush().await
    };
    match tokio::time::timeout(patience, writing).await {
        Ok(Ok(())) => {
            buffer.clear();
            Ok(())
        }
        _ => Err(End::silent()),
    }
}
