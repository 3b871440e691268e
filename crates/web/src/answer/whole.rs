//! Answers that are taken in whole, to be looked at, noted and changed as a whole.

use std::time::Duration;

use bytes::Bytes;
use gateway::inspection::{Media, Terms};
use gateway::intake::{Broken, Came, Gathering, collect};
use gateway::{Body, full, wait};
use http::Response;
use http::response::Parts;
use hyper::body::Incoming;
use model::Denial;
use model::record::Ended;
use serde_json::Value;

use super::{Answer, NOTED_BYTES, blocked, cut, failed};
use crate::account::Account;
use crate::headers;
use crate::watch::Watch;

/// Longest answer that is taken in whole to be looked at, other than JSON, in bytes.
const WHOLE: usize = 1 << 20;
/// How long an answer is waited for that does not come by its nature bit by bit: at a pause, and in all, JSON
/// and other.
const PAUSE: Duration = Duration::from_secs(1);
const JSON: Duration = Duration::from_secs(10);
const OTHER: Duration = Duration::from_secs(2);

/// What of an answer has come.
pub(super) enum Come {
    /// All of it.
    Whole(Bytes),
    /// Its beginning: it is long, or takes long.
    Begun(Bytes),
}

/// Why an answer did not come.
pub(super) enum NoneCame {
    /// The task, the agent or the API was ended meanwhile.
    Cut,
    /// It broke off.
    Broken(Broken),
}

impl NoneCame {
    pub(super) fn answer(self, account: Account) -> Response<Body> {
        match self {
            Self::Cut => cut(account),
            Self::Broken(Broken::TooLong) => {
                failed(account, "the API's answer is longer than it may be")
            }
            Self::Broken(Broken::Off | Broken::NoRoom) => {
                failed(account, "the API's answer broke off")
            }
        }
    }
}

impl Answer<'_> {
    /// Waits for an answer, unless it is long or takes long.
    pub(super) async fn gathered(
        &self,
        account: &Account,
        body: &mut Incoming,
        media: &Media,
        watch: &Watch,
    ) -> Result<Come, NoneCame> {
        let limits = &self.settings.limits;
        let most = match media.is_json() {
            true => limits.response_bytes,
            false => WHOLE.min(limits.response_bytes),
        };
        let strict = watch.is_strict();
        let longest = match (strict, media.is_json()) {
            (true, _) => Duration::from_secs(limits.upstream_seconds),
            (false, true) => JSON,
            (false, false) => OTHER,
        };
        let mut gathering = Gathering::default();
        let pause = (!strict).then_some(PAUSE);
        let taking = gathering.take(body, most, self.room, pause);
        let signal = account.permit.signal();
        let came = tokio::select! {
            biased;
            () = signal.cut() => return Err(NoneCame::Cut),
            () = tokio::time::sleep(wait(self.expires)) => return Err(NoneCame::Cut),
            came = tokio::time::timeout(longest, taking) => came,
        };
        match came {
            Ok(Ok(Came::Whole)) => Ok(Come::Whole(gathering.into_bytes())),
            Ok(Ok(Came::TooLong | Came::Pausing)) => Ok(Come::Begun(gathering.into_bytes())),
            Ok(Err(broken)) => Err(NoneCame::Broken(broken)),
            Err(_) if strict => Err(NoneCame::Broken(Broken::Off)),
            Err(_) => Ok(Come::Begun(gathering.into_bytes())),
        }
    }

    /// Looks at a whole answer: what passes in its place, if something does.
    ///
    /// # Errors
    /// The denial when it must not pass.
    pub(super) fn looked_at(
        &self,
        account: &mut Account,
        watch: &Watch,
        media: &Media,
        terms: Terms,
        bytes: &[u8],
    ) -> Result<Option<Bytes>, Denial> {
        let verdict = watch.inspection.body(&watch.about(), media, terms, bytes);
        let other = verdict.taken()?;
        if other.is_some() {
            account.permit.note("redacted", true);
        }
        Ok(other.map(Bytes::from))
    }

    /// Answers with a whole body, once it is noted where its values come from.
    pub(super) fn answer(
        &self,
        mut account: Account,
        head: Parts,
        bytes: Bytes,
        media: &Media,
    ) -> Response<Body> {
        if account.permit.signal().is_cut() {
            return cut(account);
        }
        let is_noted =
            account.permit.notes_result() && media.is_json() && bytes.len() as u64 <= NOTED_BYTES;
        if is_noted && let Ok(document) = serde_json::from_slice::<Value>(&bytes) {
            let has_failed = account.ended == Ended::UpstreamError;
            account.permit.note_result(&document, has_failed);
        }
        account.see(&bytes);
        let ended = account.ended;
        account.finish(ended);
        Response::from_parts(head, full(bytes))
    }

    /// Takes the answer in whole, however long that takes, and takes out of it what the configuration names.
    pub(super) async fn redacted(
        self,
        mut account: Account,
        mut head: Parts,
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
        let mut bytes = match whole {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(broken)) => return NoneCame::Broken(broken).answer(account),
            Err(_) => return NoneCame::Broken(Broken::Off).answer(account),
        };
        let media = Media::of(&head.headers);
        if let Some(redaction) = self.redaction
            && !bytes.is_empty()
        {
            let document = media
                .is_json()
                .then(|| serde_json::from_slice::<Value>(&bytes).ok());
            let Some(mut document) = document.flatten() else {
                return failed(
                    account,
                    "the API's answer is not JSON, so that nothing can be taken out of it",
                );
            };
            redaction.apply(&mut document);
            bytes = Bytes::from(document.to_string());
        }
        if self.redaction.is_some() {
            headers::of_changed(&mut head.headers);
        }
        if let Some(watch) = &self.watch
            && !bytes.is_empty()
        {
            let terms = Terms {
                alterable: true,
                opaque: false,
            };
            match self.looked_at(&mut account, watch, &media, terms, &bytes) {
                Ok(None) => {}
                Ok(Some(other)) => bytes = other,
                Err(denial) => return blocked(account, denial),
            }
        }
        self.answer(account, head, bytes, &media)
    }
}
