//! A listener on this machine for PostgreSQL clients as they are: each session of theirs becomes one at the
//! gateway, with a token and a proof made for it alone.
//!
//! Who can reach the listener acts as the agent. So over TCP it is on loopback only and has a password that is
//! made at the start; a socket lets in only who runs as the same user, and needs none.

use std::fs::DirBuilder;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::ServerName;
use postgres::connector::{self, Credentials, Gateway, Listener, Shown};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::at::{self, At};
use super::channel::Channel;
use super::{farewell, until};
use crate::failure::Failure;
use crate::output;

/// The socket in its folder, as all clients of PostgreSQL look for it.
const SOCKET: &str = ".s.PGSQL.5432";

/// A socket file, which goes with the listener.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        // What stays behind is taken over by the next listener in the folder.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What sessions at the gateway are begun with.
struct Ours(Arc<Channel>);

impl Credentials for Ours {
    async fn shown(&self, again: bool) -> Result<Shown, String> {
        self.0.shown(again).await.map_err(|trouble| {
            output::note(format_args!("{trouble}"));
            trouble.to_string()
        })
    }

    fn take_nonce(&self, nonce: &str) {
        self.0.take_nonce(nonce);
    }
}

/// Serves until the signal comes, then completes the task if it was opened here. `url` is where the gateway has
/// the database.
///
/// # Errors
/// [`Failure`] when nothing can listen there, or the gateway's address cannot be used.
pub(super) async fn serve(
    channel: Channel,
    complete: bool,
    (server, url): (ServerName, &str),
    at: At,
    authorities: Option<&Path>,
    signal: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let channel = Arc::new(channel);
    let served = listen(&channel, server, url, at, authorities, signal).await;
    if complete {
        farewell("the task", channel.complete_task()).await;
    }
    served
}

async fn listen(
    channel: &Arc<Channel>,
    server: ServerName,
    url: &str,
    at: At,
    authorities: Option<&Path>,
    signal: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let gateway = Gateway::new(url, authorities).map_err(|why| {
        Failure::new(format!(
            "the gateway's database address cannot be used: {why}"
        ))
    })?;
    let (listener, shown, _socket) = match at {
        At::Address(address) => {
            let (listener, shown) = on_address(&server, address).await?;
            (listener, shown, None)
        }
        At::Folder(folder) => {
            let (listener, shown, socket) = in_folder(&server, &folder)?;
            (listener, shown, Some(socket))
        }
    };
    output::line(shown)?;
    let stop = CancellationToken::new();
    let credentials = Ours(Arc::clone(channel));
    let serving = connector::serve(server, gateway, credentials, listener, stop.clone());
    until(signal, &stop, serving).await;
    Ok(())
}

async fn on_address(
    server: &ServerName,
    address: SocketAddr,
) -> Result<(Listener, String), Failure> {
    if !address.ip().is_loopback() {
        return Err(Failure::usage(format!(
            "{address} can be reached from elsewhere: whoever reaches it could act as the agent"
        ))
        .hint("listen on 127.0.0.1, or in a folder"));
    }
    let (listener, bound) = at::bind(address).await?;
    let secret = at::secret::<24>()?;
    let shown = format!("postgres://agent:{}@{bound}/{server}", secret.as_str());
    Ok((Listener::Tcp(listener, secret), shown))
}

fn in_folder(server: &ServerName, folder: &Path) -> Result<(Listener, String, Socket), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!(
            "nothing can listen in {}: {error}",
            folder.display()
        ))
    };
    let folder = std::path::absolute(folder).map_err(|error| failed(&error))?;
    let shown = folder
        .to_str()
        .filter(|path| !path.contains(['?', '&', '#', '%', ' ', '"', '\'']))
        .ok_or_else(|| failed(&"its path has characters that URLs do not take as they are"))?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(|error| failed(&error))?;
    let about = std::fs::metadata(&folder).map_err(|error| failed(&error))?;
    if about.uid() != rustix::process::geteuid().as_raw() || about.mode() & 0o022 != 0 {
        // Who can write there could put a socket of their own in place of this one.
        return Err(failed(
            &"others than its owner can write there, or it belongs to another user",
        )
        .hint("name a folder that is yours alone"));
    }
    let path = folder.join(SOCKET);
    let listener = bind(&path).map_err(|error| failed(&error))?;
    let socket = Socket(path);
    std::fs::set_permissions(&socket.0, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| failed(&error))?;
    let shown = format!("postgres://agent@/{server}?host={shown}");
    Ok((Listener::Unix(listener), shown, socket))
}

/// Takes the socket; one that nobody listens at any more is taken over.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let left = std::os::unix::net::UnixStream::connect(path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            if !left {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> ServerName {
        ServerName::parse("crm").unwrap()
    }

    #[tokio::test]
    async fn a_socket_is_its_users_alone_and_a_dead_one_is_taken_over() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("run");
        let (listener, shown, socket) = in_folder(&server(), &folder).unwrap();
        assert_eq!(
            shown,
            format!("postgres://agent@/crm?host={}", folder.display())
        );
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&socket.0)), (0o700, 0o600));
        assert!(in_folder(&server(), &folder).is_err(), "it is in use");
        drop(listener);
        std::mem::forget(socket);
        let (_, _, socket) = in_folder(&server(), &folder).unwrap();
        let path = socket.0.clone();
        drop(socket);
        assert!(!path.exists());
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(in_folder(&server(), &folder).is_err());
    }

    #[tokio::test]
    async fn only_this_machine_reaches_an_address() {
        let elsewhere = "0.0.0.0:0".parse().unwrap();
        assert!(on_address(&server(), elsewhere).await.is_err());
        let here = "127.0.0.1:0".parse().unwrap();
        let (one, other) = (
            on_address(&server(), here).await.unwrap().1,
            on_address(&server(), here).await.unwrap().1,
        );
        let secret = |url: &str| url.split('@').next().unwrap().to_owned();
        assert!(one.starts_with("postgres://agent:") && secret(&one) != secret(&other));
    }
}
