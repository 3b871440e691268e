//! Connections to a database, with TLS where it is configured.

use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::tls::Tls;
use super::{Address, Database, UpstreamError};

/// How long a connection may take to be made.
const CONNECTING: Duration = Duration::from_secs(10);

/// A connection.
pub(crate) type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// Connects to a database.
///
/// # Errors
/// [`UpstreamError`]
pub(crate) async fn dial(database: &Database) -> Result<Stream, UpstreamError> {
    connect(&database.address, database.tls.as_ref()).await
}

/// Connects to something that speaks PostgreSQL, with TLS if there is any.
///
/// # Errors
/// [`UpstreamError`]
pub(crate) async fn connect(address: &Address, tls: Option<&Tls>) -> Result<Stream, UpstreamError> {
    let connecting = async {
        let mut stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = tls else {
            return Ok(Either::Left(stream));
        };
        // SSLRequest (§55.2.10).
        stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await?;
        if stream.read_u8().await? != b'S' {
            return Err(UpstreamError::NoTls);
        }
        Ok(Either::Right(tls.connect(stream).await?))
    };
    tokio::time::timeout(CONNECTING, connecting)
        .await
        .map_err(|_| UpstreamError::TimedOut)?
}

/// Asks a database to cancel what a session carries out (§55.2.8). Whether it did is not told.
pub(crate) async fn cancel(address: &Address, tls: Option<&Tls>, process: u32, secret: &[u8]) {
    let asking = async {
        let mut stream = connect(address, tls).await?;
        let mut message = BytesMut::with_capacity(16);
        message.put_u32(u32::try_from(12 + secret.len()).unwrap_or(16));
        message.put_u32(80_877_102);
        message.put_u32(process);
        message.put_slice(secret);
        stream.write_all(&message).await?;
        stream.flush().await?;
        // It closes the connection when it has done so.
        let _ = stream.read_u8().await;
        Ok::<_, UpstreamError>(())
    };
    match tokio::time::timeout(CONNECTING, asking).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a cancellation was not passed on"),
        Err(_) => tracing::debug!("a cancellation was not passed on in time"),
    }
}
