//! A tunnel that nobody looks into: one action, whose bytes count, and which ends at once when it must.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateway::caller::Caller;
use gateway::pipeline::{Digest, Dispatch};
use gateway::{Body, full, wait};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use model::record::Ended;
use model::{Action, Operation, Rule, Spent};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::hosts::Here;
use super::refusal::{Refusal, denied};
use super::target::Target;
use super::{Place, Proxy, Refused, hello};
use crate::Shared;
use crate::account::Account;

/// Bytes that are moved at once.
const PIECE: usize = 32 << 10;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

impl Proxy {
    /// Decides about a tunnel and opens it: both ends are there before the client is told.
    pub(super) async fn opaque(
        &self,
        caller: Caller,
        here: &Here,
        target: Target,
        mut request: Request<Incoming>,
        place: Place,
    ) -> Result<Response<Body>, Refused> {
        let endpoint = format!("CONNECT {target}");
        let site = here.granted(caller.task.task()).next();
        let Some(site) = site.filter(|_| !here.is_shared()) else {
            let reason = format!(
                "there is more than one server at `{target}`, and a tunnel that nobody looks into \
                 cannot be held to one of them"
            );
            let refusal = Refusal::new(
                http::StatusCode::FORBIDDEN,
                Rule::NotGranted,
                reason,
                "ask an operator to have tunnels there looked into with `inspect = true`",
            );
            return Err(self.refuse(&endpoint, Some(&caller), &refusal));
        };
        let operation = Operation::Connect {
            authority: target.to_string(),
        };
        let action = Action::new(site.api.web.name().clone(), "CONNECT", operation);
        let attempted = self.shared.pipeline.attempt(&caller, action).await;
        let mut permit = attempted.map_err(|refused| Box::new(denied(&refused)))?;
        // Held until the tunnel has ended: whoever ends the task waits for it.
        let dispatch = permit
            .dispatch()
            .map_err(|refused| Box::new(denied(&refused)))?;
        let signal = permit.signal();
        let account = Account::new(permit, Digest::new(&caller.task));
        let host = target.host().plain();
        let dialled = TcpStream::connect((host.as_str(), target.port()));
        let dialled = tokio::select! {
            biased;
            () = signal.cut() => {
                let cut = account.permit.cut_off();
                account.finish(Ended::Cut);
                return Err(Box::new(denied(&cut)));
            }
            dialled = tokio::time::timeout(CONNECT, dialled) => dialled,
        };
        let Ok(Ok(server)) = dialled else {
            account.finish(Ended::UpstreamFailed);
            let refusal = Refusal::unreachable("no connection to the server could be made");
            return Err(Box::new(refusal.response()));
        };
        let apis = self.shared.apis.load();
        let longest = Instant::now() + apis.hosts.longest;
        let tunnel = Tunnel {
            client: hyper::upgrade::on(&mut request),
            server,
            target,
            endpoint,
            first: Duration::from_secs(self.settings.load().limits.request_seconds),
            idle: apis.hosts.idle,
            until: longest.min(Instant::now() + wait(caller.task.task().expires_at)),
            caller,
            shared: Arc::clone(&self.shared),
            _dispatch: dispatch,
            _place: place,
        };
        let work = &self.shared.tunnels.work;
        work.spawn(tunnel.run(account));
        Ok(Response::new(full("")))
    }
}

struct Tunnel {
    client: OnUpgrade,
    server: TcpStream,
    target: Target,
    /// How records of refusals name it.
    endpoint: String,
    /// How long the client may take for its first message.
    first: Duration,
    idle: Duration,
    until: Instant,
    caller: Caller,
    shared: Arc<Shared>,
    _dispatch: Dispatch,
    _place: Place,
}

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Both sides were done.
    Done,
    Client,
    Server,
    /// The client did not begin with TLS for the host.
    NotForTheHost,
    Budget,
    Idle,
    Time,
    /// What it relied on was withdrawn, or the process ends.
    Withdrawn,
}

impl End {
    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "both sides",
            Self::Client => "client",
            Self::Server => "server",
            Self::NotForTheHost => "first message",
            Self::Budget => "budget",
            Self::Idle => "idle_seconds",
            Self::Time => "tunnel_seconds or the end of the task",
            Self::Withdrawn => "withdrawn",
        }
    }

    fn ended(self) -> Ended {
        match self {
            Self::Done => Ended::Answered,
            Self::Client => Ended::Cancelled,
            Self::Server => Ended::UpstreamFailed,
            Self::NotForTheHost => Ended::NotForwarded,
            Self::Budget | Self::Idle | Self::Time | Self::Withdrawn => Ended::Cut,
        }
    }
}

