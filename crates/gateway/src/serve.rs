//! Listening: connections, TLS, the version of HTTP, limits, and an orderly end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use identity::svid::Svid;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{Body, peer};

mod answered;
mod begun;
mod multiplexed;
mod pulse;
pub mod strict;
mod untouched;

use begun::{Begun, Version};
use untouched::Untouched;

/// Most headers of a request, and the longest head, in bytes.
const HEADERS: usize = 64;
const LONGEST_HEAD: u32 = 64 << 10;
/// What is chosen from by a client over TLS (RFC 7301, RFC 9113 §3.2).
const ALPN_TWO: &[u8] = b"h2";
const ALPN_ONE: &[u8] = b"http/1.1";

/// How a listener treats its connections.
#[derive(Clone)]
pub struct Options {
    /// Most connections at once; further ones wait in the operating system's queue. Over HTTP/2 there
    /// can be as many requests at once besides.
    pub connections: usize,
    /// How long a client may take for the TLS handshake and for a request's head, and how long it
    /// may leave an answer untouched.
    pub head: Duration,
    /// How long an orderly end waits for what is in flight.
    pub grace: Duration,
    /// TLS, if the listener has it. What of HTTP is offered in the handshake is the listener's business.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// Something that answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Whether it is reached over HTTP/2 too: if TLS agrees on it, or in clear if the client begins with
    /// it. Requests look the same over both: they have a path and a `Host`.
    const HTTP2: bool = false;

    /// Answers one request.
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// What connections are told when the process ends; held by each until it is closed.
struct Ending(watch::Receiver<()>);

impl Ending {
    /// Waits until it is time to end.
    async fn told(&mut self) {
        // It fails when the listener is gone, which means the same.
        let _ = self.0.changed().await;
    }
}

/// What the connections of one listener share.
struct Shared<H> {
    handler: Arc<H>,
    head: Duration,
    tls: Option<TlsAcceptor>,
    /// Places for requests over HTTP/2.
    requests: Arc<Semaphore>,
}

/// Serves until `stop` is cancelled, then lets what is in flight finish, for at most the grace.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    handler: Arc<H>,
    options: Options,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(options.connections));
    let shared = Arc::new(Shared {
        handler,
        head: options.head,
        tls: options.tls.map(|tls| acceptor(&tls, H::HTTP2)),
        requests: Arc::new(Semaphore::new(options.connections)),
    });
    let (tell, ending) = watch::channel(());
    loop {
        let Some((slot, stream, peer)) = next(&listener, &slots, &stop).await else {
            break;
        };
        let shared = Arc::clone(&shared);
        let ending = Ending(ending.clone());
        tokio::spawn(async move {
            let _slot = slot;
            if let Err(error) = connection(stream, peer, &shared, ending).await {
                tracing::debug!(%error, %peer, "a connection ended early");
            }
        });
    }
    drop((listener, ending));
    tell.send_replace(());
    if tokio::time::timeout(options.grace, tell.closed())
        .await
        .is_err()
    {
        tracing::warn!("some connections did not end in time and were closed");
    }
}

/// TLS with what is spoken behind it.
fn acceptor(tls: &rustls::ServerConfig, two: bool) -> TlsAcceptor {
    let mut own = tls.clone();
    let spoken: &[&[u8]] = if two {
        &[ALPN_TWO, ALPN_ONE]
    } else {
        &[ALPN_ONE]
    };
    own.alpn_protocols = spoken.iter().map(|name| name.to_vec()).collect();
    TlsAcceptor::from(Arc::new(own))
}

