//! The control listener as an instance meets it: tokens from the token endpoint (RFC 6749 §4.4 with
//! RFC 7523, 8707, 9396 and 9449), and the life of its task.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use control::api::Svid;
use gateway::{Body, full};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use identity::{InstanceKey, svid};
use jiff::Timestamp;
use model::{ApprovalId, ApprovalStatus, Proof, ServerName, TaskId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::certificates::{Certificates, Certified};
use super::http::Http;
use super::instance::InstanceFolder;
use super::nonce::LastNonce;
use super::trouble::Trouble;

const WHAT: &str = "the Sallyport control listener";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// A token is renewed when less than this is left of its life.
const RENEW_BEFORE: Duration = Duration::from_secs(30);

/// One instance towards the control listener.
pub(crate) struct Authority {
    http: Http,
    key: InstanceKey,
    about: InstanceFolder,
    /// Whose certificates it shows, where the task demands that.
    certificates: Option<Certificates>,
    /// What the control listener wants to see in proofs.
    nonce: LastNonce,
}

/// An access token. It has no `Debug`, so that it cannot be printed.
#[derive(Clone)]
pub(crate) struct Token {
    text: zeroize::Zeroizing<String>,
    renew_at: Instant,
    expires_at: Instant,
    /// What it is bound to, if it is bound to a certificate.
    certified: Option<Certified>,
}

impl Token {
    /// Whether it should be replaced.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        now >= self.renew_at
    }

    /// Whether it is still good, stale or not.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        now < self.expires_at
    }

    /// The client whose connections the token is good on; any, if it is bound to none.
    pub(super) fn http<'a>(&'a self, otherwise: &'a Http) -> &'a Http {
        let certified = self.certified.as_ref();
        certified.map_or(otherwise, Certified::http)
    }

    /// How TLS must be spoken on the connections that the token is good on, if it is bound to a certificate.
    pub(super) fn tls(&self) -> Option<&Arc<rustls::ClientConfig>> {
        self.certified.as_ref().map(Certified::tls)
    }

    /// Whether both are the same token.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// A task as it was opened.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Opened {
    /// Its id.
    pub(super) id: TaskId,
    /// When it ends by itself.
    pub(super) expires_at: Timestamp,
    /// What it may do, as far as that matters here.
    pub(super) grant: Granted,
    /// Where the servers that it grants are reached, each with the task in the URL.
    #[serde(default)]
    pub(super) urls: BTreeMap<ServerName, String>,
    /// Where the databases among them are reached.
    #[serde(default)]
    pub(super) databases: BTreeMap<ServerName, String>,
    /// The forward proxy to the HTTP APIs among them, if the gateway has one.
    #[serde(default)]
    pub(super) proxy: Option<String>,
}

/// What of a grant matters to who acts under it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Granted {
    /// The weakest proof that the task accepts.
    pub(super) proof: Proof,
}

/// What a task is opened with.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The template's name.
    pub(super) template: String,
    /// Its parameters.
    pub(super) parameters: BTreeMap<String, String>,
    /// What the task is for, in words.
    pub(super) purpose: String,
}

impl Authority {
    /// For one instance.
    pub(crate) fn new(http: Http, about: InstanceFolder, key: InstanceKey) -> Self {
        Self {
            http,
            key,
            about,
            certificates: None,
            nonce: LastNonce::default(),
        }
    }

    /// Whether the control listener asks for nonces in proofs; then the gateway does too.
    pub(super) fn is_asked_for_nonces(&self) -> bool {
        self.nonce.last().is_some()
    }

    /// Shows certificates of the agent from now on, if a task demands them. The other side is verified by the
    /// certification authorities in a PEM file, or by the public ones.
    #[must_use]
    pub(super) fn proving(mut self, proof: Proof, authorities: Option<&Path>) -> Self {
        if proof == Proof::Certificate {
            self.certificates = Some(Certificates::new(authorities));
        }
        self
    }

    /// The certificate that is shown now, if certificates are shown at all; a new one when the last one gets old.
    ///
    /// # Errors
    /// [`Trouble`]
    pub(super) async fn certified(&self) -> Result<Option<Certified>, Trouble> {
        match &self.certificates {
            Some(certificates) => certificates.current(|| self.svid()).await.map(Some),
            None => Ok(None),
        }
    }

