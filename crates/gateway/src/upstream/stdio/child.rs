//! One program that runs, and the four tasks around it: one writes what clients send, one reads what
//! it says, one logs what it complains about, one sees to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::process::ChildStdout;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::command::{Haste, Process, Started};
use super::complaints;
use super::home::{Home, Key};
use super::input::{self, Input, Letter};
use super::lines::{Line, Lines, Skim};
use super::outlet::Outlet;
use super::router::{Bounds, Era, Routed, Router};
use crate::caller::Principal;
use crate::upstream::UpstreamError;
use crate::upstream::allowance::Allowance;
use crate::upstream::freshness::{Compared, Freshness};
use crate::upstream::places::Place;

/// Limits of one child's bookkeeping.
const BOUNDS: Bounds = Bounds {
    pending: 1_024,
    asked: 64,
    kept: 256,
    kept_bytes: 1 << 20,
};
/// How much longer than a message may be is read of one line before the child is taken for broken.
const ENDLESS: u64 = 8;
/// How long what belongs together at a child's end may lie apart.
const CLOSING: Duration = Duration::from_secs(1);
/// How many lines that are no message are put up with: at once, and each second.
const GARBAGE: (u32, u32) = (1_000, 20);
/// How many messages that nobody waits for are read at full speed: at once, and each second.
const UNWANTED: (u32, u32) = (10_000, 1_000);

/// A child.
pub(super) struct Child {
    pub(super) key: Key,
    pub(super) principal: Principal,
    pub(super) era: Era,
    pub(super) router: Mutex<Router<Outlet>>,
    /// Up to when its tools were compared with the pins (modern era).
    pub(super) compared: Arc<Compared>,
    freshness: Arc<Freshness>,
    input: Input,
    /// How it is to end, once it is.
    ending: watch::Sender<Option<Haste>>,
    started: Instant,
    /// Milliseconds from the start to the last message.
    used: AtomicU64,
}

impl Child {
    /// Sets the tasks around a program that was just started. The place is held, and the home
    /// knows the child, until the program has really ended.
    pub(super) fn adopt(
        started: Started,
        key: Key,
        principal: Principal,
        era: Era,
        home: &Arc<Home>,
        place: Place,
    ) -> Arc<Self> {
        let Started {
            process,
            input,
            output,
            errors,
        } = started;
        let (lines, waiting) = Input::new(home.limits().request_bytes);
        let child = Arc::new(Self {
            key,
            principal,
            era,
            router: Mutex::new(Router::new(era, BOUNDS)),
            compared: Arc::default(),
            freshness: Arc::clone(home.freshness()),
            input: lines,
            ending: watch::Sender::new(None),
            started: Instant::now(),
            used: AtomicU64::new(0),
        });
        let tasks = home.tasks();
        let mut ending = child.ending.subscribe();
        tasks.spawn(async move {
            tokio::select! {
                _ = input::write(input, waiting) => {}
                () = told(&mut ending, Haste::Gentle) => {}
            }
        });
        let complaining = tasks.spawn(complaints::read(errors, Arc::clone(home), process.id()));
        let reading = tasks.spawn(read(Arc::clone(&child), Arc::clone(home), output));
        let home = Arc::clone(home);
        tasks.clone().spawn(attend(
            Arc::clone(&child),
            home,
            process,
            reading,
            complaining,
            place,
        ));
        child
    }

    /// Hands a line to the child: see [`Input::tell`].
    ///
    /// # Errors
    /// [`UpstreamError::Timeout`] when it does not read its input, and
    /// [`UpstreamError::Unreachable`] when it has ended.
    pub(super) async fn tell(&self, letter: Letter, until: Instant) -> Result<(), UpstreamError> {
        self.touch();
        self.input.tell(letter, until.into()).await
    }

    /// Hands a line to the child if that needs no waiting.
    pub(super) fn mention(&self, line: Bytes) {
        self.input.mention(line);
    }

    /// Whether it takes requests.
    pub(super) fn is_open(&self) -> bool {
        self.ending.borrow().is_none()
    }

    /// Ends it. When this returns nothing is taken any more and every stream has broken off; the
    /// program itself ends in the background.
    pub(super) fn end(&self, haste: Haste, because: &UpstreamError) {
        self.ending.send_if_modified(|ending| {
            let more = ending.is_none_or(|before| before < haste);
            if more {
                *ending = Some(haste);
            }
            more
        });
        self.router.lock().close(because);
    }

    fn touch(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used.store(now, Ordering::Relaxed);
    }

