//! The way to one protected server: every request with a token and a proof made for it alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway::{Body, full};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use jiff::Timestamp;
use model::{ApprovalId, ApprovalStatus, TaskId};
use postgres::connector::Shown;

use super::authority::{Authority, Token};
use super::http::Http;
use super::nonce::LastNonce;
use super::trouble::Trouble;

/// Who answers on this way.
pub(super) const GATEWAY: &str = "the gateway";

/// Longest body of a request that is kept to be sent once more, in bytes.
const REPEATED: u64 = 64 << 10;

/// How long one request about an approval waits, in seconds.
const ASKED_FOR: u64 = 20;
/// How long to wait at least between two of them.
const ASKED_AGAIN: Duration = Duration::from_secs(1);

/// The way to one protected server, under one task.
pub(super) struct Channel {
    http: Http,
    authority: Authority,
    /// The URL of the server at the gateway, which is also the resource of the tokens.
    resource: String,
    task: TaskId,
    /// When the task ends by itself, if that is known.
    ends_at: Option<Timestamp>,
    /// Held while a token is fetched, so that one is enough for all who wait.
    token: tokio::sync::Mutex<Option<Token>>,
    /// What the gateway last wanted to see in proofs (RFC 9449 §9).
    nonce: LastNonce,
    /// How long a request is held that a person must approve; not at all if absent.
    patience: Option<Duration>,
}

impl Channel {
    /// The way to a server's URL.
    pub(super) fn new(
        http: Http,
        authority: Authority,
        resource: String,
        task: TaskId,
        ends_at: Option<Timestamp>,
    ) -> Self {
        let (token, nonce) = Default::default();
        Self {
            http,
            authority,
            resource,
            task,
            ends_at,
            token,
            nonce,
            patience: None,
        }
    }

    /// Holds requests that a person must approve until that is decided, for so long at most.
    #[must_use]
    pub(super) fn holding(mut self, patience: Option<Duration>) -> Self {
        self.patience = patience;
        self
    }