    /// Gets a new SVID, for a key that is made for it.
    ///
    /// # Errors
    /// [`Trouble`]
    pub(crate) async fn svid(&self) -> Result<(svid::Request, Svid), Trouble> {
        let request = svid::Request::new().map_err(|error| unexpected("the new key", &error))?;
        let body = json!({ "csr": request.pem() });
        let answer = self.manage("/v1/svids", "an SVID", Some(&body)).await?;
        let svid =
            serde_json::from_slice(&answer).map_err(|error| unexpected("the SVID", &error))?;
        Ok((request, svid))
    }

    /// Opens a task.
    ///
    /// # Errors
    /// [`Trouble`]
    pub(super) async fn open(&self, wanted: &Wanted) -> Result<Opened, Trouble> {
        let body = json!({
            "template": wanted.template,
            "parameters": wanted.parameters,
            "purpose": wanted.purpose,
        });
        let answer = self
            .manage("/v1/tasks", "to open a task", Some(&body))
            .await?;
        serde_json::from_slice(&answer).map_err(|error| unexpected("the opened task", &error))
    }

    /// A task that is open already.
    ///
    /// # Errors
    /// [`Trouble`]
    pub(super) async fn show(&self, task: TaskId) -> Result<Opened, Trouble> {
        let path = format!("/v1/tasks/{task}");
        let answer = self.manage(&path, "to see the task", None).await?;
        serde_json::from_slice(&answer).map_err(|error| unexpected("the task", &error))
    }

    /// What became of a request for approval, once it was decided or after so many seconds.
    ///
    /// # Errors
    /// [`Trouble`]
    pub(super) async fn decided(
        &self,
        request: ApprovalId,
        seconds: u64,
    ) -> Result<ApprovalStatus, Trouble> {
        #[derive(Deserialize)]
        struct Answer {
            task: Decided,
        }
        #[derive(Deserialize)]
        struct Decided {
            status: ApprovalStatus,
        }
        let path = format!("/access/v1/requests/{request}?wait={seconds}");
        let answer = self.manage(&path, "to see an approval", None).await?;
        let answer: Answer =
            serde_json::from_slice(&answer).map_err(|error| unexpected("the approval", &error))?;
        Ok(answer.task.status)
    }

    /// Says that the work of a task is done.
    ///
    /// # Errors
    /// [`Trouble`]
    pub(super) async fn complete(&self, task: TaskId) -> Result<(), Trouble> {
        let path = format!("/v1/tasks/{task}/complete");
        self.manage(&path, "to complete the task", Some(&json!({})))
            .await
            .map(drop)
    }

    /// A token for calling one resource under a task.
    ///
    /// # Errors
    /// [`Trouble`]
    pub(crate) async fn token(&self, resource: &str, task: TaskId) -> Result<Token, Trouble> {
        let details = json!([{ "type": "sallyport_task", "task": task }]).to_string();
        let form = [("resource", resource), ("authorization_details", &details)];
        self.grant(&form, self.certified().await?).await
    }

    /// The headers that authorise one call: the token, and a proof made for this call alone, unless the
    /// connection is the proof.
    ///
    /// # Errors
    /// [`Trouble::Unexpected`] when the token holds characters that no header can carry.
    pub(crate) fn authorise<B>(
        &self,
        request: &mut Request<B>,
        token: &Token,
        nonce: Option<&str>,
    ) -> Result<(), Trouble> {
        let mut url = request.uri().to_string();
        // A proof is for the URL without its query (RFC 9449 §4.2).
        url.truncate(url.find('?').unwrap_or(url.len()));
        self.authorise_at(&url, AUTHORIZATION, request, token, nonce)
    }

    /// The same where the URL of the proof is not the request's, or the token goes elsewhere.
    ///
    /// # Errors
    /// As of [`Self::authorise`].
    pub(super) fn authorise_at<B>(
        &self,
        url: &str,
        header: HeaderName,
        request: &mut Request<B>,
        token: &Token,
        nonce: Option<&str>,
    ) -> Result<(), Trouble> {
        let scheme = match token.certified {
            Some(_) => "Bearer",
            None => {
                let proof = self.proof(request.method(), url, Some(&token.text), nonce)?;
                request.headers_mut().insert("dpop", proof);
                "DPoP"
            }
        };
        let mut value = HeaderValue::try_from(format!("{scheme} {}", token.text.as_str()))
            .map_err(|error| unexpected("the access token", &error))?;
        value.set_sensitive(true);
        request.headers_mut().insert(header, value);
        Ok(())
    }

