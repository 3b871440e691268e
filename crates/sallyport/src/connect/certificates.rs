//! The agent's certificates, where the task demands one on every connection: each has a key of its own, which is
//! made here and stays in memory, and is replaced when half of its life is over.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use control::api::Svid;
use identity::svid::Request;
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::http::{self, Http};
use super::trouble::Trouble;

/// One certificate, and how it is shown. Clones are the same one.
#[derive(Clone)]
pub(super) struct Certified {
    http: Http,
    tls: Arc<rustls::ClientConfig>,
    renew_at: Instant,
}

impl Certified {
    /// An HTTP client all of whose connections are made with the certificate.
    pub(super) fn http(&self) -> &Http {
        &self.http
    }

    /// TLS with the certificate.
    pub(super) fn tls(&self) -> &Arc<rustls::ClientConfig> {
        &self.tls
    }

    /// One that was issued a moment ago.
    fn new(request: &Request, svid: &Svid, authorities: Option<&Path>) -> Result<Self, Trouble> {
        let unusable = |why: &dyn std::fmt::Display| Trouble::Unexpected {
            what: "the SVID",
            why: why.to_string(),
        };
        let key = request.key().map_err(|error| unusable(&error))?;
        let tls = http::tls_as(authorities, &svid.certificate, &key)
            .map_err(|failure| unusable(&failure.message()))?;
        let life = svid.expires_at.duration_since(Timestamp::now());
        let life = Duration::try_from(life).unwrap_or(Duration::ZERO);
        Ok(Self {
            http: Http::over(tls.clone()),
            tls: Arc::new(tls),
            renew_at: Instant::now() + life / 2,
        })
    }
}

/// The certificates that are shown one after the other.
pub(super) struct Certificates {
    authorities: Option<PathBuf>,
    /// Held while one is fetched, so that one is enough for all who wait.
    current: Mutex<Option<Certified>>,
}

impl Certificates {
    /// None yet. The other side is verified by the certification authorities in a PEM file, or by the public
    /// ones.
    pub(super) fn new(authorities: Option<&Path>) -> Self {
        Self {
            authorities: authorities.map(Path::to_owned),
            current: Mutex::new(None),
        }
    }

    /// The one to show now; a new one is issued where there is none, or when half of its life is over.
    ///
    /// # Errors
    /// [`Trouble`]
    pub(super) async fn current<F>(&self, issue: impl FnOnce() -> F) -> Result<Certified, Trouble>
    where
        F: Future<Output = Result<(Request, Svid), Trouble>>,
    {
        let mut current = self.current.lock().await;
        if let Some(certified) = &*current
            && Instant::now() < certified.renew_at
        {
            return Ok(certified.clone());
        }
        let (request, svid) = issue().await?;
        let made = Certified::new(&request, &svid, self.authorities.as_deref())?;
        *current = Some(made.clone());
        Ok(made)
    }
}