    /// How long requests are held that a person must approve.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.patience
    }

    /// Sends one request; resolves when the head of the answer is there. A nonce that is asked for
    /// is given, and a token that is not accepted is replaced, once each: such an answer says that
    /// nothing was done yet.
    ///
    /// # Errors
    /// [`Trouble`]
    pub(super) async fn send(
        &self,
        method: Method,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Response<Incoming>, Trouble> {
        let (mut nonce_given, mut token_replaced) = (false, false);
        loop {
            let token = self.token().await?;
            let mut request = Request::builder()
                .method(method.clone())
                .uri(self.resource.as_str())
                .body(full(body.clone()))
                .map_err(|error| not_sendable(&error))?;
            request.headers_mut().clone_from(headers);
            let nonce = self.nonce.last();
            self.authority
                .authorise(&mut request, &token, nonce.as_deref())?;
            let answer = token.http(&self.http).send(GATEWAY, request).await?;
            let is_new = self.nonce.learn(&answer, nonce.as_deref());
            if answer.status() != StatusCode::UNAUTHORIZED {
                return Ok(answer);
            }
            if is_new && !nonce_given {
                nonce_given = true;
            } else if !token_replaced {
                token_replaced = true;
                self.discard(&token).await;
            } else {
                return Ok(answer);
            }
        }
    }

    /// Sends one request to something behind the server's URL, with a body that streams, so that it
    /// is sent once: what is refused for want of a nonce or of a fresh token is for the client to
    /// repeat. Only where nonces are asked for, a request with a short body is sent once more with the one
    /// that was wanted. `rest` is the path and query behind the URL. Resolves when the head of the answer is
    /// there; upgrades are for [`hyper::upgrade::on`].
    ///
    /// # Errors
    /// [`Trouble`]
    pub(super) async fn pass(
        &self,
        request: Request<Body>,
        rest: &str,
    ) -> Result<Response<Incoming>, Trouble> {
        let url = format!("{}{rest}", self.resource);
        let url: Uri = url.parse().map_err(|error| not_sendable(&error))?;
        let (request, again) = self.repeatable(request).await?;
        let nonce = self.nonce.last();
        let answer = self.pass_once(request, &url).await?;
        match again {
            Some(again)
                if answer.status() == StatusCode::UNAUTHORIZED && self.nonce.last() != nonce =>
            {
                self.pass_once(again, &url).await
            }
            _ => Ok(answer),
        }
    }

    /// A request, and the same once more if its body is short and it may have to be repeated with a nonce.
    ///
    /// # Errors
    /// [`Trouble::BrokenOff`] when the body does.
    pub(super) async fn repeatable(
        &self,
        request: Request<Body>,
    ) -> Result<(Request<Body>, Option<Request<Body>>), Trouble> {
        let length = request.body().size_hint().exact();
        if !self.authority.is_asked_for_nonces() || length.is_none_or(|length| length > REPEATED) {
            return Ok((request, None));
        }
        let (head, body) = request.into_parts();
        let body = body.collect().await;
        let body = body.map_err(|error| Trouble::BrokenOff(error.to_string()))?;
        let body = body.to_bytes();
        let again = Request::from_parts(head.clone(), full(body.clone()));
        Ok((Request::from_parts(head, full(body)), Some(again)))
    }

    async fn pass_once(
        &self,
        mut request: Request<Body>,
        url: &Uri,
    ) -> Result<Response<Incoming>, Trouble> {
        *request.uri_mut() = url.clone();
        let token = self.token().await?;
        let nonce = self.nonce.last();
        self.authority
            .authorise(&mut request, &token, nonce.as_deref())?;
        let answer = token.http(&self.http).send(GATEWAY, request).await?;
        self.nonce.learn(&answer, nonce.as_deref());
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.discard(&token).await;
        }
        Ok(answer)
    }

    /// Adds a token and a proof to one request for a proxy, whose URL is the resource. `rest` is the
    /// rest of the proof's URL, from its `/` on, without the query. Gives back the token.
    ///
    /// # Errors
    /// [`Trouble`]
    pub(super) async fn authorise_proxy<B>(
        &self,
        request: &mut Request<B>,
        rest: &str,
    ) -> Result<Token, Trouble> {
        let token = self.token().await?;
        let nonce = self.nonce.last();
        let url = format!("{}{rest}", self.resource);
        let header = http::header::PROXY_AUTHORIZATION;
        self.authority
            .authorise_at(&url, header, request, &token, nonce.as_deref())?;
        Ok(token)
    }

    /// Takes note of an answer that refuses a token: a newer one is wanted, or a nonce in the proof.
    pub(super) async fn refused<B>(&self, token: &Token, answer: &Response<B>) {
        self.nonce.learn(answer, None);
        self.discard(token).await;
    }

    /// Takes note of the nonce that the gateway wants in the next proof.
    pub(super) fn take_nonce(&self, nonce: &str) {
        self.nonce.set(nonce.to_owned());
    }

    /// What one database session is begun with; `again` when the last one was refused, so that a newer token is
    /// wanted.
    ///
    /// # Errors
    /// [`Trouble`]
    pub(super) async fn shown(&self, again: bool) -> Result<Shown, Trouble> {
        if let Some(certified) = self.authority.certified().await? {
            return Ok(Shown::Certificate {
                tls: Arc::clone(certified.tls()),
                task: self.task,
            });
        }
        if again {
            *self.token.lock().await = None;
        }
        let token = self.token().await?;
        let nonce = self.nonce.last();
        let nonce = nonce.as_deref();
        let password = self.authority.password(&self.resource, &token, nonce)?;
        Ok(Shown::Password(password))
    }

    /// Waits until a person has decided a request for approval, or until a moment; says whether it was
    /// approved. What cannot be found out was not.
    pub(super) async fn is_approved(&self, request: ApprovalId, end: Instant) -> bool {
        loop {
            let left = end.saturating_duration_since(Instant::now()).as_secs();
            let asked = Instant::now();
            match self.authority.decided(request, left.min(ASKED_FOR)).await {
                Ok(ApprovalStatus::Pending) => {}
                Ok(status) => return status == ApprovalStatus::Approved,
                Err(trouble) => {
                    crate::output::note(format_args!("{request} cannot be looked at: {trouble}"));
                }
            }
            if left == 0 {
                return false;
            }
            // Where nobody answers at once, nobody is asked all the time.
            if asked.elapsed() < ASKED_AGAIN {
                tokio::time::sleep(ASKED_AGAIN).await;
            }
        }
    }

    /// Says that the work of the task is done.
    ///
    /// # Errors
    /// [`Trouble`]
    pub(super) async fn complete_task(&self) -> Result<(), Trouble> {
        self.authority.complete(self.task).await
    }

    /// A token that is good for a while.
    async fn token(&self) -> Result<Token, Trouble> {
        let mut held = self.token.lock().await;
        let now = Instant::now();
        if let Some(token) = held.as_ref().filter(|token| !token.is_stale(now)) {
            return Ok(token.clone());
        }
        match self.authority.token(&self.resource, self.task).await {
            Ok(token) => {
                *held = Some(token.clone());
                Ok(token)
            }
            // Nobody there to renew it: it is good for some seconds more.
            Err(Trouble::Unreachable { .. }) if held.as_ref().is_some_and(|t| t.is_usable(now)) => {
                held.clone().ok_or(Trouble::TaskEnded(self.task))
            }
            Err(Trouble::Refused { .. }) if self.is_over() => Err(Trouble::TaskEnded(self.task)),
            Err(trouble) => Err(trouble),
        }
    }

    async fn discard(&self, refused: &Token) {
        let mut held = self.token.lock().await;
        // Somebody else may have replaced it already.
        if held.as_ref().is_some_and(|token| token.is(refused)) {
            *held = None;
        }
    }

    fn is_over(&self) -> bool {
        self.ends_at.is_some_and(|end| Timestamp::now() >= end)
    }
}

fn not_sendable(why: &dyn std::fmt::Display) -> Trouble {
    Trouble::Unexpected {
        what: "the URL",
        why: why.to_string(),
    }
}

/// How long a message may take that waits for no answer; what comes behind it waits for it.
pub(super) const NOTIFICATION: Duration = Duration::from_secs(30);
