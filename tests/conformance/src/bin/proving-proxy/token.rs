//! Access tokens for one resource and task, and proofs of possession for them.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use identity::InstanceKey;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::Failure;

/// A token is replaced when less than this is left of its life.
const RENEW_BEFORE: Duration = Duration::from_secs(60);
/// Longest answer of the token endpoint, in bytes.
const ANSWER_BYTES: usize = 64 << 10;

/// The tokens of one instance for one resource, got when needed.
pub(crate) struct Tokens {
    client: Client<HttpConnector, Full<Bytes>>,
    key: InstanceKey,
    about: About,
    task: String,
    resource: String,
    issuer: String,
    current: Mutex<Option<Current>>,
}

/// What an instance's folder says of it.
#[derive(Deserialize)]
struct About {
    id: String,
}

struct Current {
    token: Zeroizing<String>,
    renew_at: Instant,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

impl Tokens {
    /// For the instance whose folder it is.
    pub(crate) fn new(
        instance: &Path,
        task: String,
        resource: String,
        control: Uri,
    ) -> Result<Self, Failure> {
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            key: InstanceKey::load_pem(&instance.join("key.pem"))?,
            about: serde_json::from_slice(&std::fs::read(instance.join("instance.json"))?)?,
            task,
            resource,
            issuer: control.to_string().trim_end_matches('/').to_owned(),
            current: Mutex::new(None),
        })
    }

    /// A token that is good for a while.
    pub(crate) async fn current(&self) -> Result<Zeroizing<String>, Failure> {
        let mut current = self.current.lock().await;
        if let Some(current) = current.as_ref().filter(|one| Instant::now() < one.renew_at) {
            return Ok(current.token.clone());
        }
        let asked_at = Instant::now();
        let granted = self.fetch().await?;
        let life = Duration::from_secs(granted.expires_in).saturating_sub(RENEW_BEFORE);
        let token = Zeroizing::new(granted.access_token);
        *current = Some(Current {
            token: token.clone(),
            renew_at: asked_at + life,
        });
        Ok(token)
    }

    /// A proof for one request with the token.
    pub(crate) fn prove(&self, method: &str, token: &str) -> Result<String, Failure> {
        let now = Timestamp::now();
        Ok(self
            .key
            .sign_dpop(method, &self.resource, Some(token), None, now, &unique()?)?)
    }

    /// Asks the token endpoint (RFC 6749 §4.4 with RFC 7523, 8707, 9396 and 9449).
    async fn fetch(&self) -> Result<Granted, Failure> {
        let endpoint = format!("{}/oauth/token", self.issuer);
        let now = Timestamp::now();
        let assertion = self
            .key
            .sign_assertion(&self.about.id, &self.issuer, now, &unique()?)?;
        let details = json!([{ "type": "sallyport_task", "task": self.task }]).to_string();
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.about.id),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", &assertion),
            ("scope", "mcp"),
            ("resource", &self.resource),
            ("authorization_details", &details),
        ];
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let proof = self
            .key
            .sign_dpop("POST", &endpoint, None, None, now, &unique()?)?;
        let request = Request::post(&endpoint)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("dpop", proof)
            .body(Full::new(Bytes::from(form)))?;
        let response = self.client.request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES)
            .collect()
            .await?
            .to_bytes();
        if !status.is_success() {
            // An OAuth error names no secret (RFC 6749 §5.2).
            return Err(format!("no token: {status} {}", String::from_utf8_lossy(&body)).into());
        }
        Ok(serde_json::from_slice(&body)?)
    }
}

/// A `jti` that nobody used before.
fn unique() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_ids_are_the_same() {
        assert_ne!(unique().unwrap(), unique().unwrap());
    }
}