    /// The password of one database session at this resource: the token, and a proof made for the session
    /// alone.
    ///
    /// # Errors
    /// [`Trouble::Unexpected`] when no proof can be made.
    pub(super) fn password(
        &self,
        resource: &str,
        token: &Token,
        nonce: Option<&str>,
    ) -> Result<zeroize::Zeroizing<String>, Trouble> {
        let proof = self.sign("CONNECT", resource, Some(&token.text), nonce)?;
        Ok(format!("{}~{proof}", token.text.as_str()).into())
    }

    /// One request of the management API, authorised by a token of its own: a POST with a body, or a
    /// GET without.
    async fn manage(
        &self,
        path: &str,
        request: &'static str,
        body: Option<&Value>,
    ) -> Result<Bytes, Trouble> {
        let form = [
            ("resource", self.about.control.as_str()),
            ("scope", "tasks"),
        ];
        let token = self.grant(&form, None).await?;
        let url = format!("{}{path}", self.about.control);
        let mut repeated = false;
        loop {
            let nonce = self.nonce.last();
            let mut call = match body {
                Some(body) => post(&url, "application/json", body.to_string())?,
                None => get(&url)?,
            };
            self.authorise(&mut call, &token, nonce.as_deref())?;
            let answer = self.http.ask(WHAT, call).await?;
            let is_new = self.nonce.learn(&answer, nonce.as_deref());
            if is_new && !repeated && answer.status() == StatusCode::UNAUTHORIZED {
                repeated = true;
                continue;
            }
            return if answer.status().is_success() {
                Ok(answer.into_body())
            } else {
                Err(refused(request, &answer))
            };
        }
    }

    /// One request to the token endpoint: for a token that is bound to the key, or to a certificate.
    async fn grant(
        &self,
        more: &[(&str, &str)],
        certified: Option<Certified>,
    ) -> Result<Token, Trouble> {
        let url = format!("{}/oauth/token", self.about.control);
        let client = self.about.id.to_string();
        let mut repeated = false;
        loop {
            let nonce = self.nonce.last();
            let now = Timestamp::now();
            let assertion = self
                .key
                .sign_assertion(&client, &self.about.control, now, &random())
                .map_err(|error| unexpected("the instance's key", &error))?;
            let mut form = vec![
                ("grant_type", "client_credentials"),
                ("client_id", client.as_str()),
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_assertion", &assertion),
            ];
            form.extend_from_slice(more);
            let mut request = post(&url, "application/x-www-form-urlencoded", encode(&form))?;
            if certified.is_none() {
                let proof = self.proof(&Method::POST, &url, None, nonce.as_deref())?;
                request.headers_mut().insert("dpop", proof);
            }
            let http = certified.as_ref().map_or(&self.http, Certified::http);
            let asked_at = Instant::now();
            let answer = http.ask(WHAT, request).await?;
            let is_new = self.nonce.learn(&answer, nonce.as_deref());
            if is_new && !repeated && answer.status().is_client_error() {
                repeated = true;
                continue;
            }
            if !answer.status().is_success() {
                return Err(refused("an access token", &answer));
            }
            return read_token(answer.body(), asked_at, certified);
        }
    }

    fn proof(
        &self,
        method: &Method,
        url: &str,
        token: Option<&str>,
        nonce: Option<&str>,
    ) -> Result<HeaderValue, Trouble> {
        let proof = self.sign(method.as_str(), url, token, nonce)?;
        HeaderValue::try_from(proof).map_err(|error| unexpected("the proof", &error))
    }

    /// A proof of possession (RFC 9449 §4.2).
    fn sign(
        &self,
        method: &str,
        url: &str,
        token: Option<&str>,
        nonce: Option<&str>,
    ) -> Result<String, Trouble> {
        self.key
            .sign_dpop(method, url, token, nonce, Timestamp::now(), &random())
            .map_err(|error| unexpected("the instance's key", &error))
    }
}

