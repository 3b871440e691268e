//! The listener: accepts connections, speaks TLS, and finds out what each one wants.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::door::Endpoint;
use crate::session;
use crate::wire::startup::{self, Startup};

/// A connection of a client.
pub(crate) type Client = Either<TcpStream, TlsStream<TcpStream>>;

/// How the listener treats its connections.
#[derive(Clone)]
pub struct Options {
    /// Most connections at once; further ones wait in the operating system's queue.
    pub connections: usize,
    /// How long a client may take for TLS and its first message.
    pub greeting: Duration,
    /// TLS, if the listener has it.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Options {
    /// As another listener treats its.
    #[must_use]
    pub fn of(other: gateway::serve::Options) -> Self {
        Self {
            connections: other.connections,
            greeting: other.head,
            tls: other.tls,
        }
    }
}

/// How a connection began.
pub(crate) struct Greeted {
    pub(crate) client: Client,
    pub(crate) peer: SocketAddr,
    pub(crate) minor: u16,
    pub(crate) parameters: Vec<(String, String)>,
}

/// Serves until the enforcement point stops.
pub async fn serve(endpoint: Arc<Endpoint>, listener: TcpListener, mut options: Options) {
    if let Some(tls) = &mut options.tls {
        // What clients of PostgreSQL ask for, if they ask (§55.2.10).
        let mut own = rustls::ServerConfig::clone(tls);
        own.alpn_protocols = vec![b"postgresql".to_vec()];
        *tls = Arc::new(own);
    }
    let slots = Arc::new(Semaphore::new(options.connections));
    while let Some((slot, stream, peer)) =
        gateway::serve::next(&listener, &slots, &endpoint.stopping).await
    {
        let (endpoint, options) = (Arc::clone(&endpoint), options.clone());
        let work = endpoint.work.clone();
        work.spawn(async move {
            let _slot = slot;
            let greeting = greet(&endpoint, stream, peer, options.tls.as_ref());
            match tokio::time::timeout(options.greeting, greeting).await {
                Ok(Ok(Some(greeted))) => session::run(&endpoint, greeted).await,
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::debug!(%error, %peer, "a connection ended early"),
                Err(_) => tracing::debug!(%peer, "a connection said nothing in time"),
            }
        });
    }
}

/// Reads first messages until one begins a session; `None` when none does.
async fn greet(
    endpoint: &Endpoint,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<&Arc<rustls::ServerConfig>>,
) -> std::io::Result<Option<Greeted>> {
    stream.set_nodelay(true)?;
    let mut client: Client = Either::Left(stream);
    // TLS from the first byte on (`sslnegotiation=direct`).
    if let (Either::Left(plain), Some(_)) = (&client, tls) {
        let mut first = [0];
        if plain.peek(&mut first).await? == 1 && first == [0x16] {
            client = encrypt(client, tls).await?;
        }
    }
    for _ in 0..3 {
        let Some(body) = startup::receive(&mut client).await? else {
            return Ok(None);
        };
        match Startup::read(&body) {
            // No byte behind the request was read: nothing unencrypted is taken for encrypted.
            Ok(Startup::Ssl) if tls.is_some() && matches!(client, Either::Left(_)) => {
                client.write_all(b"S").await?;
                client = encrypt(client, tls).await?;
            }
            Ok(Startup::Ssl | Startup::Gssenc) => {
                client.write_all(b"N").await?;
                client.flush().await?;
            }
            Ok(Startup::Cancel { process, secret }) => {
                if let Some(target) = endpoint.cancels.find(process, &secret) {
                    target.cancel().await;
                }
                return Ok(None);
            }
            Ok(Startup::Session { minor, parameters }) => {
                return Ok(Some(Greeted {
                    client,
                    peer,
                    minor,
                    parameters,
                }));
            }
            Err(error) => {
                client.write_all(&error.response().to_bytes()).await?;
                client.shutdown().await?;
                return Ok(None);
            }
        }
    }
    Ok(None)
}

async fn encrypt(
    client: Client,
    tls: Option<&Arc<rustls::ServerConfig>>,
) -> std::io::Result<Client> {
    match (client, tls) {
        (Either::Left(plain), Some(tls)) => {
            let stream = TlsAcceptor::from(Arc::clone(tls)).accept(plain).await?;
            Ok(Either::Right(stream))
        }
        (client, _) => Ok(client),
    }
}
