//! A listener on an agent's own machine, for clients of PostgreSQL as they are: each session of theirs becomes
//! one at the gateway, with credentials made for it alone. Nothing of a session is looked into here: what it may
//! do is for the gateway to decide.
//!
//! The path of a session: [`serve`] accepts, `local` finds out what the client wants and whether it may, `remote`
//! opens the session at the gateway, and then bytes are passed both ways.

mod local;
mod remote;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{ServerName, TaskId};
use tokio::io::{self, AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::upstream::tls::{self, Tls};
use crate::upstream::{self, Address};
use crate::wire::backend::ErrorResponse;
use local::Wanted;

/// Most sessions of clients at once.
const SESSIONS: usize = 256;
/// How long a client may take to say who it is.
const GREETING: Duration = Duration::from_secs(30);
/// How long sessions may take to end when the listener does.
const FAREWELL: Duration = Duration::from_secs(2);

/// What one session authenticates with at the gateway.
pub enum Shown {
    /// A token, with `~` and a proof behind it if it is bound to a key.
    Password(Zeroizing<String>),
    /// The agent's SVID, for a task.
    Certificate {
        /// How TLS is spoken with it.
        tls: Arc<rustls::ClientConfig>,
        /// The task.
        task: TaskId,
    },
}

/// Who makes the credentials of sessions.
pub trait Credentials: Send + Sync + 'static {
    /// What one new session authenticates with. `again` when what was given last was refused, so that something
    /// newer is wanted.
    ///
    /// # Errors
    /// Why there are none, in words for the client.
    fn shown(&self, again: bool) -> impl Future<Output = Result<Shown, String>> + Send;

    /// Takes note of the nonce that the gateway wants in the next proof.
    fn take_nonce(&self, nonce: &str);
}

/// Where the gateway's listener for databases is.
pub struct Gateway {
    address: Address,
    tls: Option<Tls>,
}

impl Gateway {
    /// Reads the URL of a server there, as tasks show it: `postgres://host:port/server`, with
    /// `?sslmode=verify-full` behind it where the listener has TLS. The listener is verified with the
    /// certification authorities in a PEM file, or with the public ones.
    ///
    /// # Errors
    /// What cannot be used; among it an address on another machine without TLS, since tokens are secrets.
    pub fn new(url: &str, authorities: Option<&Path>) -> Result<Self, String> {
        let (plain, encrypted) = match url.strip_suffix(ENCRYPTED) {
            Some(plain) => (plain, true),
            None => (url, false),
        };
        let address = Address::parse(plain)?;
        let authorities = authorities.map(tls::read).transpose()?;
        let tls = match encrypted {
            true => Some(Tls::new(&address.host, authorities.as_deref())?),
            false if address.is_loopback() => None,
            false => {
                return Err(format!(
                    "`{}` is on another machine, and does not have TLS",
                    url.escape_debug()
                ));
            }
        };
        Ok(Self { address, tls })
    }
}

/// What the URL of a listener with TLS ends with, as libpq has it (§34.1.2).
pub const ENCRYPTED: &str = "?sslmode=verify-full";

/// What clients connect to.
pub enum Listener {
    /// An address of this machine. Whoever knows the password may use it.
    Tcp(TcpListener, Zeroizing<String>),
    /// A socket. Whoever runs as this user may use it; that needs no password.
    Unix(UnixListener),
}

/// What all sessions share.
struct Shared<C> {
    server: ServerName,
    gateway: Gateway,
    credentials: C,
    stop: CancellationToken,
}

/// Serves until `stop` is cancelled, and ends what is open then.
pub async fn serve<C: Credentials>(
    server: ServerName,
    gateway: Gateway,
    credentials: C,
    listener: Listener,
    stop: CancellationToken,
) {
    let shared = Arc::new(Shared {
        server,
        gateway,
        credentials,
        stop: stop.clone(),
    });
    let slots = Arc::new(Semaphore::new(SESSIONS));
    let work = TaskTracker::new();
    match listener {
        Listener::Tcp(listener, password) => {
            let password = Arc::new(password);
            while let Some((slot, stream, _)) = gateway::serve::next(&listener, &slots, &stop).await
            {
                let _ = stream.set_nodelay(true);
                let (shared, password) = (Arc::clone(&shared), Arc::clone(&password));
                work.spawn(async move {
                    let _slot = slot;
                    session(&shared, stream, Some(password.as_str())).await;
                });
            }
        }
        Listener::Unix(listener) => {
            while let Some((slot, stream)) = local::next(&listener, &slots, &stop).await {
                let shared = Arc::clone(&shared);
                work.spawn(async move {
                    let _slot = slot;
                    session(&shared, stream, None).await;
                });
            }
        }
    }
    work.close();
    let _ = tokio::time::timeout(FAREWELL, work.wait()).await;
}

/// Serves one client.
async fn session<C, S>(shared: &Shared<C>, mut client: S, password: Option<&str>)
where
    C: Credentials,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stop = shared.stop.clone();
    let told = tokio::select! {
        served = served(shared, &mut client, password) => match served {
            Ok(()) => return,
            Err(Refused::Told(told)) => told.to_bytes(),
            Err(Refused::Passed(told)) => told,
            Err(Refused::Broken(error)) => {
                tracing::debug!(%error, "a session ended early");
                return;
            }
        },
        () = stop.cancelled() => ErrorResponse::fatal("57P01", "the connector ends").to_bytes(),
    };
    let saying = async {
        client.write_all(&told).await?;
        client.shutdown().await
    };
    let _ = tokio::time::timeout(FAREWELL, saying).await;
}

/// Why a client was not served.
enum Refused {
    /// It is told why.
    Told(ErrorResponse),
    /// It is told what the gateway said.
    Passed(Bytes),
    /// It, or the gateway, is gone.
    Broken(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

async fn served<C, S>(
    shared: &Shared<C>,
    client: &mut S,
    password: Option<&str>,
) -> Result<(), Refused>
where
    C: Credentials,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let greeting = local::greet(client, &shared.server, password);
    let wanted = tokio::time::timeout(GREETING, greeting)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    match wanted {
        Wanted::Nothing => Ok(()),
        Wanted::Cancel { process, secret } => {
            let Gateway { address, tls } = &shared.gateway;
            upstream::cancel(address, tls.as_ref(), process, &secret).await;
            Ok(())
        }
        Wanted::Session { minor, parameters } => {
            let opened = remote::open(&shared.gateway, &shared.credentials, minor, &parameters);
            let (mut stream, begun) = opened.await?;
            client.write_all(&begun).await?;
            client.flush().await?;
            io::copy_bidirectional(client, &mut stream).await?;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
