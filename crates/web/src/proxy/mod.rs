//! The forward proxy: for clients that know of nothing but `HTTPS_PROXY` and `HTTP_PROXY`.
//!
//! It leads to the APIs of the configuration, and nowhere else: what an agent names is looked up
//! ([`hosts`]), never resolved. The path of one request, and where each step lives:
//! 1. [`target`]: which host and port it names, in one spelling;
//! 2. `credentials`: who is calling, by the token that the client was given as a proxy password;
//! 3. `tunnel`: a CONNECT that nobody looks into is one action, and needs leave of its own; `hello` keeps
//!    it to the host that it is for;
//! 4. `inside`: a CONNECT that is looked into ends here, with a certificate of the task's own `authority`;
//!    the requests inside, and requests that come in the clear, go through the door for HTTP APIs like
//!    any other.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway::Body;
use gateway::caller::{Asked, Caller};
use gateway::front::{Knock, Settings};
use gateway::live::Live;
use gateway::problem;
use gateway::resource::Route;
use gateway::serve::Handler;
use gateway::slots::{Slot, Slots};
use gateway::sources::Wrong;
use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use jiff::Timestamp;
use model::config::ServerKind;
use model::{Rule, TaskStatus};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Shared;
use crate::visit::{self, Named};

mod authority;
mod credentials;
mod hello;
mod hosts;
mod inside;
mod own;
mod refusal;
pub mod target;
mod tunnel;

pub(crate) use hosts::Hosts;

use authority::Authorities;
use credentials::{Shown, challenge};
use hosts::{Here, Manner};
use refusal::{Refusal, ended};
use target::{NoTarget, Target};

/// Where the metadata of the proxy as a protected resource is (RFC 9728 §3).
const METADATA: &str = "/.well-known/oauth-protected-resource";
/// How long an orderly end waits for tunnels.
const GRACE: std::time::Duration = std::time::Duration::from_secs(5);

/// The forward proxy, for one listener.
pub struct Proxy {
    shared: Arc<Shared>,
    settings: Arc<ArcSwap<Settings>>,
    /// The URL of the proxy, which is the resource of the tokens for it.
    resource: String,
}

/// The tunnels of all tasks.
pub(crate) struct Tunnels {
    /// Those of each task.
    slots: Slots,
    /// All of them.
    room: Arc<Semaphore>,
    work: TaskTracker,
    stopping: CancellationToken,
    authorities: Authorities,
}

impl Tunnels {
    /// None yet, and at most so many at once.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            slots: Slots::default(),
            room: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            work: TaskTracker::new(),
            stopping: CancellationToken::new(),
            authorities: Authorities::default(),
        }
    }

    /// Forgets the authorities of tasks that are over.
    pub(crate) fn sweep(&self, live: &Live) {
        let now = Timestamp::now();
        self.authorities.sweep(|id| {
            live.task(id)
                .is_none_or(|task| task.status_at(now) != TaskStatus::Open)
        });
    }

    /// Ends all of them.
    pub(crate) async fn stop(&self) {
        self.stopping.cancel();
        self.work.close();
        if tokio::time::timeout(GRACE, self.work.wait()).await.is_err() {
            tracing::warn!("some tunnels did not end in time");
        }
    }
}

/// A tunnel's place among the others; it is free again when this is dropped.
struct Place {
    _slot: Slot,
    _room: OwnedSemaphorePermit,
}

impl Handler for Proxy {
    async fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        let connect = request.method() == Method::CONNECT;
        let from = peer.ip();
        if let Some(put_off) = self.put_off(from, &request) {
            return if connect { ended(put_off) } else { put_off };
        }
        let nonce = self.shared.pipeline.next_nonce(request.headers());
        let answer = match read(&request) {
            Ok(Wanted::Own) => self.own(&request),
            Ok(Wanted::Tunnel(target)) => self.tunnel(target, request, peer).await,
            Ok(Wanted::Plain(target)) => self.plain(target, request, peer).await,
            Err(refusal) => Err(self.refuse("proxy", None, &refusal)),
        };
        let mut answer = answer.unwrap_or_else(|refused| *refused);
        if let Some((name, value)) = nonce {
            answer.headers_mut().insert(name, value);
        }
        if answer.extensions().get::<Wrong>().is_some() {
            self.shared.pipeline.wrong_from(from);
        }
        // What came behind a CONNECT that was refused was meant for a tunnel: nobody reads it as a request.
        if connect { ended(answer) } else { answer }
    }
}

/// What a request to the proxy is.
enum Wanted {
    /// To open a tunnel.
    Tunnel(Target),
    /// To pass on a request that is in the clear.
    Plain(Target),
    /// To see something of the proxy itself.
    Own,
}

