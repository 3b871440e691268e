//! One agent behind the gateway: the way to it, and its card, which is kept for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use gateway::intake::{self, Room};
use gateway::outbound::{Origin, Outbound, Reach};
use gateway::upstream::Web;
use gateway::{Body, full};
use http::header::ACCEPT;
use http::{HeaderValue, Request, StatusCode};
use identity::PublicKey;
use model::config::{A2a, PushTarget};
use model::{Denial, Rule, SegmentName, json};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::card::Card;

/// Where a card is (1.0, §8.2), and where it was before 0.3.
pub(crate) const CARD_PATHS: [&str; 2] =
    ["/.well-known/agent-card.json", "/.well-known/agent.json"];
/// Longest card, in bytes.
const CARD_BYTES: usize = 1 << 20;
/// Deepest nesting of a card.
const CARD_DEPTH: usize = 32;
/// How long a card is kept when the configuration does not say.
const KEPT_SECONDS: u64 = 300;
/// How long it is not asked for again after it could not be had.
const PAUSE: Duration = Duration::from_secs(2);
/// How long fetching a card may take.
const FETCH: Duration = Duration::from_secs(10);

/// One agent behind the gateway.
pub(crate) struct Site {
    /// The way to it.
    pub(crate) web: Arc<Web>,
    /// What the configuration says of it.
    pub(crate) about: A2a,
    keys: Vec<PublicKey>,
    targets: Vec<Target>,
    base: String,
    kept: ArcSwapOption<Kept>,
    /// One fetch at a time.
    fetching: Mutex<()>,
}

/// Where notifications may be delivered.
pub(crate) struct Target {
    pub(crate) origin: Origin,
    pub(crate) reach: Reach,
    pub(crate) outbound: Outbound,
    segments: Vec<SegmentName>,
}

impl Target {
    fn new(about: &PushTarget) -> Result<Self, String> {
        let wrong = |why: &dyn std::fmt::Display| {
            format!("`a2a.push`: `{}`: {why}", about.origin.escape_debug())
        };
        let (origin, uri) = Origin::of(&about.origin).map_err(|why| wrong(&why))?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong(&"it is more than scheme, host and port"));
        }
        Ok(Self {
            origin,
            reach: if about.private {
                Reach::Any
            } else {
                Reach::Public
            },
            outbound: Outbound::new(about.ca.as_deref()).map_err(|why| wrong(&why))?,
            segments: about.segments.clone(),
        })
    }
}

struct Kept {
    card: Result<Arc<Card>, String>,
    until: Instant,
}

impl Site {
    /// Reads the configuration of an agent.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn new(web: Arc<Web>) -> Result<Self, String> {
        let about = web.server().a2a.clone();
        let wrong = |what: &str| format!("server `{}`: {what}", web.name());
        let keys = about
            .card_keys
            .iter()
            .map(|jwk| PublicKey::parse_jwk(jwk))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong(&format!("`a2a.card_keys`: {error}")))?;
        if about.agent.is_some() != about.template.is_some() {
            return Err(wrong(
                "`a2a.agent` and `a2a.template` go together: the name that the agent is registered \
                 by, and the template of its sub-tasks",
            ));
        }
        let targets = about
            .push
            .iter()
            .map(Target::new)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|why| wrong(&why))?;
        let url = web.base_url();
        let path = url.split_once("://").map_or("", |(_, rest)| {
            rest.find('/').map_or("", |slash| &rest[slash..])
        });
        Ok(Self {
            base: path.to_owned(),
            keys,
            targets,
            about,
            kept: ArcSwapOption::empty(),
            fetching: Mutex::new(()),
            web,
        })
    }

    /// Whether push notifications are offered at all.
    #[must_use]
    pub(crate) fn pushes(&self) -> bool {
        !self.targets.is_empty()
    }

    /// Where notifications for a webhook go, if an agent of this segment may have them there.
    ///
    /// # Errors
    /// The denial.
    pub(crate) fn allows(
        &self,
        url: &str,
        segment: Option<&SegmentName>,
    ) -> Result<&Target, Denial> {
        let denied = |reason: String| Denial {
            rule: Rule::NotGranted,
            reason,
            remedy: "use a webhook at a place that `a2a.push` of the server lists for the agent's \
                     segment, or get the task and subscribe to it instead"
                .to_owned(),
        };
        let (origin, _) = Origin::of(url)
            .map_err(|why| denied(format!("the webhook's URL cannot be used: {why}")))?;
        self.targets
            .iter()
            .filter(|target| target.origin == origin)
            .find(|target| {
                target.segments.is_empty()
                    || segment.is_some_and(|segment| target.segments.contains(segment))
            })
            .ok_or_else(|| {
                denied(format!(
                    "notifications may not be delivered to `{origin}` for this agent"
                ))
            })
    }

    /// The card, if it was fetched before and is still good.
    #[must_use]
    pub(crate) fn kept(&self) -> Option<Result<Arc<Card>, String>> {
        let kept = self.kept.load();
        let kept = kept.as_ref().filter(|kept| Instant::now() < kept.until)?;
        Some(kept.card.clone())
    }

    /// The card: kept, or fetched now. The request for it holds nothing of the caller's.
    ///
    /// # Errors
    /// Why it cannot be used, fit for agents.
    pub(crate) async fn card(&self, room: &Room) -> Result<Arc<Card>, String> {
        if let Some(kept) = self.kept() {
            return kept;
        }
        let _one = self.fetching.lock().await;
        if let Some(kept) = self.kept() {
            return kept;
        }
        let fetched = tokio::time::timeout(FETCH, self.fetch(room)).await;
        let card = fetched
            .unwrap_or_else(|_| Err("it did not answer in time".to_owned()))
            .map(Arc::new);
        let keep = match &card {
            Ok(_) => Duration::from_secs(self.about.card_seconds.unwrap_or(KEPT_SECONDS)),
            Err(why) => {
                tracing::warn!(server = %self.web.name(), why, "an agent's card cannot be used");
                PAUSE
            }
        };
        let until = Instant::now() + keep;
        let kept = card.clone();
        self.kept.store(Some(Arc::new(Kept { card: kept, until })));
        card
    }

    async fn fetch(&self, room: &Room) -> Result<Card, String> {
        let mut answer = self.get(CARD_PATHS[0]).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            answer = self.get(CARD_PATHS[1]).await?;
        }
        if answer.status() != StatusCode::OK {
            return Err(format!("its card was answered with {}", answer.status()));
        }
        let text = intake::collect(answer.into_body(), CARD_BYTES, room)
            .await
            .map_err(|broken| format!("its card cannot be read: {broken:?}"))?;
        let limits = json::Limits {
            bytes: CARD_BYTES,
            depth: CARD_DEPTH,
        };
        match json::parse(&text, limits) {
            Ok(Value::Object(card)) => {
                Card::read(card, &self.base, &self.keys, &self.about.extensions)
                    .map_err(|unusable| unusable.0.to_owned())
            }
            Ok(_) => Err("its card is no object".to_owned()),
            Err(error) => Err(format!("its card cannot be read: {error}")),
        }
    }

    async fn get(&self, path: &str) -> Result<http::Response<hyper::body::Incoming>, String> {
        let mut request: Request<Body> = Request::new(full(Bytes::new()));
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(ACCEPT, json);
        self.web
            .send(request, path)
            .await
            .map_err(|error| error.to_string())
    }
}
