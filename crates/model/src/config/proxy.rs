//! What the configuration says of the forward proxy for HTTP.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Listener, TlsFiles};

/// The forward proxy: a listener for clients that know of nothing but `HTTPS_PROXY` and `HTTP_PROXY`. It
/// leads to the servers of the kind `http`, and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proxy {
    /// The address to listen on. Anything but loopback needs `tls`.
    pub listen: SocketAddr,
    /// The URL that clients use, without a path or trailing slash; by default made from `listen`. Tokens
    /// and proofs for the proxy are bound to it.
    pub public_url: Option<String>,
    /// The certificate and key, in PEM files.
    pub tls: Option<TlsFiles>,
    /// Whether tunnels are looked into, at servers that do not say so themselves.
    pub inspect: bool,
    /// Seconds after which a tunnel ends through which nothing passes.
    pub idle_seconds: u64,
    /// Seconds after which a tunnel ends in any case.
    pub tunnel_seconds: u64,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8603)),
            public_url: None,
            tls: None,
            inspect: false,
            idle_seconds: 300,
            tunnel_seconds: 3_600,
        }
    }
}

impl Proxy {
    /// Its listener.
    #[must_use]
    pub fn listener(&self) -> Listener {
        Listener {
            public_url: self.public_url.clone(),
            tls: self.tls.clone(),
            ..Listener::on(self.listen)
        }
    }

    /// The URL that clients use, without a trailing slash: the resource that its tokens are for.
    #[must_use]
    pub fn base_url(&self) -> String {
        self.listener().base_url()
    }
}
