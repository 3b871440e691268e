//! Step 7: the answer on its way to the agent.

use bytes::Bytes;
use gateway::front::Settings;
use gateway::intake::{Broken, Room, collect};
use gateway::mcp::delivery::{Feed, delivery};
use gateway::problem::{PROXY_STATUS, received, unanswered};
use gateway::resource::Route as Resource;
use gateway::slots::Slot;
use gateway::upstream::UpstreamError;
use gateway::{Body, full, wait};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Response, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use jiff::Timestamp;
use model::record::Ended;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

use crate::account::Account;
use crate::api::Api;
use crate::headers;
use crate::redaction::Redaction;
use crate::visit::Named;

/// Longest answer whose values are noted, in bytes.
const NOTED_BYTES: u64 = 1 << 20;

/// One answer, and what it is for.
pub(crate) struct Answer<'a> {
    pub(crate) api: &'a Api,
    pub(crate) resource: &'a Resource,
    pub(crate) named: Named,
    pub(crate) settings: &'a Settings,
    pub(crate) room: &'a Room,
    pub(crate) redaction: Option<&'a Redaction>,
    /// When the task is over.
    pub(crate) expires: Timestamp,
    pub(crate) slot: Slot,
}

impl Answer<'_> {
    /// Passes the answer on: as it comes, or whole where something has to be taken out of it.
    pub(crate) async fn pass(
        self,
        mut account: Account,
        response: Response<Incoming>,
    ) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        if matches!(
            head.status,
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        ) {
            let server = self.api.web.name();
            tracing::warn!(target: "upstream", %server, "the API refuses the gateway's credential");
            return failed(
                account,
                "the API does not let the gateway in; an operator must see to its credential",
            );
        }
        if head.status.is_informational() {
            return failed(account, "the API answers with what was not asked for");
        }
        if head
            .headers
            .get(CONTENT_ENCODING)
            .is_some_and(|coding| coding != "identity")
        {
            return failed(
                account,
                "the API's answer is compressed, though that was not asked for",
            );
        }
        if let Some(location) = head.headers.remove(LOCATION) {
            match self.location(&location) {
                Some(own) => drop(head.headers.insert(LOCATION, own)),
                None => return failed(account, "the API's answer points elsewhere"),
            }
        }
        if head.status.is_client_error() || head.status.is_server_error() {
            account.ended = Ended::UpstreamError;
        }
        head.headers = headers::back(head.headers, false);
        if head.status.is_client_error() || head.status.is_server_error() {
            let mark = received(head.status);
            head.headers.insert(PROXY_STATUS.clone(), mark);
        }
        // Where values come from is noted before the agent has them. What is too long for that passes
        // as it comes, and steers nothing.
        let is_noted = account.permit.notes_result()
            && head.headers.get(CONTENT_TYPE).is_some_and(is_json)
            && body
                .size_hint()
                .upper()
                .is_some_and(|most| most <= NOTED_BYTES);
        if self.redaction.is_some() || is_noted {
            return self.whole(account, head, body).await;
        }
        let signal = account.permit.signal();
        let (feed, delivered) = delivery(signal);
        let pump = Pump {
            account,
            feed,
            idle: Duration::from_secs(self.settings.limits.upstream_seconds),
            expires: Instant::now() + wait(self.expires),
            _slot: self.slot,
        };
        tokio::spawn(pump.run(body));
        Response::from_parts(head, delivered.boxed())
    }

    /// Where a redirect leads, by the name that the agent has for it; none when it leads out of the API.
    fn location(&self, location: &HeaderValue) -> Option<HeaderValue> {
        let uri: Uri = location.to_str().ok()?.parse().ok()?;
        let base: Uri = self.api.web.base_url().parse().ok()?;
        if uri.authority().is_some()
            && (uri.authority() != base.authority() || uri.scheme() != base.scheme())
        {
            return None;
        }
        let rest = uri.path().strip_prefix(base.path().trim_end_matches('/'))?;
        // Only what could be requested here, so that nothing is read in two ways by the agent either.
        crate::path::segments(rest).ok()?;
        if self.named == Named::ByItself {
            return Some(location.clone());
        }
        let query = uri
            .query()
            .map_or(String::new(), |query| format!("?{query}"));
        let own = self.resource.resource(&self.settings.base_url);
        HeaderValue::try_from(format!("{own}{rest}{query}")).ok()
    }

    /// Takes the answer in whole, notes where its values come from, and takes out what must be.
    async fn whole(
        &self,
        mut account: Account,
        mut head: http::response::Parts,
        body: Incoming,
    ) -> Response<Body> {
        let limit = self.settings.limits.response_bytes;
        let signal = account.permit.signal();
        let time = Duration::from_secs(self.settings.limits.upstream_seconds);
        let whole = tokio::select! {
            biased;
            () = signal.cut() => return cut(account),
            () = tokio::time::sleep(wait(self.expires)) => return cut(account),
            whole = tokio::time::timeout(time, collect(body, limit, self.room)) => whole,
        };
        let bytes = match whole {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(Broken::TooLong)) => {
                return failed(account, "the API's answer is longer than it may be");
            }
            Ok(Err(Broken::Off | Broken::NoRoom)) | Err(_) => {
                return failed(account, "the API's answer broke off");
            }
        };
        let bytes = if bytes.is_empty() {
            bytes
        } else {
            let is_json = head.headers.get(CONTENT_TYPE).is_some_and(is_json);
            let document = is_json
                .then(|| serde_json::from_slice::<Value>(&bytes).ok())
                .flatten();
            let has_failed = account.ended == Ended::UpstreamError;
            match (self.redaction, document) {
                (Some(redaction), Some(mut document)) => {
                    redaction.apply(&mut document);
                    account.permit.note_result(&document, has_failed);
                    Bytes::from(document.to_string())
                }
                (Some(_), None) => {
                    return failed(
                        account,
                        "the API's answer is not JSON, so that nothing can be taken out of it",
                    );
                }
                (None, Some(document)) => {
                    account.permit.note_result(&document, has_failed);
                    bytes
                }
                (None, None) => bytes,
            }
        };
        if self.redaction.is_some() {
            head.headers.remove(CONTENT_LENGTH);
            // They are about the answer as it was.
            for name in [http::header::ETAG, http::header::ACCEPT_RANGES] {
                head.headers.remove(name);
            }
        }
        account.see(&bytes);
        let ended = account.ended;
        account.finish(ended);
        Response::from_parts(head, full(bytes))
    }
}

