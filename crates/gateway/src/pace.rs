//! How fast agents and tasks may go. Each has one number, the moment from which it is on time again (the
//! generic cell rate algorithm of ITU-T I.371): a call moves it on by the interval of the rate, and is refused
//! when that is further ahead than the burst. No lock, nothing allocated, nothing to sweep.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::rate::Per;
use model::{Denial, Rate, RateLimit, Rule};

/// What moments are counted from.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A moment as a number: nanoseconds since this process counted the first.
pub(crate) fn moment(instant: Instant) -> u64 {
    let since = instant.saturating_duration_since(*BEGINNING);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// How far somebody has come.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// From when on the next call is on time.
    due: AtomicU64,
    refused: AtomicU64,
}

impl Pace {
    /// Counts one call, or says how long until there is room for it; then it is not counted.
    pub(crate) fn take(&self, rate: Rate, now: u64) -> Result<(), Duration> {
        let step = rate.interval();
        let most = step.saturating_mul(u64::from(rate.burst()));
        let mut due = self.due.load(Ordering::Relaxed);
        loop {
            // No further ahead than this rate lets anybody come: it may have been another one before.
            let furthest = now.saturating_add(most);
            let next = due.clamp(now, furthest) + step;
            if next - now > most {
                if due > furthest {
                    // Whoever changed it meanwhile brought it nearer, too.
                    let _ = self.due.compare_exchange(
                        due,
                        furthest,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    );
                }
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(Duration::from_nanos(next - now - most));
            }
            // Nothing else is ordered by it.
            match self
                .due
                .compare_exchange_weak(due, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(other) => due = other,
            }
        }
    }

    /// How many calls were refused so far.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Counts what was refused elsewhere on the way.
    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// A limit that may change while others read it; one load tells all of it.
#[derive(Debug, Default)]
pub(crate) struct Changing(AtomicU64);

/// Bits of a number of calls: a million fits.
const BITS: u32 = 20;

impl Changing {
    /// Takes a limit into use.
    pub(crate) fn set(&self, limit: RateLimit) {
        let packed = limit.rate().map_or(0, |rate| {
            let per_minute = u64::from(rate.per() == Per::Minute);
            u64::from(rate.calls()) << (BITS + 1) | u64::from(rate.burst()) << 1 | per_minute
        });
        self.0.store(packed, Ordering::Relaxed);
    }

    /// The rate, if there is a limit.
    pub(crate) fn get(&self) -> Option<Rate> {
        let packed = self.0.load(Ordering::Relaxed);
        if packed == 0 {
            return None;
        }
        let number = |bits: u64| u32::try_from(bits & ((1 << BITS) - 1)).unwrap_or(1);
        let per = match packed & 1 {
            0 => Per::Second,
            _ => Per::Minute,
        };
        Rate::new(number(packed >> (BITS + 1)), per, number(packed >> 1)).ok()
    }
}

/// The limits that hold for all.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// Of one agent, with all its tasks.
    pub(crate) agent: Changing,
    /// Of a task whose template does not say.
    pub(crate) task: Changing,
    /// Of one agent at the control listener.
    pub(crate) control: Changing,
}

/// Whose limit it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The task's.
    Task,
    /// One of a task that it is a part of.
    Whole,
    /// The agent's, for all its tasks together.
    Agent,
}

impl Whose {
    /// The word in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Whole => "parent",
            Self::Agent => "agent",
        }
    }
}

/// How fast somebody may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Going {
    /// So fast; without a rate, as fast as they like.
    pub rate: Option<Rate>,
    /// How many calls came too soon, since this process runs.
    pub refused: u64,
}

/// A call came too soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooFast {
    pub(crate) whose: Whose,
    pub(crate) rate: Rate,
    /// How long until it would not have.
    pub(crate) wait: Duration,
}