/// The next connection, with one of the slots; `None` once `stop` is cancelled.
pub async fn next(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let accepted = async {
        let slot = Arc::clone(slots).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => return Some((slot, stream, peer)),
                Err(error) => {
                    // Out of file descriptors, or the peer went away: wait a moment, then go on.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    };
    tokio::select! {
        accepted = accepted => accepted,
        () = stop.cancelled() => None,
    }
}

/// Where a connection comes from, and what its client presented.
type Origin = (SocketAddr, Option<Arc<Svid>>);

/// Tells those who answer a request what the connection was made with.
fn told(request: &mut Request<Incoming>, svid: Option<&Arc<Svid>>) {
    if let Some(svid) = svid {
        request.extensions_mut().insert(Arc::clone(svid));
    }
}

async fn connection<H: Handler>(
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Shared<H>,
    ending: Ending,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = Untouched::new(stream, shared.head);
    match &shared.tls {
        Some(tls) => {
            let handshake = tls.accept(stream);
            let stream = tokio::time::timeout(shared.head, handshake).await??;
            let connection = stream.get_ref().1;
            let version = match connection.alpn_protocol() {
                Some(ALPN_TWO) => Version::Two,
                _ => Version::One,
            };
            let svid = peer::of_connection(connection);
            speak(version, stream, (peer, svid), shared, ending).await
        }
        None if H::HTTP2 => {
            let reading = Begun::read(stream);
            let (version, stream) = tokio::time::timeout(shared.head, reading).await??;
            speak(version, stream, (peer, None), shared, ending).await
        }
        None => speak(Version::One, stream, (peer, None), shared, ending).await,
    }
}

/// Serves a connection once it is clear what is spoken on it.
async fn speak<S, H>(
    version: Version,
    stream: S,
    (peer, svid): Origin,
    shared: &Shared<H>,
    mut ending: Ending,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let handler = Arc::clone(&shared.handler);
    if version == Version::Two {
        let requests = Arc::clone(&shared.requests);
        let from = (peer, svid);
        return multiplexed::serve(stream, from, handler, requests, shared.head, ending).await;
    }
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let handler = Arc::clone(&handler);
        told(&mut request, svid.as_ref());
        async move { Ok::<_, Infallible>(handler.handle(request, peer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.head)
        .max_headers(HEADERS)
        .max_buf_size(LONGEST_HEAD as usize)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        biased;
        ended = &mut connection => return ended.map_err(io::Error::other),
        () = ending.told() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    /// Answers when it is told to.
    pub(super) struct Waits(pub(super) Notify);

    impl Handler for Waits {
        const HTTP2: bool = true;

        async fn handle(&self, _: Request<Incoming>, _: SocketAddr) -> Response<Body> {
            self.0.notified().await;
            Response::new(crate::full("done"))
        }
    }

    async fn served(
        connections: usize,
    ) -> (
        SocketAddr,
        Arc<Waits>,
        CancellationToken,
        tokio::task::JoinHandle<()>,
    ) {
        let handler = Arc::new(Waits(Notify::new()));
        let (address, stop, serving) = serving(connections, Arc::clone(&handler)).await;
        (address, handler, stop, serving)
    }

    pub(super) async fn serving(
        connections: usize,
        handler: Arc<impl Handler>,
    ) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let options = Options {
            connections,
            head: Duration::from_millis(300),
            grace: Duration::from_secs(5),
            tls: None,
        };
        let serving = tokio::spawn(serve(listener, handler, options, stop.clone()));
        (address, stop, serving)
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    async fn answer(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        let read = stream.read_to_string(&mut text);
        let _ = tokio::time::timeout(Duration::from_secs(5), read)
            .await
            .unwrap();
        text
    }

    #[tokio::test]
    async fn an_orderly_end_lets_what_is_in_flight_finish() {
        let (address, handler, stop, serving) = served(8).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(
            TcpStream::connect(address).await.is_err(),
            "nobody new is let in"
        );
        assert!(!serving.is_finished());
        handler.0.notify_one();
        assert!(answer(&mut stream).await.ends_with("done"));
        serving.await.unwrap();
    }

    /// Answers at once, with much.
    pub(super) struct Much;

    impl Handler for Much {
        const HTTP2: bool = true;

        async fn handle(&self, _: Request<Incoming>, _: SocketAddr) -> Response<Body> {
            Response::new(crate::full(vec![b'x'; 1 << 20]))
        }
    }

    #[tokio::test]
    async fn a_client_that_reads_no_answers_does_not_keep_its_place() {
        let (address, _stop, _serving) = serving(1, Arc::new(Much)).await;
        let mut deaf = TcpStream::connect(address).await.unwrap();
        deaf.write_all(&REQUEST.repeat(100)).await.unwrap();
        let mut waiting = TcpStream::connect(address).await.unwrap();
        waiting
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        assert!(answer(&mut waiting).await.ends_with("xxx"));
    }

    #[tokio::test]
    async fn a_slow_head_and_one_connection_too_many_do_not_block_others() {
        let (address, handler, _stop, _serving) = served(1).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(&REQUEST[..9]).await.unwrap();
        let mut waiting = TcpStream::connect(address).await.unwrap();
        waiting
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        handler.0.notify_one();
        assert!(
            answer(&mut waiting).await.ends_with("done"),
            "its turn comes"
        );
        assert!(!answer(&mut slow).await.contains("200 OK"));
    }
}