/// Reads the target of a request (RFC 9112 §3.2).
fn read<B: http_body::Body>(request: &Request<B>) -> Result<Wanted, Refusal> {
    let no_target = |why: NoTarget| {
        Refusal::malformed(
            format!("the target could be taken for another one, or is none: {why}"),
            "name the host and port as the server's URL in the configuration does",
        )
    };
    if request.version() > Version::HTTP_11 {
        return Err(Refusal::malformed(
            "the proxy speaks HTTP/1.1",
            "leave out HTTP/2 towards the proxy itself",
        ));
    }
    let uri = request.uri();
    let path = uri.path_and_query();
    match (uri.scheme_str(), uri.authority(), path) {
        (None, Some(authority), None) if request.method() == Method::CONNECT => {
            let target = Target::parse(authority.as_str()).map_err(no_target)?;
            is_bare(request)?;
            host_agrees(request, &target, target.port())?;
            Ok(Wanted::Tunnel(target))
        }
        (Some("http"), Some(_), Some(_)) if request.method() != Method::CONNECT => {
            let target = Target::of(uri).map_err(no_target)?;
            host_agrees(request, &target, 80)?;
            Ok(Wanted::Plain(target))
        }
        (Some("https"), Some(_), _) => Err(Refusal::malformed(
            "a request for an https URL came without a tunnel",
            "open a tunnel with CONNECT, as HTTPS_PROXY makes clients do",
        )),
        (None, None, Some(_)) if request.method() != Method::CONNECT => Ok(Wanted::Own),
        _ => Err(Refusal::malformed(
            "this is neither a CONNECT to a host and port nor a request for an http URL",
            "use the proxy as HTTPS_PROXY and HTTP_PROXY",
        )),
    }
}

/// A CONNECT has no content (RFC 9110 §9.3.6): what follows it is the tunnel's.
fn is_bare<B: http_body::Body>(request: &Request<B>) -> Result<(), Refusal> {
    let headers = request.headers();
    let length = headers.get(CONTENT_LENGTH);
    let bare = length.is_none_or(|length| length == "0")
        && ![TRANSFER_ENCODING, UPGRADE, EXPECT]
            .iter()
            .any(|name| headers.contains_key(name))
        && request.body().is_end_stream();
    if bare {
        Ok(())
    } else {
        Err(Refusal::malformed(
            "a CONNECT has no content, and asks for nothing else",
            "send it without Content-Length, Transfer-Encoding, Upgrade and Expect",
        ))
    }
}

/// The one `Host` names what the target names (RFC 9112 §3.2); clients of HTTP/1.0 may send none.
fn host_agrees<B>(request: &Request<B>, target: &Target, port: u16) -> Result<(), Refusal> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let agrees = match (hosts.next(), hosts.next()) {
        (None, _) => request.version() < Version::HTTP_11,
        (Some(host), None) => host
            .to_str()
            .ok()
            .and_then(|host| Target::with_default(host, port).ok())
            .is_some_and(|host| host == *target),
        (Some(_), Some(_)) => false,
    };
    if agrees {
        Ok(())
    } else {
        Err(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            Rule::ProtocolViolation,
            format!("the Host header is not `{target}`, or there is not exactly one"),
            "send the Host of the URL that is asked for",
        ))
    }
}

/// A request that is answered otherwise than was asked.
type Refused = Box<Response<Body>>;

impl Proxy {
    /// The proxy of an enforcement point, at this URL.
    pub(crate) fn new(
        shared: Arc<Shared>,
        settings: Arc<ArcSwap<Settings>>,
        resource: String,
    ) -> Self {
        Self {
            shared,
            settings,
            resource,
        }
    }

    /// The answer to a request whose credentials are not looked at, since too many from its address were
    /// wrong.
    fn put_off(&self, from: IpAddr, request: &Request<Incoming>) -> Option<Response<Body>> {
        let pipeline = &self.shared.pipeline;
        // Asked first, since it takes nothing while nobody is put off.
        pipeline.puts_off_all(from)?;
        let shown = Shown::of(request.headers(), &http::header::PROXY_AUTHORIZATION).ok()?;
        let wait = pipeline.puts_off_credentials(from, &shown.credentials(None))?;
        Some(problem::put_off(&pipeline.put_off("proxy"), wait))
    }

    /// Answers, and records, what did not become an action.
    fn refuse(&self, endpoint: &str, caller: Option<&Caller>, refusal: &Refusal) -> Refused {
        let pipeline = &self.shared.pipeline;
        pipeline.refuse(endpoint, caller, refusal.denial.clone());
        Box::new(refusal.response())
    }