impl TooFast {
    /// As the agent is told.
    pub(crate) fn denial(&self) -> Denial {
        let rate = self.rate;
        let (reason, lifts) = match self.whose {
            Whose::Task => (
                format!("the task calls faster than it may ({rate})"),
                "`rate` in the template, or `limits.task_rate`",
            ),
            Whose::Whole => (
                "the task that this one is a part of may not call so fast".to_owned(),
                "`rate` in that task's template",
            ),
            Whose::Agent => (
                format!("the agent calls faster than it may, with all its tasks together ({rate})"),
                "`limits.agent_rate`",
            ),
        };
        Denial {
            rule: Rule::RateLimited,
            reason,
            remedy: format!(
                "wait {:.1} seconds, then send the same again; an operator sets the rate with {lifts}",
                self.wait.as_secs_f64().max(0.1)
            ),
        }
    }
}

/// How long to wait as the header `Retry-After` has it (RFC 9110 §10.2.3): whole seconds, at least one.
#[must_use]
pub fn retry_after(wait: Duration) -> http::HeaderValue {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    http::HeaderValue::from(whole.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(calls: u32, burst: u32) -> Rate {
        Rate::new(calls, Per::Second, burst).unwrap()
    }

    #[test]
    fn a_burst_passes_and_then_one_at_a_time() {
        let (pace, rate) = (Pace::default(), rate(10, 3));
        let now = 5 * SECOND;
        for _ in 0..3 {
            assert_eq!(pace.take(rate, now), Ok(()));
        }
        let wait = pace.take(rate, now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(pace.take(rate, now + SECOND / 20).is_err());
        assert_eq!(pace.take(rate, now + SECOND / 10), Ok(()));
        assert!(pace.take(rate, now + SECOND / 10).is_err());
        assert_eq!(pace.refused(), 3);
        // Being quiet saves up no more than the burst.
        let later = now + 60 * SECOND;
        let passed = (0..100).filter(|_| pace.take(rate, later).is_ok()).count();
        assert_eq!(passed, 3);
    }

    #[test]
    fn a_rate_that_changes_holds_nobody_back_for_longer_than_it_says() {
        let pace = Pace::default();
        let slow = Rate::new(1, Per::Minute, 1_000).unwrap();
        for _ in 0..1_000 {
            assert_eq!(pace.take(slow, SECOND), Ok(()));
        }
        let fast = rate(10, 2);
        let wait = pace.take(fast, SECOND).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert_eq!(pace.take(fast, SECOND + SECOND / 10), Ok(()));
    }

    #[test]
    fn no_more_pass_than_may_however_many_try_at_once() {
        let (pace, rate) = (Pace::default(), rate(1, 1_000));
        let passed: usize = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        (0..1_000)
                            .filter(|_| pace.take(rate, SECOND).is_ok())
                            .count()
                    })
                })
                .collect();
            tries.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(passed, 1_000);
        assert_eq!(pace.refused(), 7_000);
    }

    #[test]
    fn seconds_to_wait_are_whole() {
        for (millis, said) in [(1, "1"), (1_000, "1"), (1_001, "2"), (0, "1")] {
            assert_eq!(retry_after(Duration::from_millis(millis)), said);
        }
    }

    proptest! {
        #[test]
        fn limits_are_read_as_they_were_set(calls in 1u32..=1_000_000, burst in 1u32..=1_000_000, minute: bool) {
            let per = if minute { Per::Minute } else { Per::Second };
            let rate = Rate::new(calls, per, burst).unwrap();
            let limit = Changing::default();
            prop_assert_eq!(limit.get(), None);
            limit.set(RateLimit::At(rate));
            prop_assert_eq!(limit.get(), Some(rate));
            limit.set(RateLimit::Off);
            prop_assert_eq!(limit.get(), None);
        }

        /// In any stretch of time no more pass than the burst and what the rate gives in it.
        #[test]
        fn never_more_than_the_rate(
            calls in 1u32..2_000,
            burst in 1u32..50,
            gaps in proptest::collection::vec(0u64..2_000_000, 1..400),
        ) {
            let (pace, rate) = (Pace::default(), rate(calls, burst));
            let (mut now, mut passed) = (SECOND, Vec::new());
            for gap in gaps {
                now += gap;
                if pace.take(rate, now).is_ok() {
                    passed.push(now);
                }
            }
            for (position, from) in passed.iter().enumerate() {
                for (count, to) in passed[position..].iter().enumerate() {
                    let most = u64::from(burst) + (to - from) / rate.interval();
                    prop_assert!((count as u64) < most);
                }
            }
        }
    }
}
