//! Access tokens that the gateway itself gets, to ask a transmitter for events (RFC 6749 §4.4).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use model::config::{ClientCredentials, SecretMethod};
use serde::Deserialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::places::Places;

/// Longest token, in bytes.
const TOKEN: usize = 16 << 10;
/// How long a token is used of which nobody says how long it is good, and how much earlier than said another
/// one is asked for.
const UNSAID: Duration = Duration::from_secs(60);
const EARLY: Duration = Duration::from_secs(30);
/// How long a token is used at most, whatever is said.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Gets tokens, and keeps the last one while it is good.
pub(super) struct Tokens {
    config: ClientCredentials,
    secret: Zeroizing<String>,
    places: Arc<Places>,
    held: tokio::sync::Mutex<Option<(HeaderValue, Instant)>>,
}

impl Tokens {
    /// # Errors
    /// When the secret cannot be read.
    pub(super) fn of(config: &ClientCredentials, places: &Arc<Places>) -> Result<Self, String> {
        let secret = gateway::upstream::read_secret(&config.client_secret)
            .map_err(|why| format!("its `client_secret`: {why}"))?;
        let secret = std::str::from_utf8(&secret)
            .map_err(|_| "its `client_secret` is not text".to_owned())?;
        Ok(Self {
            config: config.clone(),
            secret: Zeroizing::new(secret.to_owned()),
            places: Arc::clone(places),
            held: tokio::sync::Mutex::default(),
        })
    }

    /// The header that shows a good token.
    ///
    /// # Errors
    /// Why there is none, in words; never a secret.
    pub(super) async fn header(&self) -> Result<HeaderValue, String> {
        let mut held = self.held.lock().await;
        if let Some((header, until)) = &*held
            && Instant::now() < *until
        {
            return Ok(header.clone());
        }
        let (header, lasts) = self.fetch().await?;
        *held = Some((header.clone(), Instant::now() + lasts));
        Ok(header)
    }

    /// The token was refused, so another one is got next time.
    pub(super) async fn forget(&self) {
        *self.held.lock().await = None;
    }

    async fn fetch(&self) -> Result<(HeaderValue, Duration), String> {
        let (headers, form) = self.request()?;
        let url = &self.config.token_endpoint;
        let answered = self.places.post_form(url, headers, form).await;
        let (status, body) = answered.map_err(|why| format!("no token: {why}"))?;
        if status != StatusCode::OK {
            return Err(format!("the token endpoint answered with {status}"));
        }
        token_in(&body).ok_or_else(|| {
            "the token endpoint's answer holds no bearer token (RFC 6749 §5.1)".to_owned()
        })
    }

    /// The header with the client's secret, if it stands there, and the form (RFC 6749 §2.3.1, §4.4.2).
    fn request(&self) -> Result<(HeaderMap, Bytes), String> {
        let (id, secret) = (&self.config.client_id, self.secret.as_str());
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        let optional = [
            ("scope", &self.config.scope),
            ("resource", &self.config.resource),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        let mut headers = HeaderMap::new();
        match self.config.method {
            SecretMethod::ClientSecretPost => {
                form.append_pair("client_id", id)
                    .append_pair("client_secret", secret);
            }
            SecretMethod::ClientSecretBasic => {
                let encoded = |text: &str| -> Zeroizing<String> {
                    Zeroizing::new(form_urlencoded::byte_serialize(text.as_bytes()).collect())
                };
                let pair = Zeroizing::new(format!("{}:{}", *encoded(id), *encoded(secret)));
                let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
                let mut value = HeaderValue::from_str(&value)
                    .map_err(|_| "its client cannot be written down".to_owned())?;
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
        }
        Ok((headers, Bytes::from(form.finish())))
    }
}

/// The token of an answer as a header, and for how long it is used.
fn token_in(body: &[u8]) -> Option<(HeaderValue, Duration)> {
    #[derive(Deserialize)]
    struct Answer {
        access_token: String,
        token_type: String,
        expires_in: Option<u64>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let token = Zeroizing::new(answer.access_token);
    let is_plain =
        (1..=TOKEN).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    if !is_plain || !answer.token_type.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let header = Zeroizing::new(format!("Bearer {}", *token));
    let mut header = HeaderValue::from_str(&header).ok()?;
    header.set_sensitive(true);
    let lasts = answer.expires_in.map_or(UNSAID, Duration::from_secs);
    Some((header, lasts.saturating_sub(EARLY).min(LONGEST)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tokens(method: &str) -> Tokens {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "s&cret: ü").unwrap();
        let config = json!({
            "issuer": "https://a", "audience": "b",
            "oauth": {
                "token_endpoint": "https://a/token", "client_id": "me:1", "method": method,
                "client_secret": { "file": file }, "scope": "ssf.read ssf.manage",
            },
        });
        let config: model::config::SignalTransmitter = serde_json::from_value(config).unwrap();
        let places = Arc::new(Places::of(&config).unwrap());
        Tokens::of(config.oauth.as_ref().unwrap(), &places).unwrap()
    }

    #[test]
    fn the_secret_stands_in_one_place_and_is_encoded_for_it() {
        let (headers, form) = tokens("client_secret_basic").request().unwrap();
        let shown = headers[AUTHORIZATION].to_str().unwrap();
        let pair = STANDARD
            .decode(shown.strip_prefix("Basic ").unwrap())
            .unwrap();
        assert_eq!(pair, b"me%3A1:s%26cret%3A+%C3%BC");
        assert!(headers[AUTHORIZATION].is_sensitive());
        assert_eq!(
            form,
            "grant_type=client_credentials&scope=ssf.read+ssf.manage"
        );
        let (headers, form) = tokens("client_secret_post").request().unwrap();
        assert!(headers.is_empty());
        let form = std::str::from_utf8(&form).unwrap();
        assert!(
            form.ends_with("&client_id=me%3A1&client_secret=s%26cret%3A+%C3%BC"),
            "{form}"
        );
    }

    #[test]
    fn only_bearer_tokens_are_taken_and_not_for_long() {
        let token = |answer: serde_json::Value| token_in(answer.to_string().as_bytes());
        let (header, lasts) =
            token(json!({ "access_token": "abc", "token_type": "Bearer", "expires_in": 300 }))
                .unwrap();
        assert_eq!(
            (header.to_str().unwrap(), lasts.as_secs()),
            ("Bearer abc", 270)
        );
        assert!(header.is_sensitive());
        let for_ever =
            json!({ "access_token": "abc", "token_type": "bearer", "expires_in": u64::MAX });
        assert_eq!(token(for_ever).unwrap().1, LONGEST);
        let unsaid = json!({ "access_token": "abc", "token_type": "bearer" });
        assert_eq!(token(unsaid).unwrap().1, UNSAID - EARLY);
        for bad in [
            json!({ "access_token": "abc", "token_type": "DPoP" }),
            json!({ "access_token": "a\r\nb", "token_type": "Bearer" }),
            json!({ "access_token": "", "token_type": "Bearer" }),
            json!({ "error": "invalid_client" }),
        ] {
            assert!(token(bad.clone()).is_none(), "{bad}");
        }
    }
}
