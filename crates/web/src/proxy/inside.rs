//! A tunnel that is looked into: it ends here, and each request inside is an action of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway::caller::Caller;
use gateway::front::Settings;
use gateway::pipeline::{Digest, Dispatch, Permit};
use gateway::{Body, full, wait};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use model::record::Ended;
use model::{Action, Operation, Rule, ServerName};
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_rustls::LazyConfigAcceptor;

use super::authority::NoCertificate;
use super::hosts::{Here, Manner};
use super::refusal::{Refusal, denied};
use super::target::Target;
use super::{Place, Proxy, Refused, granted, hello, host_agrees, pass_on};
use crate::Shared;

/// Most headers of a request, and longest head in bytes, as at the gateway's own listener.
const HEADERS: usize = 64;
const HEAD: usize = 64 << 10;

impl Proxy {
    /// Opens a tunnel that ends here. The decision about it is only that the task may talk to the server:
    /// nothing reaches that but by the requests inside.
    pub(super) async fn looked_into(
        &self,
        caller: Caller,
        here: &Here,
        manner: Manner,
        target: Target,
        mut request: Request<Incoming>,
        (place, peer, (idle, longest)): (Place, SocketAddr, (Duration, Duration)),
    ) -> Result<Response<Body>, Refused> {
        let endpoint = format!("CONNECT {target}");
        let task = caller.task.task();
        let site = {
            // One that is disabled must not close the others that are there too.
            let world = self.shared.pipeline.live().world();
            let enabled = |name: &ServerName| world.server(name).is_some_and(|facts| facts.enabled);
            let mut sites = here.granted(task);
            sites
                .find(|site| enabled(site.api.web.name()))
                .or_else(|| here.granted(task).next())
        };
        let Some(site) = site else {
            return Err(self.refuse(&endpoint, Some(&caller), &Refusal::nothing_at(&target)));
        };
        let action = Action::new(site.api.web.name().clone(), "CONNECT", Operation::Converse);
        let attempted = self.shared.pipeline.attempt(&caller, action).await;
        let mut permit = attempted.map_err(|refused| Box::new(denied(&refused)))?;
        let tls = match manner {
            Manner::Terminated => Some(
                self.certified(&caller, &target)
                    .map_err(|refusal| self.refuse(&endpoint, Some(&caller), &refusal))?,
            ),
            Manner::Clear | Manner::Opaque => None,
        };
        // Held until the tunnel has ended: whoever ends the task waits for it.
        let dispatch = permit
            .dispatch()
            .map_err(|refused| Box::new(denied(&refused)))?;
        let settings = self.settings.load();
        let until = Instant::now() + longest;
        let inside = Inside {
            settings: Arc::clone(&self.settings),
            shared: Arc::clone(&self.shared),
            target,
            endpoint,
            secure: tls.is_some(),
            peer,
            caller: Arc::new(caller),
        };
        let session = Session {
            client: hyper::upgrade::on(&mut request),
            tls,
            head: Duration::from_secs(settings.limits.request_seconds).min(idle),
            until: until.min(Instant::now() + wait(inside.caller.task.task().expires_at)),
            // A further request needs a token that has not expired.
            closing: Instant::now() + wait(inside.caller.expires),
            inside: Arc::new(inside),
        };
        let held = (dispatch, place);
        let work = &self.shared.tunnels.work;
        work.spawn(session.run(permit, held));
        Ok(Response::new(full("")))
    }

    /// How TLS is spoken as the target's host.
    fn certified(&self, caller: &Caller, target: &Target) -> Result<Arc<ServerConfig>, Refusal> {
        let task = caller.task.task();
        let hosts = || self.shared.apis.load().hosts.terminated(task);
        let authority = self.shared.tunnels.authorities.of(task, hosts);
        let made = authority.and_then(|authority| authority.server(target.host(), task));
        made.map_err(|error| match error {
            NoCertificate::NotOfTheTask => Refusal::new(
                StatusCode::FORBIDDEN,
                Rule::ServerNotGranted,
                error.to_string(),
                "open a new task: its authority is made for the hosts of today",
            ),
            NoCertificate::Failed(_) => {
                tracing::error!(%error, "a certificate for a tunnel");
                Refusal::unreachable("the certificate for the tunnel cannot be made")
            }
        })
    }
}

/// One tunnel.
struct Session {
    client: OnUpgrade,
    /// How TLS is spoken, unless it is in the clear.
    tls: Option<Arc<ServerConfig>>,
    /// How long the client may take for the handshake, and for the head of a request.
    head: Duration,
    until: Instant,
    closing: Instant,
    inside: Arc<Inside>,
}