impl Tunnel {
    /// Joins both sides until one of them, or something else, ends it; records what became of it.
    async fn run(self, account: Account) {
        let signal = account.permit.signal();
        let flow = Flow {
            account: Mutex::new(account),
            moved: Mutex::new(Instant::now()),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        };
        let Self {
            client,
            mut server,
            target,
            endpoint,
            first,
            idle,
            until,
            caller,
            shared,
            _dispatch,
            _place,
        } = self;
        let passing = async {
            let Ok(client) = client.await else {
                return End::Client;
            };
            let mut client = TokioIo::new(client);
            let greeting = tokio::time::timeout(first, hello::read(&mut client)).await;
            let wrong = match greeting {
                Ok(Ok((bytes, named))) if hello::is_for(named.as_deref(), target.host()) => {
                    return flow.join(client, &mut server, &bytes, idle).await;
                }
                Ok(Ok(_)) => {
                    // It fails when the client is gone, who then needs no words.
                    let _ = client.write_all(&hello::UNRECOGNIZED_NAME).await;
                    let _ = client.shutdown().await;
                    format!(
                        "the tunnel was opened for `{target}`, but TLS in it names another host"
                    )
                }
                Ok(Err(hello::NoHello::Gone)) => return End::Client,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "nothing came through the tunnel in time".to_owned(),
            };
            let refusal = Refusal::malformed(wrong, "speak TLS with the host of the tunnel");
            let denial = refusal.denial;
            shared.pipeline.refuse(&endpoint, Some(&caller), denial);
            End::NotForTheHost
        };
        let end = tokio::select! {
            biased;
            () = signal.cut() => End::Withdrawn,
            () = shared.tunnels.stopping.cancelled() => End::Withdrawn,
            () = tokio::time::sleep_until(until) => End::Time,
            end = passing => end,
        };
        flow.finish(end);
    }
}

/// What passes.
struct Flow {
    account: Mutex<Account>,
    /// When something passed last.
    moved: Mutex<Instant>,
    sent: AtomicU64,
    received: AtomicU64,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

impl Flow {
    async fn join(
        &self,
        client: impl AsyncRead + AsyncWrite,
        server: &mut TcpStream,
        first: &[u8],
        idle: Duration,
    ) -> End {
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let (mut from_server, mut to_server) = server.split();
        let there = async {
            self.pass(first, &mut to_server, Way::ToServer).await?;
            self.copy(&mut from_client, &mut to_server, Way::ToServer)
                .await
        };
        let back = self.copy(&mut from_server, &mut to_client, Way::ToClient);
        tokio::select! {
            both = async { tokio::try_join!(there, back) } => match both {
                Ok(_) => End::Done,
                Err(end) => end,
            },
            () = self.idle(idle) => End::Idle,
        }
    }

    /// Moves bytes one way until that side has no more; the other way goes on.
    async fn copy(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        way: Way,
    ) -> Result<(), End> {
        let (source, sink) = match way {
            Way::ToServer => (End::Client, End::Server),
            Way::ToClient => (End::Server, End::Client),
        };
        let mut piece = vec![0; PIECE];
        loop {
            let length = from.read(&mut piece).await.map_err(|_| source)?;
            if length == 0 {
                return to.shutdown().await.map_err(|_| sink);
            }
            self.pass(&piece[..length], to, way).await?;
        }
    }

    /// Counts bytes, and only then passes them on.
    async fn pass(
        &self,
        bytes: &[u8],
        to: &mut (impl AsyncWrite + Unpin),
        way: Way,
    ) -> Result<(), End> {
        *self.moved.lock() = Instant::now();
        let length = bytes.len() as u64;
        let counted = match way {
            Way::ToServer => &self.sent,
            Way::ToClient => &self.received,
        };
        counted.fetch_add(length, Ordering::Relaxed);
        {
            let mut account = self.account.lock();
            let amount = Spent {
                bytes: length,
                ..Spent::default()
            };
            account.permit.spend(amount).map_err(|_| End::Budget)?;
            if way == Way::ToClient {
                account.see(bytes);
            }
        }
        let gone = match way {
            Way::ToServer => End::Server,
            Way::ToClient => End::Client,
        };
        to.write_all(bytes).await.map_err(|_| gone)?;
        to.flush().await.map_err(|_| gone)?;
        *self.moved.lock() = Instant::now();
        Ok(())
    }

    /// Waits until nothing has passed for so long.
    async fn idle(&self, longest: Duration) {
        loop {
            let until = *self.moved.lock() + longest;
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    fn finish(self, end: End) {
        let mut account = self.account.into_inner();
        let permit = &mut account.permit;
        permit.note("sent", self.sent.into_inner());
        permit.note("received", self.received.into_inner());
        permit.note("ended_by", end.as_str());
        account.finish(end.ended());
    }
}
