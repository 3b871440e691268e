//! Addresses that present credentials that are none. To find out that a token is forged takes a signature's
//! verification, so whoever sends many is put off: by the address that they come from, and not before their
//! credentials were wrong many times.
//!
//! Addresses of this machine are never put off. All agents on it share them, so one of them could keep out the
//! others; and a proxy in front of the gateway knows better who is calling.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::RateLimit;

use crate::pace::{Changing, Pace, moment};

/// Addresses that are told apart. Two share a place by chance only, since nobody outside knows which does
/// which; who is known is not put off with them.
const PLACES: usize = 2_048;

/// Marks an answer to credentials that were wrong, for whoever knows where they came from.
#[derive(Debug, Clone, Copy)]
pub struct Wrong;

/// How often addresses were wrong.
pub struct Sources {
    limit: Changing,
    places: Box<[Place]>,
    hasher: RandomState,
    /// Until when some address is put off, so that nobody looks while none is.
    until: AtomicU64,
}

#[derive(Default)]
struct Place {
    pace: Pace,
    /// Until when whoever is here is put off.
    until: AtomicU64,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            limit: Changing::default(),
            places: (0..PLACES).map(|_| Place::default()).collect(),
            hasher: RandomState::new(),
            until: AtomicU64::new(0),
        }
    }
}

impl Sources {
    /// Takes a limit into use.
    pub fn set(&self, limit: RateLimit) {
        self.limit.set(limit);
    }

    /// Takes note that credentials from an address were wrong.
    pub fn wrong(&self, from: IpAddr) {
        self.wrong_at(from, Instant::now());
    }

    fn wrong_at(&self, from: IpAddr, now: Instant) {
        let Some(rate) = self.limit.get() else {
            return;
        };
        let Some(place) = self.place(from) else {
            return;
        };
        let now = moment(now);
        if let Err(wait) = place.pace.take(rate, now) {
            let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX / 2);
            let until = now.saturating_add(wait);
            place.until.fetch_max(until, Ordering::Relaxed);
            self.until.fetch_max(until, Ordering::Relaxed);
        }
    }

    /// How long credentials from an address are not looked at any more; `None` when they are.
    #[must_use]
    pub fn put_off(&self, from: IpAddr) -> Option<Duration> {
        // Nobody ever was: nothing is looked at, the clock neither.
        match self.until.load(Ordering::Relaxed) {
            0 => None,
            until => self.put_off_at(from, until, Instant::now()),
        }
    }

    fn put_off_at(&self, from: IpAddr, until: u64, now: Instant) -> Option<Duration> {
        let now = moment(now);
        if until <= now || self.limit.get().is_none() {
            return None;
        }
        let until = self.place(from)?.until.load(Ordering::Relaxed);
        (until > now).then(|| Duration::from_nanos(until - now))
    }

    fn place(&self, from: IpAddr) -> Option<&Place> {
        let from = from.to_canonical();
        if from.is_loopback() {
            return None;
        }
        // Whoever has one address of IPv6 has the 64 bits behind it too.
        let number = match from {
            IpAddr::V4(address) => self.hasher.hash_one(address.octets()),
            IpAddr::V6(address) => self.hasher.hash_one(&address.octets()[..8]),
        };
        self.places
            .get(usize::try_from(number % PLACES as u64).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::rate::{Per, Rate};

    fn sources() -> Sources {
        let sources = Sources::default();
        let rate = Rate::new(10, Per::Second, 5).unwrap();
        sources.set(RateLimit::At(rate));
        sources
    }

    fn put_off(sources: &Sources, from: &str, now: Instant) -> Option<Duration> {
        let until = sources.until.load(Ordering::Relaxed);
        sources.put_off_at(from.parse().unwrap(), until, now)
    }

    #[test]
    fn whoever_is_wrong_too_often_is_put_off_for_a_while() {
        let (sources, now) = (sources(), Instant::now() + Duration::from_secs(1));
        let bad: IpAddr = "192.0.2.7".parse().unwrap();
        for _ in 0..5 {
            sources.wrong_at(bad, now);
            assert_eq!(put_off(&sources, "192.0.2.7", now), None);
        }
        sources.wrong_at(bad, now);
        let wait = put_off(&sources, "192.0.2.7", now).unwrap();
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        assert!(put_off(&sources, "::ffff:192.0.2.7", now).is_some());
        assert_eq!(put_off(&sources, "192.0.2.7", now + wait), None);
        let others = (1..=250).filter(|n| {
            let other = format!("198.51.100.{n}");
            put_off(&sources, &other, now).is_some()
        });
        assert!(others.count() < 10, "others are put off by chance only");
    }

    #[test]
    fn one_network_is_one_source_and_this_machine_is_none() {
        let (sources, now) = (sources(), Instant::now() + Duration::from_secs(1));
        for n in 0..20 {
            sources.wrong_at(format!("2001:db8:1:2::{n}").parse().unwrap(), now);
            sources.wrong_at("127.0.0.1".parse().unwrap(), now);
            sources.wrong_at("::1".parse().unwrap(), now);
        }
        assert!(put_off(&sources, "2001:db8:1:2:ffff::1", now).is_some());
        for own in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(put_off(&sources, own, now), None, "{own}");
        }
    }

    #[test]
    fn without_a_limit_nobody_is() {
        let (sources, now) = (Sources::default(), Instant::now());
        let bad: IpAddr = "192.0.2.7".parse().unwrap();
        for _ in 0..100_000 {
            sources.wrong_at(bad, now);
        }
        assert_eq!(sources.put_off(bad), None);
        let sources = self::sources();
        for _ in 0..100 {
            sources.wrong_at(bad, Instant::now());
        }
        assert!(sources.put_off(bad).is_some());
        sources.set(RateLimit::Off);
        assert_eq!(sources.put_off(bad), None, "a limit that is lifted is");
    }
}