impl Session {
    async fn run(self, mut permit: Permit, _held: (Dispatch, Place)) {
        let signal = permit.signal();
        let shared = Arc::clone(&self.inside.shared);
        let digest = Digest::new(&self.inside.caller.task);
        let (until, host) = (self.until, self.inside.target.to_string());
        let (ended, by) = tokio::select! {
            biased;
            () = signal.cut() => (Ended::Cut, "withdrawn"),
            () = shared.tunnels.stopping.cancelled() => (Ended::Cut, "withdrawn"),
            () = tokio::time::sleep_until(until) => (Ended::Cut, "tunnel_seconds or the end of the task"),
            how = self.serve() => how,
        };
        permit.note("host", host);
        permit.note("ended_by", by);
        permit.finish(ended, digest);
    }

    async fn serve(self) -> (Ended, &'static str) {
        let Ok(client) = self.client.await else {
            return (Ended::Cancelled, "client");
        };
        let client = TokioIo::new(client);
        let (inside, closing) = (self.inside, self.closing);
        let Some(tls) = self.tls else {
            return requests(client, inside, self.head, closing).await;
        };
        let deadline = Instant::now() + self.head;
        let handshake = tokio::time::timeout_at(deadline, handshake(client, tls, &inside));
        match handshake.await {
            Ok(Some(client)) => requests(client, inside, self.head, closing).await,
            Ok(None) | Err(_) => (Ended::Cancelled, "handshake"),
        }
    }
}

/// Speaks TLS as the host of the tunnel, with a client that means that host.
async fn handshake<C: AsyncRead + AsyncWrite + Unpin>(
    client: C,
    tls: Arc<ServerConfig>,
    inside: &Inside,
) -> Option<tokio_rustls::server::TlsStream<C>> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), client)
        .await
        .ok()?;
    let named = start.client_hello().server_name().map(str::to_owned);
    if hello::is_for(named.as_deref(), inside.target.host()) {
        return start.into_stream(tls).await.ok();
    }
    let refusal = Refusal::malformed(
        format!(
            "the tunnel was opened for `{}`, but TLS in it names another host",
            inside.target
        ),
        "speak TLS with the host of the tunnel",
    );
    let pipeline = &inside.shared.pipeline;
    pipeline.refuse(&inside.endpoint, Some(&inside.caller), refusal.denial);
    let mut client = start.io;
    // It fails when the client is gone, who then needs no words.
    let _ = client.write_all(&hello::UNRECOGNIZED_NAME).await;
    let _ = client.shutdown().await;
    None
}

/// Answers requests until the client goes away, or has a token no longer.
async fn requests<C>(
    client: C,
    inside: Arc<Inside>,
    head: Duration,
    closing: Instant,
) -> (Ended, &'static str)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let inside = Arc::clone(&inside);
        async move { Ok::<_, Infallible>(inside.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_headers(HEADERS)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(client), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = tokio::time::sleep_until(closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match ended {
        Ok(()) => (Ended::Answered, "both sides"),
        Err(_) => (Ended::Cancelled, "client"),
    }
}

/// What requests in one tunnel have in common.
struct Inside {
    shared: Arc<Shared>,
    settings: Arc<ArcSwap<Settings>>,
    caller: Arc<Caller>,
    target: Target,
    /// How records of refusals name the tunnel.
    endpoint: String,
    secure: bool,
    peer: SocketAddr,
}

impl Inside {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let apis = self.shared.apis.load_full();
        match self.admit(&request) {
            Ok(()) => match granted(apis.hosts.at(&self.target), &self.caller) {
                Some(here) => {
                    let from = (self.peer, self.settings.load_full());
                    pass_on(&self.shared, &self.caller, here, self.secure, request, from).await
                }
                None => self.refuse(&Refusal::nothing_at(&self.target)),
            },
            Err(refusal) => self.refuse(&refusal),
        }
    }

    /// A request inside is for the host of the tunnel, and names only a path.
    fn admit(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
        let uri = request.uri();
        let only_path = uri.scheme().is_none()
            && uri.authority().is_none()
            && uri.path().starts_with('/')
            && request.method() != Method::CONNECT;
        if !only_path {
            return Err(Refusal::malformed(
                "a request in a tunnel names a path, and nothing else",
                "send it as to the API itself",
            ));
        }
        let port = if self.secure { 443 } else { 80 };
        host_agrees(request, &self.target, port)
    }

    fn refuse(&self, refusal: &Refusal) -> Response<Body> {
        let pipeline = &self.shared.pipeline;
        pipeline.refuse(&self.endpoint, Some(&self.caller), refusal.denial.clone());
        refusal.response()
    }
}
