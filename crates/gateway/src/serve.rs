//! Listening: connections, TLS, limits, and an orderly end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::Body;

mod untouched;

use untouched::Untouched;

/// How a listener treats its connections.
#[derive(Clone)]
pub struct Options {
    /// Most connections at once; further ones wait in the operating system's queue.
    pub connections: usize,
    /// How long a client may take for the TLS handshake and for a request's head, and how long it
    /// may leave an answer untouched.
    pub head: Duration,
    /// How long an orderly end waits for what is in flight.
    pub grace: Duration,
    /// TLS, if the listener has it.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// Something that answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// Serves until `stop` is cancelled, then lets what is in flight finish, for at most the grace.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    handler: Arc<H>,
    options: Options,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(options.connections));
    let graceful = GracefulShutdown::new();
    loop {
        let Some((slot, stream, peer)) = next(&listener, &slots, &stop).await else {
            break;
        };
        let handler = Arc::clone(&handler);
        let options = options.clone();
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            let _slot = slot;
            if let Err(error) = connection(stream, peer, handler, &options, watcher).await {
                tracing::debug!(%error, %peer, "a connection ended early");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(options.grace, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some connections did not end in time and were closed");
    }
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

async fn connection<H: Handler>(
    stream: TcpStream,
    peer: SocketAddr,
    handler: Arc<H>,
    options: &Options,
    watcher: hyper_util::server::graceful::Watcher,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = Untouched::new(stream, options.head);
    let service = hyper::service::service_fn(move |request| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, Infallible>(handler.handle(request, peer).await) }
    });
    let mut http = auto::Builder::new(TokioExecutor::new()).http1_only();
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(options.head)
        .max_headers(64)
        .max_buf_size(64 << 10);
    let ended = match &options.tls {
        None => {
            watcher
                .watch(http.serve_connection_with_upgrades(TokioIo::new(stream), service))
                .await
        }
        Some(tls) => {
            let handshake = TlsAcceptor::from(Arc::clone(tls)).accept(stream);
            let stream = tokio::time::timeout(options.head, handshake).await??;
            watcher
                .watch(http.serve_connection_with_upgrades(TokioIo::new(stream), service))
                .await
        }
    };
    ended.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    /// Answers when it is told to.
    struct Waits(Notify);

    impl Handler for Waits {
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

    async fn serving(
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
    struct Much;

    impl Handler for Much {
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
