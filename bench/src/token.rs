//! Tokens for the load, got from the token service as any instance gets them.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, Uri};
use http_body_util::BodyExt;
use identity::InstanceKey;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{Failure, Whole, connect};

/// A token, and how it is presented.
pub struct Token {
    /// The token.
    pub text: String,
    /// `Bearer` or `DPoP`.
    pub scheme: &'static str,
    /// The key to prove with, when the token is bound to it.
    pub key: Option<InstanceKey>,
}

/// What a token is got for.
pub struct Errand<'a> {
    /// The instance's folder; its key authenticates at the token service.
    pub instance: &'a Path,
    /// The task to act in.
    pub task: &'a str,
    /// The URL of the server at the gateway, which ends with its kind and its name.
    pub resource: &'a str,
    /// Whether the token is bound to the instance's key (RFC 9449).
    pub dpop: bool,
}

/// Ids that nobody used before: what is random comes first, then a number.
pub struct Unique {
    random: u64,
    next: AtomicU64,
}

impl Unique {
    /// A new beginning.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new() -> Result<Self, Failure> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)?;
        Ok(Self {
            random: u64::from_ne_bytes(random),
            next: AtomicU64::new(0),
        })
    }

    /// The next id.
    pub fn next(&self) -> String {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}{next:016x}", self.random)
    }
}

/// Gets a token at the token service with the instance's key (RFC 7523), for the task and the server.
///
/// # Errors
/// When the folder is no instance's, or the service gives no token.
pub async fn fetch(errand: &Errand<'_>) -> Result<Token, Failure> {
    let about: Value =
        serde_json::from_slice(&std::fs::read(errand.instance.join("instance.json"))?)?;
    let key = InstanceKey::load_pem(&errand.instance.join("key.pem"))?;
    let text = |name: &str| {
        about[name]
            .as_str()
            .map(str::to_owned)
            .ok_or("not an instance")
    };
    let (issuer, client) = (text("control")?, text("id")?);
    let endpoint: Uri = format!("{issuer}/oauth/token").parse()?;
    let (now, unique) = (Timestamp::now(), Unique::new()?);
    let assertion = key.sign_assertion(&client, &issuer, now, &unique.next())?;
    let kind = errand.resource.rsplit('/').nth(1);
    let kind = kind.ok_or("the resource has no kind in its path")?;
    let details = json!([{ "type": "sallyport_task", "task": errand.task }]).to_string();
    let form = [
        ("grant_type", "client_credentials"),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_assertion", &assertion),
        ("scope", kind),
        ("resource", errand.resource),
        ("authorization_details", &details),
    ];
    let form = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let authority = endpoint
        .authority()
        .ok_or("the issuer names no host")?
        .as_str();
    let mut request = Request::post("/oauth/token")
        .header(HOST, authority)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    if errand.dpop {
        let url = endpoint.to_string();
        request = request.header(
            "dpop",
            key.sign_dpop("POST", &url, None, None, now, &unique.next())?,
        );
    }
    let mut connection = connect(authority).await?;
    let response = connection
        .send_request(request.body(Whole::new(Bytes::from(form)))?)
        .await?;
    let body = response.into_body().collect().await?.to_bytes();
    let answer: Value = serde_json::from_slice(&body)?;
    let token = answer["access_token"]
        .as_str()
        .ok_or_else(|| format!("no token: {answer}"))?;
    Ok(Token {
        scheme: if errand.dpop { "DPoP" } else { "Bearer" },
        text: token.to_owned(),
        key: errand.dpop.then_some(key),
    })
}
