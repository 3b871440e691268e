//! Connections to the gateway's proxy.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway::Body;
use http::uri::Scheme;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::super::http::{self as connector, innermost};
use super::super::trouble::Trouble;
use crate::failure::Failure;

/// Who answers there.
pub(super) const PROXY: &str = "the gateway's proxy";
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// The way to the gateway's proxy.
pub(super) struct Onward {
    url: String,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Onward {
    /// To a URL.
    ///
    /// # Errors
    /// [`Failure`] when it is no URL, or plain HTTP to another machine.
    pub(super) fn new(url: &str, authorities: Option<&Path>) -> Result<Self, Failure> {
        connector::check_url("the gateway's proxy", url)?;
        let wrong = || Failure::new(format!("the proxy's URL `{url}` cannot be used"));
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']);
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        let tls = if secure {
            let config = Arc::new(connector::tls(authorities)?);
            let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
            Some((TlsConnector::from(config), name))
        } else {
            None
        };
        Ok(Self {
            url: url.to_owned(),
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            tls,
        })
    }

    /// Sends one request on a connection of its own, as it is; resolves when the head of the answer is
    /// there. A tunnel is for [`hyper::upgrade::on`]. TLS is spoken as `certified` has it, if a certificate is
    /// to be shown.
    ///
    /// # Errors
    /// [`Trouble::Unreachable`]
    pub(super) async fn send(
        &self,
        request: Request<Body>,
        certified: Option<&Arc<rustls::ClientConfig>>,
    ) -> Result<Response<Incoming>, Trouble> {
        let unreachable = |why: String| Trouble::Unreachable {
            what: PROXY,
            url: self.url.clone(),
            why,
        };
        let dialled = tokio::time::timeout(CONNECT, self.dial(certified)).await;
        let stream = dialled
            .map_err(|_| unreachable("no connection in time".to_owned()))?
            .map_err(|error| unreachable(innermost(&error)))?;
        let failed = |error: hyper::Error| unreachable(innermost(&error));
        let (mut sender, connection) = http1::handshake::<_, Body>(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(failed)
    }

    async fn dial(
        &self,
        certified: Option<&Arc<rustls::ClientConfig>>,
    ) -> std::io::Result<Either<TcpStream, TlsStream<TcpStream>>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Either::Left(stream)),
            Some((tls, name)) => {
                let own = certified.map(|config| TlsConnector::from(Arc::clone(config)));
                let tls = own.as_ref().unwrap_or(tls);
                Ok(Either::Right(tls.connect(name.clone(), stream).await?))
            }
        }
    }
}

/// A request without content for the proxy.
pub(super) fn bare() -> Body {
    gateway::full(Bytes::new())
}
