//! Nonces that proofs of possession must carry (RFC 9449 §8 and §9), so that whoever had a key for a moment has
//! no proofs for later.
//!
//! A nonce is an authenticator of the minute that it is made in. Nothing is stored: every process with the same
//! secret makes and takes the same, and they hold over a restart. What is compared is made once a minute, so that
//! a request costs two comparisons.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use jiff::Timestamp;
use subtle::ConstantTimeEq;

use crate::base64url;

/// For how long a nonce is the present one, in seconds. It is taken for as long again.
pub const NONCE_SECONDS: i64 = 60;
/// Bytes of a nonce: nobody guesses so many within two minutes.
const BYTES: usize = 16;

/// Whether nonces are demanded; shared by all who do, and changed while they run.
#[derive(Debug, Clone, Default)]
pub struct Demand(Arc<AtomicBool>);

impl Demand {
    /// Demands nonces from now on, or does not any more.
    pub fn set(&self, demanded: bool) {
        self.0.store(demanded, Ordering::Relaxed);
    }

    /// Whether they are demanded.
    #[must_use]
    pub fn is_made(&self) -> bool {
        // Nothing else is ordered by it.
        self.0.load(Ordering::Relaxed)
    }
}

/// Makes nonces, and knows them again. The secret is wiped by the library when this is dropped.
pub struct Nonces {
    key: hmac::Key,
    demand: Demand,
    made: ArcSwap<Made>,
}

/// The nonces of one minute.
struct Made {
    minute: i64,
    present: Arc<str>,
    before: Arc<str>,
}

impl Made {
    fn at(key: &hmac::Key, minute: i64) -> Self {
        let nonce = |minute: i64| {
            let tag = hmac::sign(key, &minute.to_be_bytes());
            Arc::from(base64url(&tag.as_ref()[..BYTES]))
        };
        Self {
            minute,
            present: nonce(minute),
            before: nonce(minute - 1),
        }
    }
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nonces")
    }
}

impl Nonces {
    /// Nonces of a secret that is for nothing else, asked for while there is a demand.
    #[must_use]
    pub fn new(secret: &[u8; 32], demand: Demand) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self {
            made: ArcSwap::from_pointee(Made::at(&key, 0)),
            key,
            demand,
        }
    }

    /// The nonce to use next, while nonces are demanded.
    #[must_use]
    pub fn present(&self, now: Timestamp) -> Option<Arc<str>> {
        self.demand
            .is_made()
            .then(|| Arc::clone(&self.made(now.as_second()).present))
    }

    /// Whether nonces are demanded.
    pub(crate) fn are_demanded(&self) -> bool {
        self.demand.is_made()
    }

    /// Whether a nonce is the present one or the one before, in the same time whatever the answer.
    pub(crate) fn know(&self, nonce: &str, second: i64) -> bool {
        let made = self.made(second);
        let is = |known: &str| nonce.as_bytes().ct_eq(known.as_bytes());
        (is(&made.present) | is(&made.before)).into()
    }

    fn made(&self, second: i64) -> arc_swap::Guard<Arc<Made>> {
        let minute = second.div_euclid(NONCE_SECONDS);
        let made = self.made.load();
        if made.minute == minute {
            return made;
        }
        self.made.store(Arc::new(Made::at(&self.key, minute)));
        // Somebody with another clock may have been faster; then theirs is compared, which is as good.
        self.made.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn nonces(secret: u8) -> Nonces {
        let demand = Demand::default();
        demand.set(true);
        Nonces::new(&[secret; 32], demand)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_nonce_is_good_for_its_minute_and_the_next() {
        let nonces = nonces(1);
        let nonce = nonces.present(at(NOW)).unwrap();
        assert_eq!(nonce.len(), 22);
        for (second, good) in [
            (NOW - 1, false),
            (NOW, true),
            (NOW + 59, true),
            (NOW + 119, true),
            (NOW + 120, false),
            (NOW + 60 * 60, false),
            (NOW, true),
        ] {
            assert_eq!(nonces.know(&nonce, second), good, "{}", second - NOW);
        }
        assert_eq!(nonces.present(at(NOW + 59)).unwrap(), nonce);
        assert_ne!(nonces.present(at(NOW + 60)).unwrap(), nonce);
    }

    #[test]
    fn others_secrets_make_others() {
        let (one, same, other) = (nonces(1), nonces(1), nonces(2));
        let nonce = one.present(at(NOW)).unwrap();
        assert!(same.know(&nonce, NOW), "it holds over a restart");
        assert!(!other.know(&nonce, NOW));
        for wrong in ["", "A", &nonce[..21], &format!("{nonce}A")] {
            assert!(!one.know(wrong, NOW), "{wrong}");
        }
    }

    #[test]
    fn none_is_offered_while_none_is_demanded() {
        let demand = Demand::default();
        let nonces = Nonces::new(&[1; 32], demand.clone());
        assert_eq!(nonces.present(at(NOW)), None);
        demand.set(true);
        assert!(nonces.present(at(NOW)).is_some());
    }
}
