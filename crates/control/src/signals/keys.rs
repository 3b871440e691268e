//! The keys of a transmitter: where they are, kept for a while, and fetched again when they change.

use std::sync::Arc;
use std::time::Duration;

use gateway::upstream::Web;
use http::header::ACCEPT;
use http::{HeaderValue, Request, StatusCode};
use identity::{ForeignKeys, NotSigned};
use model::config::SignalTransmitter;
use response::signals;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::delivery::read;
use super::places::{Places, metadata_of};
use super::taking::NotTaken;

/// How long keys are used before they are fetched again.
const FRESH: Duration = Duration::from_secs(600);
/// How soon keys are fetched again when they do not verify something.
const AGAIN: Duration = Duration::from_secs(30);
/// How soon they are fetched again when they could not be.
const RETRY: Duration = Duration::from_secs(5);
/// Longest set of keys, in bytes.
const BYTES: usize = 256 << 10;
/// How long a server may take for them.
const ANSWER: Duration = Duration::from_secs(30);

/// Where keys are.
enum Whereabouts {
    /// At a server of the configuration.
    Server(Arc<Web>, String),
    /// At this URL.
    Url(String),
    /// Where the metadata of this issuer says.
    Metadata(String),
}

/// The keys of one transmitter.
pub(super) struct Keys {
    whereabouts: Whereabouts,
    places: Arc<Places>,
    held: tokio::sync::Mutex<Held>,
}

#[derive(Default)]
struct Held {
    keys: Option<(ForeignKeys, Instant)>,
    /// When they could not be fetched, and why.
    failed: Option<(Instant, String)>,
}

impl Keys {
    /// The keys where the configuration says that they are.
    ///
    /// # Errors
    /// When it says nothing, or two things.
    pub(super) fn of(
        config: &SignalTransmitter,
        web: Option<&Arc<Web>>,
        places: &Arc<Places>,
    ) -> Result<Self, String> {
        let whereabouts = match (&config.jwks_uri, config.discover, &config.keys, web) {
            (Some(url), false, None, _) => Whereabouts::Url(url.clone()),
            (None, true, None, _) => Whereabouts::Metadata(config.issuer.clone()),
            (None, false, path, Some(web)) => {
                let path = path.clone().unwrap_or_else(|| "/jwks.json".to_owned());
                Whereabouts::Server(Arc::clone(web), path)
            }
            (None, false, _, None) => {
                return Err("nothing says where its keys are: `server` with `keys`, `jwks_uri` or `discover`".to_owned());
            }
            _ => {
                return Err(
                    "`keys`, `jwks_uri` and `discover` say three ways where its keys are: name one"
                        .to_owned(),
                );
            }
        };
        Ok(Self {
            whereabouts,
            places: Arc::clone(places),
            held: tokio::sync::Mutex::default(),
        })
    }

    /// The claims of a token that one of the keys signed.
    ///
    /// # Errors
    /// [`NotTaken`]
    pub(super) async fn claims(&self, text: &str) -> Result<Value, NotTaken> {
        // One at a time: others wait for the same keys.
        let mut held = self.held.lock().await;
        let age = |held: &Held| held.keys.as_ref().map(|(_, at)| at.elapsed());
        if age(&held).is_none_or(|age| age > FRESH) {
            self.fetch_into(&mut held).await?;
        }
        let claims = |held: &Held| match &held.keys {
            Some((keys, _)) => keys.claims(text, signals::TYPE),
            None => Err(NotSigned::UnknownKey),
        };
        match claims(&held) {
            // The transmitter may have a new key, also under the name of an old one.
            Err(NotSigned::UnknownKey | NotSigned::Signature)
                if age(&held).is_some_and(|age| age > AGAIN) =>
            {
                self.fetch_into(&mut held).await?;
                Ok(claims(&held)?)
            }
            read => Ok(read?),
        }
    }

    /// Old keys are not used when there are no new ones: who knows whether they still hold.
    async fn fetch_into(&self, held: &mut Held) -> Result<(), NotTaken> {
        if let Some((at, why)) = &held.failed
            && at.elapsed() < RETRY
        {
            return Err(NotTaken::Keys(why.clone()));
        }
        match self.fetch().await {
            Ok(keys) => {
                *held = Held {
                    keys: Some((keys, Instant::now())),
                    failed: None,
                };
                Ok(())
            }
            Err(why) => {
                held.failed = Some((Instant::now(), why.clone()));
                Err(NotTaken::Keys(why))
            }
        }
    }

    async fn fetch(&self) -> Result<ForeignKeys, String> {
        let text = match &self.whereabouts {
            Whereabouts::Server(web, path) => from_server(web, path).await?,
            Whereabouts::Url(url) => self.places.get(url).await?.to_vec(),
            Whereabouts::Metadata(issuer) => {
                let url = self.discover(issuer).await?;
                self.places.get(&url).await?.to_vec()
            }
        };
        let keys = ForeignKeys::read(&text).map_err(|error| error.to_string())?;
        if keys.is_empty() {
            return Err("none of its keys is of a kind that is taken".to_owned());
        }
        Ok(keys)
    }

    /// Where the metadata says that the keys are. It must be the metadata of this very issuer (SSF 1.0
    /// §7.2.3).
    async fn discover(&self, issuer: &str) -> Result<String, String> {
        #[derive(Deserialize)]
        struct Metadata {
            issuer: String,
            jwks_uri: Option<String>,
        }
        let text = self.places.get(&metadata_of(issuer)?).await?;
        let metadata: Metadata = serde_json::from_slice(&text)
            .map_err(|_| "its metadata is not what SSF 1.0 §7.1 says".to_owned())?;
        if metadata.issuer != issuer {
            return Err("its metadata is of another issuer".to_owned());
        }
        let none = || "its metadata names no `jwks_uri`".to_owned();
        metadata.jwks_uri.ok_or_else(none)
    }
}

async fn from_server(web: &Web, path: &str) -> Result<Vec<u8>, String> {
    let mut request = Request::new(gateway::full(""));
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(ACCEPT, json);
    let fetched = tokio::time::timeout(ANSWER, read(web, request, path, BYTES)).await;
    let (status, body) =
        fetched.unwrap_or_else(|_| Err("no answer within 30 seconds".to_owned()))?;
    match status {
        StatusCode::OK => Ok(body),
        status => Err(format!("it answered with {status}")),
    }
}

#[cfg(test)]
mod tests;