fn is_json(kind: &HeaderValue) -> bool {
    let essence = kind.to_str().ok().and_then(|kind| kind.split(';').next());
    essence.is_some_and(|essence| {
        let essence = essence.trim().to_ascii_lowercase();
        essence == "application/json" || essence.ends_with("+json")
    })
}

/// There is an answer, but none that could be passed on.
pub(crate) fn failed(account: Account, reason: &str) -> Response<Body> {
    without(account, reason, "http_protocol_error")
}

/// There is no answer.
pub(crate) fn unreached(account: Account, error: &UpstreamError) -> Response<Body> {
    let kind = match error {
        UpstreamError::Timeout => "http_response_timeout",
        UpstreamError::TooMany(_) => "connection_limit_reached",
        UpstreamError::Protocol(_) => "http_protocol_error",
        UpstreamError::Unreachable(_) | UpstreamError::Disabled => "destination_unavailable",
    };
    without(account, &error.to_string(), kind)
}

fn without(account: Account, reason: &str, kind: &'static str) -> Response<Body> {
    account.finish(Ended::UpstreamFailed);
    let remedy = "try again later, or tell the operator; the audit log names the request";
    unanswered(reason, remedy, kind)
}

/// The agent's own doing broke the request while it was on its way.
pub(crate) fn withdrawn(account: Account, refused: Response<Body>) -> Response<Body> {
    account.finish(Ended::Cancelled);
    refused
}

/// The task, the agent or the API was ended meanwhile.
pub(crate) fn cut(account: Account) -> Response<Body> {
    let denied = account.permit.cut_off();
    account.finish(Ended::Cut);
    gateway::problem::denied(&denied)
}

/// Moves an answer from the API to the agent, at the agent's pace, until something ends it.
struct Pump {
    account: Account,
    feed: Feed,
    /// How long the API may be silent.
    idle: Duration,
    expires: Instant,
    _slot: Slot,
}

impl Pump {
    async fn run(mut self, body: Incoming) {
        let ended = self.pass(body).await;
        self.account.finish(ended);
    }

    async fn pass(&mut self, mut body: Incoming) -> Ended {
        let cut = self.account.permit.signal().cut();
        let expires = tokio::time::sleep_until(self.expires);
        tokio::pin!(cut, expires);
        loop {
            let frame = tokio::select! {
                biased;
                () = &mut cut => return self.broken(Ended::Cut),
                () = &mut expires => return self.broken(Ended::Cut),
                () = self.feed.gone() => return Ended::Cancelled,
                frame = tokio::time::timeout(self.idle, body.frame()) => frame,
            };
            let data = match frame {
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Ok(Some(Err(_))) | Err(_) => return self.broken(Ended::UpstreamFailed),
                Ok(None) => return self.account.ended,
            };
            if data.is_empty() {
                continue;
            }
            self.account.see(&data);
            tokio::select! {
                biased;
                () = &mut cut => return self.broken(Ended::Cut),
                () = &mut expires => return self.broken(Ended::Cut),
                sent = self.feed.send(data) => {
                    if sent.is_err() {
                        return Ended::Cancelled;
                    }
                }
            }
        }
    }

    /// Half an answer must not look like a whole one.
    fn broken(&self, ended: Ended) -> Ended {
        self.feed.break_off();
        ended
    }
}
