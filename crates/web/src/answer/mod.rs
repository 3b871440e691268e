//! Step 7: the answer on its way to the agent.

use bytes::Bytes;
use gateway::Body;
use gateway::front::Settings;
use gateway::inspection::{Media, Terms, Verdict};
use gateway::intake::Room;
use gateway::pipeline::Denied;
use gateway::problem::{PROXY_STATUS, denied, received, unanswered};
use gateway::resource::Route as Resource;
use gateway::slots::Slot;
use gateway::upstream::UpstreamError;
use http::header::{CONTENT_TYPE, LOCATION};
use http::response::Parts;
use http::{HeaderValue, Response, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use jiff::Timestamp;
use model::Denial;
use model::record::Ended;

use crate::account::Account;
use crate::api::Api;
use crate::headers;
use crate::redaction::Redaction;
use crate::visit::Named;
use crate::watch::Watch;

mod passing;
mod whole;

use whole::Come;

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
    /// What it is looked at with, if it is.
    pub(crate) watch: Option<Watch>,
    /// When the task is over.
    pub(crate) expires: Timestamp,
    pub(crate) slot: Slot,
}

impl Answer<'_> {
    /// Passes the answer on: whole, if it is looked at or changed as a whole, or as it comes.
    pub(crate) async fn pass(
        self,
        mut account: Account,
        response: Response<Incoming>,
    ) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        // The reason in the status line among others: words that nobody looks at.
        head.extensions.clear();
        if let Err(reason) = self.check(&head) {
            return failed(account, reason);
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
        if let Some(watch) = &self.watch
            && let Err(denial) = self.headers(watch, &mut account, &mut head)
        {
            return blocked(account, denial);
        }
        if head.status.is_client_error() || head.status.is_server_error() {
            let mark = received(head.status);
            head.headers.insert(PROXY_STATUS.clone(), mark);
        }
        if self.redaction.is_some() {
            return self.redacted(account, head, body).await;
        }
        match &self.watch {
            Some(watch) if !body.is_end_stream() => {
                let watch = watch.clone();
                self.watched(account, head, body, watch).await
            }
            _ => self.unwatched(account, head, body).await,
        }
    }

    /// Whether it can be passed on by its head.
    fn check(&self, head: &Parts) -> Result<(), &'static str> {
        let status = head.status;
        if matches!(
            status,
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        ) {
            let server = self.api.web.name();
            tracing::warn!(target: "upstream", %server, "the API refuses the gateway's credential");
            return Err(
                "the API does not let the gateway in; an operator must see to its credential",
            );
        }
        if status.is_informational() {
            return Err("the API answers with what was not asked for");
        }
        if status == StatusCode::PARTIAL_CONTENT && !self.may_be_partial() {
            return Err("the API answers with a part, though the whole was asked for");
        }
        headers::is_as_it_stands(&head.headers)
    }

    /// Whether a part of an answer can have been asked for.
    fn may_be_partial(&self) -> bool {
        self.watch.is_none() || self.api.ranges
    }

    /// Looks at the headers, and takes those out in which something is to be taken out.
    fn headers(
        &self,
        watch: &Watch,
        account: &mut Account,
        head: &mut Parts,
    ) -> Result<(), Denial> {
        match watch.inspection.headers(&watch.about(), &head.headers) {
            Verdict::Pass => {}
            Verdict::Blocked(denial) => return Err(denial),
            Verdict::Redacted(names) => {
                account.permit.note("redacted_headers", names.len());
                for name in names {
                    head.headers.remove(name);
                }
            }
        }
        if !self.api.ranges {
            head.headers.remove(http::header::ACCEPT_RANGES);
        }
        Ok(())
    }

    /// Passes on what nobody looks at.
    async fn unwatched(self, account: Account, head: Parts, body: Incoming) -> Response<Body> {
        // Where values come from is noted before the agent has them. What is too long for that passes
        // as it comes, and steers nothing.
        let is_noted = account.permit.notes_result()
            && Media::of(&head.headers).is_json()
            && body
                .size_hint()
                .upper()
                .is_some_and(|most| most <= NOTED_BYTES);
        if is_noted {
            self.redacted(account, head, body).await
        } else {
            self.stream(account, head, body, Bytes::new(), None)
        }
    }

    /// Passes on what is looked at.
    async fn watched(
        self,
        mut account: Account,
        mut head: Parts,
        mut body: Incoming,
        watch: Watch,
    ) -> Response<Body> {
        let media = Media::of(&head.headers);
        let terms = Terms {
            // What is left of a part would not be the part that its headers say.
            alterable: head.status != StatusCode::PARTIAL_CONTENT,
            opaque: media.is_one_of(&self.api.opaque_answers),
        };
        let begun = if media.is_stream() {
            Come::Begun(Bytes::new())
        } else {
            match self.gathered(&account, &mut body, &media, &watch).await {
                Ok(come) => come,
                Err(failed) => return failed.answer(account),
            }
        };
        let beginning = match begun {
            Come::Whole(bytes) => {
                let looked = self.looked_at(&mut account, &watch, &media, terms, &bytes);
                return match looked {
                    Ok(None) => self.answer(account, head, bytes, &media),
                    Ok(Some(other)) => {
                        headers::of_changed(&mut head.headers);
                        if media.is_foreign() {
                            let kind = format!("{}; charset=utf-8", media.essence());
                            if let Ok(kind) = HeaderValue::try_from(kind) {
                                head.headers.insert(CONTENT_TYPE, kind);
                            }
                        }
                        self.answer(account, head, other, &media)
                    }
                    Err(denial) => blocked(account, denial),
                };
            }
            Come::Begun(bytes) => bytes,
        };
        let terms = Terms {
            alterable: terms.alterable && media.is_alterable(&beginning),
            ..terms
        };
        let mut passing = watch.inspection.passing(media, terms);
        let first = match passing.push(&watch.about(), &beginning) {
            Ok(first) => first,
            Err(denial) => return blocked(account, denial),
        };
        if terms.alterable {
            headers::of_changed(&mut head.headers);
        }
        self.stream(account, head, body, first, Some((watch, passing)))
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
}

/// There is an answer that must not pass.
fn blocked(mut account: Account, denial: Denial) -> Response<Body> {
    account
        .permit
        .note("blocked", gateway::inspection::What::HttpAnswer.as_str());
    let refused = Denied {
        decision: account.permit.decision(),
        denial,
        requested: None,
        retry_after: None,
    };
    account.finish(Ended::UpstreamError);
    denied(&refused)
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
        UpstreamError::Unreachable(_) | UpstreamError::Stale | UpstreamError::Disabled => {
            "destination_unavailable"
        }
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
