//! The gateway's side: a session there, with credentials of its own.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt as _;

use super::{Credentials, Gateway, Refused, Shown};
use crate::upstream::{Stream, UpstreamError, connect, receive};
use crate::wire::backend::{ErrorResponse, NONCE, read_detail, read_error};
use crate::wire::{HEADER, password, startup};

/// Longest message before a session begins, in bytes.
const LONGEST: usize = 64 << 10;
/// Most messages before it does.
const MESSAGES: usize = 16;
/// How long it may take to begin: the gateway makes a role first, and may have to wait for tables.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of one try.
enum Tried {
    /// The session is open; what the gateway said so far is for the client.
    Open(Box<Stream>, BytesMut),
    /// The gateway said no, in a message for the client.
    Refused(Bytes),
}

/// Opens a session: the connection, and what the client gets first.
pub(super) async fn open<C: Credentials>(
    gateway: &Gateway,
    credentials: &C,
    minor: u16,
    parameters: &[(String, String)],
) -> Result<(Stream, BytesMut), Refused> {
    let (mut again, mut nonce_given) = (false, false);
    loop {
        let shown = credentials.shown(again).await.map_err(|why| {
            let told = ErrorResponse::fatal("28000", why)
                .hint("see what `sallyport connect` says, and whether the task is still open");
            Refused::Told(told)
        })?;
        let trying = try_once(gateway, &shown, minor, parameters);
        let tried = tokio::time::timeout(PATIENCE, trying)
            .await
            .unwrap_or(Err(UpstreamError::TimedOut));
        match tried.map_err(|error| Refused::Told(not_reached(&error)))? {
            Tried::Open(stream, begun) => return Ok((*stream, begun)),
            // The token is as good as it was: only the proof lacks something.
            Tried::Refused(message) if !nonce_given && let Some(nonce) = wanted_nonce(&message) => {
                nonce_given = true;
                credentials.take_nonce(&nonce);
            }
            // A token may have expired, or been revoked, since it was fetched.
            Tried::Refused(message) if !again && is_about_credentials(&message) => again = true,
            Tried::Refused(message) => return Err(Refused::Passed(message)),
        }
    }
}

async fn try_once(
    gateway: &Gateway,
    shown: &Shown,
    minor: u16,
    parameters: &[(String, String)],
) -> Result<Tried, UpstreamError> {
    let (own, user) = match (shown, &gateway.tls) {
        (Shown::Password(_), _) => (None, None),
        (Shown::Certificate { tls, task }, Some(known)) => {
            (Some(known.showing(tls)), Some(task.to_string()))
        }
        // Nothing to show it in.
        (Shown::Certificate { .. }, None) => return Err(UpstreamError::NoTls),
    };
    let mut stream = connect(&gateway.address, own.as_ref().or(gateway.tls.as_ref())).await?;
    // With a certificate, the user is the task; whatever the client calls itself says nothing.
    let parameters = parameters.iter().map(|(name, value)| match &user {
        Some(task) if name == "user" => (name.as_str(), task.as_str()),
        _ => (name.as_str(), value.as_str()),
    });
    let first = startup::session(minor, parameters);
    stream.write_all(&first).await?;
    stream.flush().await?;
    let mut buffer = BytesMut::with_capacity(8 << 10);
    let mut sent = user.is_some();
    for _ in 0..MESSAGES {
        let message = receive(&mut stream, &mut buffer, LONGEST).await?;
        match (message.tag, message.body(), shown) {
            (b'R', [0, 0, 0, 3], Shown::Password(password)) if !sent => {
                sent = true;
                stream.write_all(&password::message(password)).await?;
                stream.flush().await?;
            }
            (b'R', [0, 0, 0, 0], _) if sent => {
                let mut begun = BytesMut::from(message.bytes);
                begun.extend_from_slice(&buffer);
                return Ok(Tried::Open(Box::new(stream), begun));
            }
            (b'E', _, _) => return Ok(Tried::Refused(message.bytes)),
            (b'N', _, _) => {}
            _ => break,
        }
    }
    Err(UpstreamError::Protocol("an unexpected message"))
}

/// The nonce that the gateway wants in the proof, if that is why it refused.
fn wanted_nonce(message: &[u8]) -> Option<String> {
    let detail = read_detail(message.get(HEADER..).unwrap_or_default())?;
    let nonce = detail.strip_prefix(NONCE)?;
    Some(nonce.trim().to_owned())
}

fn is_about_credentials(message: &[u8]) -> bool {
    read_error(message.get(HEADER..).unwrap_or_default()).0 == "28P01"
}

fn not_reached(error: &UpstreamError) -> ErrorResponse {
    let what = match error {
        UpstreamError::Unreachable(error) => format!("the gateway cannot be reached: {error}"),
        UpstreamError::TimedOut => "the gateway did not answer in time".to_owned(),
        UpstreamError::NoTls => "the gateway does not offer TLS at this address".to_owned(),
        _ => "what answers at the gateway's address does not speak as the gateway does".to_owned(),
    };
    ErrorResponse::fatal("08001", what)
}
