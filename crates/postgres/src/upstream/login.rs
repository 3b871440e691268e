//! Logging in at a database: SCRAM-SHA-256 (RFC 5802, RFC 7677) as the manual has it in §55.3.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Stream, UpstreamError};
use crate::wire::backend::{put, put_text, read_error};
use crate::wire::{self, Message, startup};

/// How long a login may take.
const LOGIN: Duration = Duration::from_secs(15);
/// Longest message during it, in bytes.
const LONGEST: usize = 64 << 10;
/// Most messages during it.
const MESSAGES: usize = 200;

/// Who logs in, and how the session shall be.
pub(crate) struct Login<'a> {
    pub(crate) user: &'a str,
    pub(crate) password: &'a [u8],
    pub(crate) database: &'a str,
    pub(crate) parameters: &'a [(&'a str, &'a str)],
}

/// A session that is ready for statements.
pub(crate) struct Ready {
    pub(crate) stream: Stream,
    /// What was read and not yet looked at.
    pub(crate) buffer: BytesMut,
    /// What the database said of its settings, as messages.
    pub(crate) status: Vec<Bytes>,
    /// What cancels its statements: number and secret.
    pub(crate) key: (u32, Bytes),
}

/// Logs in.
///
/// # Errors
/// [`UpstreamError`]
pub(crate) async fn login(stream: Stream, login: &Login<'_>) -> Result<Ready, UpstreamError> {
    tokio::time::timeout(LOGIN, log_in(stream, login))
        .await
        .map_err(|_| UpstreamError::TimedOut)?
}

async fn log_in(mut stream: Stream, login: &Login<'_>) -> Result<Ready, UpstreamError> {
    let named = [("user", login.user), ("database", login.database)];
    let parameters = named.iter().chain(login.parameters).copied();
    stream.write_all(&startup::session(0, parameters)).await?;
    stream.flush().await?;
    let mut buffer = BytesMut::with_capacity(8 << 10);
    let mut scram: Option<ScramSha256> = None;
    let mut authenticated = false;
    let mut status = Vec::new();
    let mut key = (0, Bytes::new());
    for _ in 0..MESSAGES {
        let message = receive(&mut stream, &mut buffer, LONGEST).await?;
        match message.tag {
            b'R' => {
                let answer = authentication(&message, login.password, &mut scram)?;
                match answer {
                    Some(answer) => {
                        stream.write_all(&answer).await?;
                        stream.flush().await?;
                    }
                    None => authenticated |= message.body() == [0; 4],
                }
            }
            b'S' => status.push(message.bytes),
            b'K' => {
                let body = message.body();
                let (process, _) = body
                    .split_first_chunk::<4>()
                    .ok_or(UpstreamError::Protocol("a key without a number"))?;
                key = (u32::from_be_bytes(*process), message.bytes.slice(9..));
            }
            b'Z' if authenticated => {
                return Ok(Ready {
                    stream,
                    buffer,
                    status,
                    key,
                });
            }
            b'E' => return Err(refused(&message)),
            b'N' | b'v' => {}
            _ => {
                return Err(UpstreamError::Protocol(
                    "an unexpected message at the login",
                ));
            }
        }
    }
    Err(UpstreamError::Protocol("too many messages at the login"))
}

fn authentication(
    message: &Message,
    password: &[u8],
    scram: &mut Option<ScramSha256>,
) -> Result<Option<BytesMut>, UpstreamError> {
    let bad = |_| UpstreamError::Protocol("SCRAM failed: the database could not prove itself");
    let (kind, rest) = message
        .body()
        .split_first_chunk::<4>()
        .ok_or(UpstreamError::Protocol("a short authentication message"))?;
    let mut out = BytesMut::new();
    match u32::from_be_bytes(*kind) {
        0 => Ok(None),
        10 => {
            let offered = rest.split(|byte| *byte == 0);
            if !offered.into_iter().any(|m| m == SCRAM_SHA_256.as_bytes()) || scram.is_some() {
                return Err(UpstreamError::Authentication(10));
            }
            let started = ScramSha256::new(password, ChannelBinding::unsupported());
            put(&mut out, b'p', |body| {
                put_text(body, SCRAM_SHA_256);
                let first = started.message();
                body.put_u32(u32::try_from(first.len()).unwrap_or(0));
                body.put_slice(first);
            });
            *scram = Some(started);
            Ok(Some(out))
        }
        11 => {
            let scram = scram.as_mut().ok_or(UpstreamError::Authentication(11))?;
            scram.update(rest).map_err(bad)?;
            put(&mut out, b'p', |body| body.put_slice(scram.message()));
            Ok(Some(out))
        }
        12 => {
            let scram = scram.as_mut().ok_or(UpstreamError::Authentication(12))?;
            scram.finish(rest).map_err(bad)?;
            Ok(None)
        }
        other => Err(UpstreamError::Authentication(other)),
    }
}

/// The next message.
pub(crate) async fn receive(
    stream: &mut Stream,
    buffer: &mut BytesMut,
    longest: usize,
) -> Result<Message, UpstreamError> {
    loop {
        if let Some(message) = wire::next(buffer, longest)? {
            return Ok(message);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// What an error of the database says.
pub(crate) fn refused(message: &Message) -> UpstreamError {
    let (code, message) = read_error(message.body());
    UpstreamError::Refused { code, message }
}
