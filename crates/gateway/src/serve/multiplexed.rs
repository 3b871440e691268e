//! Connections over HTTP/2 (RFC 9113): many requests at once on each.
//!
//! Everything that is counted per connection elsewhere would be counted too low here, so requests over
//! HTTP/2 have a limit of their own: as many at once, over all connections, as there may be connections.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, header::RETRY_AFTER};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use super::answered::{Answered, Exchange};
use super::pulse::Pulse;
use super::{Ending, Handler, LONGEST_HEAD, strict};
use crate::problem::problem;

/// Most requests at once on one connection (`SETTINGS_MAX_CONCURRENT_STREAMS`).
const STREAMS: u32 = 100;
/// What of a request's body may be on its way without being asked for: of one request, and of all on a
/// connection, in bytes.
const WINDOW: u32 = 256 << 10;
const WINDOW_OF_ALL: u32 = 1 << 20;
/// Most of an answer that waits for the connection, in bytes.
const WAITING: usize = 64 << 10;
/// Requests that a client may take back before anybody has seen them, and others that it may spoil, until
/// the connection is ended: the defence against floods of both (CVE-2023-44487, CVE-2025-8671).
const TAKEN_BACK: usize = 20;
const SPOILT: usize = 128;
/// How often a connection is asked whether anybody is there, and how long that may take.
const ASKED: Duration = Duration::from_secs(30);
const TO_ANSWER: Duration = Duration::from_secs(20);
/// Answers that a client may leave untouched before it loses its connection.
const UNTOUCHED: usize = 8;

/// Serves one connection until it ends, or `ending` says so and all of its requests are done.
pub(super) async fn serve<S, H>(
    stream: S,
    (peer, svid): super::Origin,
    handler: Arc<H>,
    requests: Arc<Semaphore>,
    idle: Duration,
    mut ending: Ending,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let requests = Arc::new(Requests::new(requests, idle));
    let service = hyper::service::service_fn({
        let requests = Arc::clone(&requests);
        move |mut request: Request<Incoming>| {
            let (handler, requests) = (Arc::clone(&handler), Arc::clone(&requests));
            super::told(&mut request, svid.as_ref());
            async move { Ok::<_, Infallible>(answer(&*handler, &requests, request, peer).await) }
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(LONGEST_HEAD)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW_OF_ALL)
        .max_send_buf_size(WAITING)
        .max_pending_accept_reset_streams(TAKEN_BACK)
        .max_local_error_reset_streams(SPOILT)
        .keep_alive_interval(ASKED)
        .keep_alive_timeout(TO_ANSWER)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        biased;
        ended = &mut connection => return ended.map_err(io::Error::other),
        () = ending.told() => {}
        () = requests.over() => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        ended = &mut connection => ended.map_err(io::Error::other),
        // Whoever does not go when told is not waited for, once nothing is under way.
        () = async { tokio::time::sleep(idle).await; requests.over().await } => Ok(()),
    }
}

/// Answers one request.
async fn answer<H: Handler>(
    handler: &H,
    requests: &Requests,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Response<Answered> {
    let place = Arc::clone(&requests.places).try_acquire_owned().ok();
    let full = place.is_none();
    let exchange = Exchange::new(Arc::clone(&requests.pulse), place);
    requests.begin(&exchange);
    let response = match strict::plain(request) {
        _ if full => crowded(),
        Ok(request) => handler.handle(request, peer).await,
        Err(refused) => *refused,
    };
    response.map(|body| exchange.answer(body))
}

fn crowded() -> Response<crate::Body> {
    let mut response = problem(
        StatusCode::SERVICE_UNAVAILABLE,
        "as many requests are under way as there may be",
        "try again later; an operator can raise `limits.connections`",
    );
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The requests of one connection.
struct Requests {
    places: Arc<Semaphore>,
    /// How long the client may leave an answer untouched, and the connection unused.
    idle: Duration,
    pulse: Arc<Pulse>,
    under_way: Mutex<Vec<Weak<Exchange>>>,
}

impl Requests {
    fn new(places: Arc<Semaphore>, idle: Duration) -> Self {
        Self {
            places,
            idle,
            pulse: Arc::new(Pulse::new()),
            under_way: Mutex::default(),
        }
    }

    fn begin(&self, exchange: &Arc<Exchange>) {
        let mut under_way = self.under_way.lock();
        if under_way.len() >= 2 * STREAMS as usize {
            under_way.retain(|exchange| exchange.strong_count() > 0);
        }
        under_way.push(Arc::downgrade(exchange));
    }

    /// Waits until the connection should end: it was not used for too long, or the client leaves its
    /// answers untouched.
    async fn over(&self) {
        let often = (self.idle / 8).clamp(Duration::from_millis(10), Duration::from_secs(1));
        loop {
            tokio::time::sleep(often).await;
            if self.is_over() {
                return;
            }
        }
    }

    /// Gives up the answers that stay untouched, and says whether the connection should end.
    fn is_over(&self) -> bool {
        let under_way: Vec<Arc<Exchange>> = {
            let mut under_way = self.under_way.lock();
            under_way.retain(|exchange| exchange.strong_count() > 0);
            under_way.iter().filter_map(Weak::upgrade).collect()
        };
        let mut untouched = 0;
        for exchange in &under_way {
            if exchange.is_stuck(self.idle) {
                exchange.give_up();
            }
            untouched += usize::from(exchange.is_given_up());
        }
        let unused = untouched == under_way.len() && self.pulse.since() >= self.idle;
        untouched > UNTOUCHED || unused
    }
}

#[cfg(test)]
mod tests;