fn read_token(
    answer: &[u8],
    asked_at: Instant,
    certified: Option<Certified>,
) -> Result<Token, Trouble> {
    #[derive(Deserialize)]
    struct Granted {
        access_token: String,
        token_type: String,
        expires_in: u64,
    }
    let granted: Granted =
        serde_json::from_slice(answer).map_err(|error| unexpected("the token answer", &error))?;
    // One that is bound to a certificate is sent as a bearer token (RFC 8705 §3).
    let expected = if certified.is_some() {
        "bearer"
    } else {
        "dpop"
    };
    if !granted.token_type.eq_ignore_ascii_case(expected) {
        return Err(unexpected(
            "the token answer",
            &"the token is not bound to what was shown",
        ));
    }
    let life = Duration::from_secs(granted.expires_in);
    let renew_at = asked_at + life.saturating_sub(RENEW_BEFORE).max(life / 2);
    Ok(Token {
        text: granted.access_token.into(),
        renew_at,
        expires_at: asked_at + life,
        certified,
    })
}

fn get(url: &str) -> Result<Request<Body>, Trouble> {
    Request::get(url)
        .body(full(Bytes::new()))
        .map_err(|error| unexpected("the URL", &error))
}

fn post(url: &str, kind: &'static str, body: String) -> Result<Request<Body>, Trouble> {
    Request::post(url)
        .header(CONTENT_TYPE, kind)
        .body(full(body))
        .map_err(|error| unexpected("the URL", &error))
}

/// A refusal with the reason that it gives: RFC 6749 §5.2, or RFC 9457.
fn refused(request: &'static str, answer: &Response<Bytes>) -> Trouble {
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let reason = text("error_description")
        .or_else(|| text("detail"))
        .or_else(|| text("title"))
        .or_else(|| text("error"))
        .unwrap_or_else(|| "it gave no reason".to_owned());
    let status = answer.status().as_u16();
    Trouble::Refused {
        what: WHAT,
        request,
        status,
        reason,
        remedy: text("remedy"),
    }
}

fn unexpected(what: &'static str, why: &dyn std::fmt::Display) -> Trouble {
    Trouble::Unexpected {
        what,
        why: why.to_string(),
    }
}

/// 128 random bits for a `jti`.
fn random() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    URL_SAFE_NO_PAD.encode(bytes)
}

/// `application/x-www-form-urlencoded` (URL standard §5.2).
fn encode(form: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded() {
        let form = [
            ("resource", "http://127.0.0.1:8601/mcp/files"),
            ("a b", "ä&=+"),
        ];
        assert_eq!(
            encode(&form),
            "resource=http%3A%2F%2F127.0.0.1%3A8601%2Fmcp%2Ffiles&a+b=%C3%A4%26%3D%2B"
        );
    }

    #[test]
    fn a_token_is_renewed_before_it_expires() {
        let now = Instant::now();
        let read = |life: u64| {
            let answer = json!({ "access_token": "x", "token_type": "DPoP", "expires_in": life });
            read_token(answer.to_string().as_bytes(), now, None)
                .ok()
                .unwrap()
        };
        let token = read(300);
        assert!(!token.is_stale(now + Duration::from_secs(269)));
        assert!(token.is_stale(now + Duration::from_secs(270)));
        assert!(token.is_usable(now + Duration::from_secs(299)));
        assert!(!token.is_usable(now + Duration::from_secs(300)));
        assert!(!read(4).is_stale(now + Duration::from_secs(1)));
        let bearer = json!({ "access_token": "x", "token_type": "Bearer", "expires_in": 300 });
        assert!(read_token(bearer.to_string().as_bytes(), now, None).is_err());
    }

    #[test]
    fn a_refusal_carries_the_reason_that_was_given() {
        let reason = |body: &'static str| {
            let mut answer = Response::new(Bytes::from_static(body.as_bytes()));
            *answer.status_mut() = StatusCode::BAD_REQUEST;
            match refused("an access token", &answer) {
                Trouble::Refused { reason, .. } => reason,
                other => other.to_string(),
            }
        };
        assert_eq!(
            reason(r#"{"error":"invalid_grant","error_description":"the task is completed"}"#),
            "the task is completed"
        );
        assert_eq!(
            reason(r#"{"title":"Not found","detail":"no such template"}"#),
            "no such template"
        );
        assert_eq!(reason("<html>"), "it gave no reason");
    }
}