    /// How long it has been without traffic.
    fn idle(&self) -> Duration {
        let used = Duration::from_millis(self.used.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(used)
    }
}

/// What clients are told when a child ended under them.
pub(super) fn ended() -> UpstreamError {
    UpstreamError::Unreachable("its program ended before it answered; try again".to_owned())
}

/// Waits until the child is to end with at least this haste.
async fn told(ending: &mut watch::Receiver<Option<Haste>>, least: Haste) {
    // Its sender is in the child, which the tasks hold.
    let _ = ending.wait_for(|ending| *ending >= Some(least)).await;
}

/// Reads what the child says until it says nothing more, or only nonsense.
async fn read(child: Arc<Child>, home: Arc<Home>, output: ChildStdout) {
    let mut lines = Lines::new(output);
    let now = Instant::now();
    let mut garbage = Allowance::new(GARBAGE.0, GARBAGE.1, now);
    let mut unwanted = Allowance::new(UNWANTED.0, UNWANTED.1, now);
    let broken = loop {
        let limit = home.limits().response_bytes;
        let endless = (limit as u64).saturating_mul(ENDLESS);
        let took = match lines.next(limit, endless).await {
            Ok(None) | Err(_) => return,
            Ok(Some(Line::Whole(line))) => child.take(&line).await,
            Ok(Some(Line::TooLong { answers, length })) => {
                child.fail(
                    answers,
                    "it is longer than the gateway's `limits.response_bytes`",
                );
                home.warn(&format!(
                    "a message of {length} bytes was thrown away; `limits.response_bytes` is {limit}"
                ));
                Took::Garbage
            }
            Ok(Some(Line::Endless)) => break "its program writes a line without end",
        };
        match took {
            Took::Message => child.touch(),
            Took::Unwanted => {
                // The pipe fills while this waits, so the child is slowed down too.
                if unwanted.take(Instant::now()).is_none() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            Took::Garbage => {
                if garbage.take(Instant::now()).is_none() {
                    break "its program floods its standard output with what is no message";
                }
                home.warn("what its program wrote to its standard output was no message: skipped");
            }
        }
    };
    home.warn(&format!("{broken}: it is ended"));
    child.end(Haste::Now, &UpstreamError::Protocol(broken.to_owned()));
}

/// What became of a line.
enum Took {
    Message,
    Unwanted,
    Garbage,
}

impl Child {
    async fn take(&self, line: &Bytes) -> Took {
        match line.iter().find(|byte| !byte.is_ascii_whitespace()) {
            None => Took::Unwanted,
            // Revision 2025-03-26 lets servers answer in batches.
            Some(b'[') if self.era == Era::Legacy => {
                let Ok(messages) = serde_json::from_slice::<Vec<&RawValue>>(line) else {
                    return Took::Garbage;
                };
                let mut took = Took::Garbage;
                for message in messages {
                    took = self.route(&line.slice_ref(message.get().as_bytes())).await;
                }
                took
            }
            Some(_) => self.route(line).await,
        }
    }

    async fn route(&self, line: &Bytes) -> Took {
        let (routed, has_announced) = {
            let mut router = self.router.lock();
            (router.route(line), router.has_announced())
        };
        if has_announced {
            // Also when nobody listens just now.
            self.freshness.announce();
        }
        match routed {
            Routed::Answered | Routed::Kept => Took::Message,
            Routed::Delivered(outlet) => {
                outlet.room().await;
                Took::Message
            }
            Routed::Dropped => Took::Unwanted,
            Routed::Reply(line) => {
                self.mention(line);
                Took::Unwanted
            }
            Routed::NotAMessage => {
                let mut skim = Skim::default();
                skim.feed(line);
                self.fail(skim.answers(), "it is not a JSON-RPC message");
                Took::Garbage
            }
        }
    }

    /// Lets the request fail that a message seems to answer which cannot be passed on.
    fn fail(&self, number: Option<u64>, because: &str) {
        if let Some(number) = number {
            self.router
                .lock()
                .fail(number, UpstreamError::Protocol(because.to_owned()));
        }
    }
}

/// Sees to a child's end, whether it ends by itself, is told to, or is not used any more.
async fn attend(
    child: Arc<Child>,
    home: Arc<Home>,
    mut process: Process,
    mut reading: JoinHandle<()>,
    complaining: JoinHandle<Option<String>>,
    place: Place,
) {
    let mut ending = child.ending.subscribe();
    let mut is_read = false;
    let by_itself = loop {
        let longest = Duration::from_secs(home.limits().session_idle_seconds);
        let left = longest.saturating_sub(child.idle());
        tokio::select! {
            status = process.ended() => break Some(status),
            () = told(&mut ending, Haste::Gentle) => break None,
            _ = &mut reading => {
                is_read = true;
                // Mostly it has ended and will be seen to have; else it cannot be heard any more.
                match tokio::time::timeout(CLOSING, process.ended()).await {
                    Ok(status) => break Some(status),
                    Err(_) => {
                        if child.is_open() {
                            home.warn("its program closed its standard output: it is ended");
                        }
                        child.end(Haste::Gentle, &ended());
                        break None;
                    }
                }
            }
            () = tokio::time::sleep(left) => {
                if child.router.lock().is_busy() {
                    child.touch();
                } else if child.idle() >= longest {
                    tracing::debug!(target: "upstream", server = %home.name(), "an idle program ends");
                    child.end(Haste::Gentle, &ended());
                }
            }
        }
    };
    if let Some(status) = by_itself {
        // What it wrote before it ended counts.
        if !is_read {
            let _ = tokio::time::timeout(CLOSING, reading).await;
        }
        if child.is_open() {
            let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            let last = tokio::time::timeout(CLOSING, complaining).await;
            let last = last.ok().and_then(Result::ok).flatten().unwrap_or_default();
            home.warn(&format!(
                "its program ended by itself ({status}); it said last: {last}"
            ));
        }
        child.end(Haste::Now, &ended());
    } else {
        tokio::select! {
            () = process.end(Haste::Gentle) => {}
            () = told(&mut ending, Haste::Now) => process.end(Haste::Now).await,
        }
    }
    home.forget(&child);
    drop(place);
}
