//! The one HTTP client of the connector: no redirects, no proxies, nothing but what was asked for.

use std::time::Duration;

use bytes::Bytes;
use gateway::Body;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_rustls::ConfigBuilderExt as _;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::client::WantsClientCert;
use rustls::{ConfigBuilder, RootCertStore};

use super::trouble::Trouble;
use crate::failure::Failure;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the control listener may take for a whole answer.
const CONTROL: Duration = Duration::from_secs(30);
/// Longest answer of the control listener, in bytes.
const CONTROL_BYTES: usize = 1 << 20;

/// An HTTP client with its connections.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Body>,
}

impl Http {
    /// A client that trusts the public certification authorities, or those in a PEM file instead.
    ///
    /// # Errors
    /// [`Failure`] when the file cannot be read or holds no certificate.
    pub(crate) fn new(authorities: Option<&std::path::Path>) -> Result<Self, Failure> {
        tls(authorities).map(Self::over)
    }

    /// A client that speaks TLS so, with connections of its own.
    pub(crate) fn over(tls: rustls::ClientConfig) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .build(https);
        Self { client }
    }

    /// Sends a request; resolves when the head of the answer is there.
    ///
    /// # Errors
    /// [`Trouble::Unreachable`]
    pub(crate) async fn send(
        &self,
        what: &'static str,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Trouble> {
        let url = request.uri().to_string();
        let answer = self.client.request(request).await;
        answer.map_err(|error| Trouble::Unreachable {
            what,
            url,
            why: innermost(&error),
        })
    }

    /// Asks the control listener, and reads the whole answer.
    ///
    /// # Errors
    /// [`Trouble::Unreachable`] or [`Trouble::BrokenOff`]
    pub(crate) async fn ask(
        &self,
        what: &'static str,
        request: Request<Body>,
    ) -> Result<Response<Bytes>, Trouble> {
        self.ask_for(CONTROL_BYTES, what, request).await
    }

    /// The same, for an answer of at most so many bytes.
    ///
    /// # Errors
    /// [`Trouble::Unreachable`] or [`Trouble::BrokenOff`]
    pub(crate) async fn ask_for(
        &self,
        bytes: usize,
        what: &'static str,
        request: Request<Body>,
    ) -> Result<Response<Bytes>, Trouble> {
        let url = request.uri().to_string();
        let whole = async {
            let (head, body) = self.send(what, request).await?.into_parts();
            let body = read(body, bytes).await?;
            Ok(Response::from_parts(head, body))
        };
        tokio::time::timeout(CONTROL, whole)
            .await
            .unwrap_or_else(|_| {
                let why = format!("no answer within {} seconds", CONTROL.as_secs());
                Err(Trouble::Unreachable { what, url, why })
            })
    }
}

/// Reads a body of at most so many bytes.
///
/// # Errors
/// [`Trouble::BrokenOff`]
pub(crate) async fn read(body: Incoming, limit: usize) -> Result<Bytes, Trouble> {
    let whole = Limited::new(body, limit).collect().await;
    whole
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| {
            Trouble::BrokenOff(if error.is::<http_body_util::LengthLimitError>() {
                format!("it is longer than {limit} bytes")
            } else {
                innermost(&*error)
            })
        })
}

/// Checks a base URL from the instance's folder: tokens and proofs cross the network only
/// encrypted.
///
/// # Errors
/// [`Failure`] when it is no URL, or plain HTTP to somewhere else than this machine.
pub(crate) fn check_url(what: &str, url: &str) -> Result<(), Failure> {
    let wrong = |why: &str| {
        Failure::new(format!("the URL of {what}, `{url}`, {why}"))
            .hint("enrol the instance again, with the URL that the operator gives")
    };
    let uri: http::Uri = url.parse().map_err(|_| wrong("is no URL"))?;
    let host = uri.host().unwrap_or_default();
    let here = match host.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    };
    match uri.scheme_str() {
        _ if host.is_empty() || url.ends_with('/') => Err(wrong("is no base URL")),
        Some("https") => Ok(()),
        Some("http") if here => Ok(()),
        Some("http") => Err(wrong("is plain HTTP to another machine")),
        _ => Err(wrong("is neither http nor https")),
    }
}

/// TLS of this client: with the public certification authorities, or those in a PEM file instead.
///
/// # Errors
/// [`Failure`] when the file cannot be read or holds no certificate.
pub(crate) fn tls(authorities: Option<&std::path::Path>) -> Result<rustls::ClientConfig, Failure> {
    Ok(trusting(authorities)?.with_no_client_auth())
}

/// The same, showing a certificate to who asks for one: the certificate in PEM, its key as PKCS#8 in DER.
///
/// # Errors
/// [`Failure`] as of [`tls`], or when the two do not belong together.
pub(crate) fn tls_as(
    authorities: Option<&std::path::Path>,
    certificate: &str,
    key: &[u8],
) -> Result<rustls::ClientConfig, Failure> {
    use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
    let failed =
        |why: String| Failure::new(format!("the agent's certificate cannot be used: {why}"));
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
        .map_err(|error| failed(error.to_string()))?;
    let key = PrivatePkcs8KeyDer::from(key.to_vec());
    trusting(authorities)?
        .with_client_auth_cert(vec![certificate], key.into())
        .map_err(|error| failed(error.to_string()))
}

fn trusting(
    authorities: Option<&std::path::Path>,
) -> Result<ConfigBuilder<rustls::ClientConfig, WantsClientCert>, Failure> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(format!("TLS cannot be set up: {error}")))?;
    Ok(match authorities {
        Some(path) => config.with_root_certificates(roots(path)?),
        None => config.with_webpki_roots(),
    })
}

/// The certification authorities in a PEM file.
fn roots(path: &std::path::Path) -> Result<RootCertStore, Failure> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let failed = |why: String| {
        Failure::new(format!(
            "no certificates can be read from {}: {why}",
            path.display()
        ))
    };
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
    for certificate in certificates {
        certificate
            .map_err(|error| error.to_string())
            .and_then(|one| roots.add(one).map_err(|error| error.to_string()))
            .map_err(failed)?;
    }
    if roots.is_empty() {
        Err(failed("the file holds none".to_owned()))
    } else {
        Ok(roots)
    }
}

/// What lies at the bottom of an error: mostly the operating system's own words.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_cross_the_network_only_encrypted() {
        for good in [
            "https://gw.example.org",
            "http://127.0.0.1:8601",
            "http://[::1]:1",
            "http://localhost:8601",
        ] {
            assert!(check_url("the gateway", good).is_ok(), "{good}");
        }
        for bad in [
            "http://gw.example.org",
            "ftp://localhost",
            "gw",
            "",
            "https://gw.example.org/",
            "http://127.0.0.1.evil.org",
        ] {
            assert!(check_url("the gateway", bad).is_err(), "{bad}");
        }
    }
}
