//! The client's side: what it wants, and whether it may.

use std::sync::Arc;
use std::time::Duration;

use model::ServerName;
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::Refused;
use crate::wire::backend::ErrorResponse;
use crate::wire::password;
use crate::wire::startup::{self, NEWEST_MINOR, Startup};

/// How long accepting rests after it failed.
const REST: Duration = Duration::from_millis(20);

/// What a client wants.
pub(super) enum Wanted {
    /// Nothing more.
    Nothing,
    /// To have a statement of another connection cancelled.
    Cancel {
        /// The number of that connection.
        process: u32,
        /// Its secret.
        secret: Vec<u8>,
    },
    /// A session.
    Session {
        /// The minor version of the protocol that it will have.
        minor: u16,
        /// Its parameters, those that are not spoken here aside.
        parameters: Vec<(String, String)>,
    },
}

/// The next client at a socket, with one of the slots; `None` once `stop` is cancelled. Clients of other users
/// are turned away, whatever the socket's own permissions let through.
pub(super) async fn next(
    listener: &UnixListener,
    slots: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(OwnedSemaphorePermit, UnixStream)> {
    let accepted = async {
        let slot = Arc::clone(slots).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) if is_own(&stream) => return Some((slot, stream)),
                Ok(_) => tracing::warn!("a client of another user was turned away"),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    };
    tokio::select! {
        accepted = accepted => accepted,
        () = stop.cancelled() => None,
    }
}

fn is_own(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own)
}

/// Reads a client's first messages, and asks for its password where there is one.
pub(super) async fn greet<S>(
    client: &mut S,
    server: &ServerName,
    secret: Option<&str>,
) -> Result<Wanted, Refused>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for _ in 0..3 {
        let Some(body) = startup::receive(client).await? else {
            return Ok(Wanted::Nothing);
        };
        match Startup::read(&body).map_err(|error| Refused::Told(error.response()))? {
            // Nothing leaves this machine here.
            Startup::Ssl | Startup::Gssenc => {
                client.write_all(b"N").await?;
                client.flush().await?;
            }
            Startup::Cancel { process, secret } => {
                return Ok(Wanted::Cancel { process, secret });
            }
            Startup::Session { minor, parameters } => {
                let negotiation = startup::negotiation(minor, &parameters);
                match secret {
                    Some(secret) => {
                        password::ask(client, negotiation).await?;
                        let given = password::receive(client).await?;
                        let given = given.as_ref().map_or(&[][..], |given| given.as_bytes());
                        let right: bool = given.ct_eq(secret.as_bytes()).into();
                        if !right {
                            return Err(Refused::Told(wrong_password()));
                        }
                    }
                    None => {
                        if let Some(negotiation) = negotiation {
                            client.write_all(&negotiation).await?;
                        }
                    }
                }
                return Ok(Wanted::Session {
                    minor: minor.min(NEWEST_MINOR),
                    parameters: accepted(parameters, server)?,
                });
            }
        }
    }
    Ok(Wanted::Nothing)
}

fn wrong_password() -> ErrorResponse {
    ErrorResponse::fatal("28P01", "the password is not the connector's")
        .hint("use exactly the URL that `sallyport connect` printed")
}

/// The parameters of the session at the gateway. The database is the server, whatever the user is called.
fn accepted(
    parameters: Vec<(String, String)>,
    server: &ServerName,
) -> Result<Vec<(String, String)>, Refused> {
    let named = parameters.iter().find(|(name, _)| name == "database");
    if let Some((_, name)) = named
        && name != server.as_str()
    {
        let shown: String = name.chars().take(64).collect();
        let told = ErrorResponse::fatal("3D000", format!("the database \"{shown}\" is not here"))
            .hint(format!("this connector is for \"{server}\" alone"));
        return Err(Refused::Told(told));
    }
    let mut accepted: Vec<_> = parameters
        .into_iter()
        .filter(|(name, _)| name != "database" && !startup::is_option(name))
        .collect();
    accepted.push(("database".to_owned(), server.to_string()));
    Ok(accepted)
}