    /// Step 2. `rest` is what of the proof's URL is behind the proxy's.
    fn authenticate(
        &self,
        endpoint: &str,
        rest: &str,
        request: &Request<Incoming>,
        name: &HeaderName,
    ) -> Result<Caller, Refused> {
        let pipeline = &self.shared.pipeline;
        let caller = match Shown::of(request.headers(), name) {
            Ok(shown) => {
                let url = format!("{}/{rest}", self.resource);
                let asked = Asked {
                    resource: &self.resource,
                    method: request.method().as_str(),
                    url: &url,
                    task: shown.task.as_ref(),
                };
                let certificate = gateway::peer::of_request(request.extensions());
                let credentials = shown.credentials(certificate);
                pipeline.authenticate_at(endpoint, &asked, &credentials)
            }
            Err(refused) => Err(pipeline.unauthenticated_at(endpoint, refused)),
        };
        caller.map_err(|refused| Box::new(challenge(&refused, &self.resource)))
    }

    async fn tunnel(
        &self,
        target: Target,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<Body>, Refused> {
        let endpoint = format!("CONNECT {target}");
        let rest = target.to_string();
        let caller = self.authenticate(
            &endpoint,
            &rest,
            &request,
            &http::header::PROXY_AUTHORIZATION,
        )?;
        let apis = self.shared.apis.load_full();
        let here = apis.hosts.at(&target);
        let refuse = |refusal: &Refusal| self.refuse(&endpoint, Some(&caller), refusal);
        let here = granted(here, &caller).ok_or_else(|| refuse(&Refusal::nothing_at(&target)))?;
        let place = self.place(&caller).map_err(|refusal| refuse(&refusal))?;
        match here.manner() {
            Manner::Opaque => self.opaque(caller, here, target, request, place).await,
            manner => {
                let ends = (apis.hosts.idle, apis.hosts.longest);
                self.looked_into(caller, here, manner, target, request, (place, peer, ends))
                    .await
            }
        }
    }

    async fn plain(
        &self,
        target: Target,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<Body>, Refused> {
        let method = request.method().clone();
        let endpoint = format!("{method} http://{target}");
        let rest = format!("{target}{}", request.uri().path());
        let caller = self.authenticate(
            &endpoint,
            &rest,
            &request,
            &http::header::PROXY_AUTHORIZATION,
        )?;
        let apis = self.shared.apis.load_full();
        let here = granted(apis.hosts.at(&target), &caller);
        let here = here
            .filter(|here| here.has_clear())
            .ok_or_else(|| self.refuse(&endpoint, Some(&caller), &Refusal::nothing_at(&target)))?;
        let settings = self.settings.load_full();
        let from = (peer, settings);
        Ok(pass_on(&self.shared, &Arc::new(caller), here, false, request, from).await)
    }

    /// A place among the tunnels of the task, and among all.
    fn place(&self, caller: &Caller) -> Result<Place, Refusal> {
        let most = self.settings.load().limits.streams_per_task;
        let tunnels = &self.shared.tunnels;
        let task = caller.task.task().id;
        let slot = tunnels
            .slots
            .take(task, most)
            .ok_or_else(|| Refusal::too_many(most))?;
        let room = Arc::clone(&tunnels.room).try_acquire_owned();
        Ok(Place {
            _slot: slot,
            _room: room.map_err(|_| Refusal::no_room())?,
        })
    }
}

/// What is at a host and port, if the caller's task grants something of it. What is not there and what is
/// not granted read the same.
fn granted<'a>(here: Option<&'a Here>, caller: &Caller) -> Option<&'a Here> {
    here.filter(|here| here.granted(caller.task.task()).next().is_some())
}

/// Passes a request on to the API whose path it has, through the same door as every other.
async fn pass_on(
    shared: &Arc<Shared>,
    caller: &Arc<Caller>,
    here: &Here,
    secure: bool,
    request: Request<Incoming>,
    (peer, settings): (SocketAddr, Arc<Settings>),
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let Some((site, rest)) = here.site(caller.task.task(), secure, &path) else {
        let refusal = Refusal::new(
            StatusCode::NOT_FOUND,
            Rule::ProtocolViolation,
            "no API that the task grants has this path",
            "write the path as it is in the API's URL, plainly and with the same letters",
        );
        shared
            .pipeline
            .refuse(&path, Some(caller), refusal.denial.clone());
        return refusal.response();
    };
    let route = Route {
        kind: ServerKind::Http,
        server: site.api.web.name().clone(),
        task: None,
    };
    let knock = Knock {
        request,
        route,
        rest: rest.to_owned(),
        settings,
        peer,
    };
    visit::answer_for(shared, caller, knock, Named::ByItself).await
}

#[cfg(test)]
mod tests;
