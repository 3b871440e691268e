//! Who goes too fast: agents that are known, and sources that are not.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use identity::nonce::Demand;
use jiff::Timestamp;
use model::config::{Limits, ServerKind};
use model::{Denial, Rule, ServerName};

use super::{Denied, Pipeline};
use crate::caller::{Caller, Credentials};
use crate::pace::TooFast;
use crate::refusals::Whom;
use crate::resource::Route;

impl Pipeline {
    /// Takes the rates of a configuration into use, for the very next request.
    pub fn set_rates(&self, limits: &Limits) {
        self.live.set_rates(limits);
        self.sources.set(limits.unauthenticated_rate);
    }

    /// Whether proofs of possession must carry nonces: at the gateway, and at whoever else shares it.
    #[must_use]
    pub fn nonces(&self) -> &Demand {
        self.authenticator.nonces()
    }

    /// The nonce to use in the next proof for the gateway, as a header of the answer to a request with a proof,
    /// if nonces are demanded (RFC 9449 §8.2).
    #[must_use]
    pub fn next_nonce(&self, request: &HeaderMap) -> Option<(HeaderName, HeaderValue)> {
        if !self.nonces().is_made() || !request.contains_key("dpop") {
            return None;
        }
        let nonce = self.authenticator.nonce(Timestamp::now())?;
        let value = HeaderValue::from_str(&nonce).ok()?;
        Some((HeaderName::from_static("dpop-nonce"), value))
    }

    /// Writes what was counted of refusals and is no record yet. Called at the end; otherwise it happens by
    /// itself, each second.
    pub fn write_counts(&self) {
        self.refusals.flush();
    }

    /// Takes note that credentials from an address were wrong: once they are so too often, it is put off.
    pub fn wrong_from(&self, address: IpAddr) {
        self.sources.wrong(address);
    }

    /// How long a request is put off because credentials from its address were wrong too often. One whose
    /// token was found good before is not, and neither is one without any: to refuse those takes nothing.
    #[must_use]
    pub fn puts_off<B>(&self, address: IpAddr, request: &Request<B>) -> Option<Duration> {
        let wait = self.sources.put_off(address)?;
        let credentials = Credentials::of(request).ok()?;
        self.puts_off_with(wait, &credentials)
    }

    /// How long everything from an address is put off that is not good beyond doubt.
    #[must_use]
    pub fn puts_off_all(&self, address: IpAddr) -> Option<Duration> {
        self.sources.put_off(address)
    }

    /// How long credentials are put off that do not come in HTTP headers of their own.
    #[must_use]
    pub fn puts_off_credentials(
        &self,
        address: IpAddr,
        credentials: &Credentials<'_>,
    ) -> Option<Duration> {
        let wait = self.sources.put_off(address)?;
        self.puts_off_with(wait, credentials)
    }

    fn puts_off_with(&self, wait: Duration, credentials: &Credentials<'_>) -> Option<Duration> {
        (!self.authenticator.knows(credentials.token)).then_some(wait)
    }

    /// Records that a request was put off for what came from its address before, and says how it is told.
    #[must_use]
    pub fn put_off(&self, endpoint: &str) -> Denial {
        self.metrics.refused();
        self.metrics.too_fast("source");
        let denial = Denial {
            rule: Rule::RateLimited,
            reason: "credentials from this address were wrong too often".to_owned(),
            remedy: "wait as long as Retry-After says, then send good ones; an operator sets the rate with \
                     `limits.unauthenticated_rate`"
                .to_owned(),
        };
        let now = Timestamp::now();
        self.refusals.note(now, endpoint, None, denial.clone());
        denial
    }

    /// A caller as records of refusals name it. What it gets wrong counts for how fast it goes, too.
    pub(super) fn whom<'c>(&self, caller: &'c Caller) -> Whom<'c> {
        // It is refused already; this is so that what comes next is refused sooner.
        let _ = self.live.pace(&caller.task, Instant::now());
        whom(caller)
    }

    /// Refuses an action that comes too soon. Recorded like a refused request: whoever goes too fast must not
    /// make the log grow as fast.
    pub(super) fn too_fast(
        &self,
        caller: &Caller,
        server: &ServerName,
        too_fast: TooFast,
    ) -> Denied {
        let denial = too_fast.denial();
        let known = self.live.world().server(server).is_some();
        self.metrics.denied(known.then_some(server), &denial);
        self.metrics.too_fast(too_fast.whose.as_str());
        let granted = &caller.task.task().grant.permissions;
        let permission = granted.iter().find(|one| one.server == *server);
        let endpoint = match permission {
            Some(permission) => Cow::Owned(
                Route {
                    kind: ServerKind::of(permission.kind),
                    server: server.clone(),
                    task: None,
                }
                .path(),
            ),
            None => Cow::Borrowed(server.as_str()),
        };
        let now = Timestamp::now();
        let decision = self
            .refusals
            .note_named(now, &endpoint, &whom(caller), denial.clone());
        Denied {
            decision,
            denial,
            requested: None,
            retry_after: Some(too_fast.wait),
        }
    }
}

fn whom(caller: &Caller) -> Whom<'_> {
    Whom {
        caller: Some(Cow::Owned(caller.instance.to_string())),
        agent: Some(&caller.agent),
        task: Some(caller.task.task().id),
    }
}
