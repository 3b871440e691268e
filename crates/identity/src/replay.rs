//! What was used once and must not be used again, for as long as it could be.
//!
//! The memory is bounded, and it never forgets early to make room: when it is full, it refuses.
//! So that nobody can fill it for others, an owner may hold at most a third of what is still free:
//! one takes a quarter of the room at most, and even after ten that took what they could there is
//! a twentieth left for newcomers.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use crate::sha256;

const SHARDS: usize = 16;
/// Smallest capacity: below it the shares would be too small to be of use.
const SMALLEST: usize = 4096;

/// Why something was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It was used before.
    Used,
    /// It may have been used before: its time was forgotten already.
    Forgotten,
    /// The owner holds as much as it may.
    NoRoom,
}

/// The memory.
pub(crate) struct Memory {
    shards: Box<[Mutex<Shard>]>,
    /// Entries of one shard.
    room: usize,
    /// Seconds that are forgotten together.
    width: i64,
}

#[derive(Default)]
struct Shard {
    buckets: Vec<Bucket>,
    /// Buckets with lower numbers were forgotten.
    lowest: i64,
}

/// What ends within the same stretch of time.
struct Bucket {
    number: i64,
    used: HashSet<u128>,
    owners: HashMap<u128, usize>,
}

impl Memory {
    /// For about so many entries, at 16 to 40 bytes each, which are kept for `window` seconds.
    pub(crate) fn new(capacity: usize, window: i64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::default())).collect(),
            room: capacity.max(SMALLEST) / SHARDS,
            width: (window / 4).max(1),
        }
    }

    /// Remembers that an owner used an id that is good until a second, both included.
    ///
    /// # Errors
    /// [`Refused`]
    pub(crate) fn use_once(
        &self,
        owner: &[u8; 32],
        id: &str,
        until: i64,
        now: i64,
    ) -> Result<(), Refused> {
        let mut bytes = Vec::with_capacity(32 + id.len());
        bytes.extend_from_slice(owner);
        bytes.extend_from_slice(id.as_bytes());
        let entry = number(&sha256(&bytes));
        let shard = usize::try_from(entry % SHARDS as u128).unwrap_or(0);
        let number = until.div_euclid(self.width);
        let oldest = now.div_euclid(self.width);
        self.shards[shard]
            .lock()
            .use_once(self::number(owner), entry, number, oldest, self.room)
    }
}

impl Shard {
    fn use_once(
        &mut self,
        owner: u128,
        entry: u128,
        number: i64,
        oldest: i64,
        room: usize,
    ) -> Result<(), Refused> {
        let lowest = &mut self.lowest;
        self.buckets.retain(|bucket| {
            let keep = bucket.number >= oldest;
            if !keep {
                *lowest = (*lowest).max(bucket.number + 1);
            }
            keep
        });
        // The clock was set back: what ends in that time may have been forgotten.
        if number < self.lowest {
            return Err(Refused::Forgotten);
        }
        let (mut all, mut own) = (0, 0);
        for bucket in &self.buckets {
            if bucket.used.contains(&entry) {
                return Err(Refused::Used);
            }
            all += bucket.used.len();
            own += bucket.owners.get(&owner).copied().unwrap_or(0);
        }
        if own * 3 >= room.saturating_sub(all) {
            return Err(Refused::NoRoom);
        }
        let position = match self
            .buckets
            .iter()
            .position(|bucket| bucket.number == number)
        {
            Some(position) => position,
            None => {
                let (used, owners) = Default::default();
                self.buckets.push(Bucket {
                    number,
                    used,
                    owners,
                });
                self.buckets.len() - 1
            }
        };
        let bucket = &mut self.buckets[position];
        bucket.used.insert(entry);
        *bucket.owners.entry(owner).or_default() += 1;
        Ok(())
    }
}

/// The first half of a hash: nobody finds two inputs that share it and are of use to him, since the
/// owner's own hash is part of the input.
fn number(hash: &[u8; 32]) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    u128::from_le_bytes(half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: i64 = 60;

    fn held(memory: &Memory) -> usize {
        let all = memory
            .shards
            .iter()
            .map(|s| s.lock().buckets.iter().map(|b| b.used.len()).sum::<usize>());
        all.sum()
    }

    #[test]
    fn nothing_is_used_twice_while_it_is_good() {
        let memory = Memory::new(0, WINDOW);
        assert_eq!(memory.use_once(&[1; 32], "a", 160, 100), Ok(()));
        for now in [100, 130, 160] {
            assert_eq!(memory.use_once(&[1; 32], "a", 160, now), Err(Refused::Used));
            // Not with another time either.
            assert_eq!(
                memory.use_once(&[1; 32], "a", now + 60, now),
                Err(Refused::Used)
            );
        }
        assert_eq!(memory.use_once(&[2; 32], "a", 160, 100), Ok(()));
        assert_eq!(memory.use_once(&[1; 32], "b", 160, 100), Ok(()));
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let memory = Memory::new(0, WINDOW);
        for second in 0..1_000 {
            memory
                .use_once(&[1; 32], &second.to_string(), second + 60, second)
                .unwrap();
        }
        assert!(held(&memory) < 1_000 - 800);
    }

    #[test]
    fn a_clock_that_is_set_back_opens_nothing() {
        let memory = Memory::new(0, WINDOW);
        memory.use_once(&[1; 32], "a", 160, 100).unwrap();
        // Forgets it, in the same shard.
        for other in 0..200 {
            memory
                .use_once(&[1; 32], &other.to_string(), 1_060, 1_000)
                .unwrap();
        }
        assert_eq!(
            memory.use_once(&[1; 32], "a", 160, 100),
            Err(Refused::Forgotten)
        );
    }

    #[test]
    fn one_owner_cannot_take_the_room_of_others() {
        let memory = Memory::new(0, WINDOW);
        let fill = |owner: u8| {
            let tries = 0..2 * SMALLEST;
            tries
                .filter(|id| {
                    memory
                        .use_once(&[owner; 32], &id.to_string(), 160, 100)
                        .is_ok()
                })
                .count()
        };
        let first = fill(1);
        assert!((SMALLEST / 5..=SMALLEST / 4).contains(&first), "{first}");
        // Whoever comes later still gets in, and the first one keeps what it has.
        for owner in 2..12 {
            assert!(fill(owner) > 0, "{owner}");
        }
        assert_eq!(memory.use_once(&[1; 32], "0", 160, 100), Err(Refused::Used));
        assert!(held(&memory) <= SMALLEST);
        // When time has passed, there is room again.
        assert_eq!(memory.use_once(&[1; 32], "new", 360, 300), Ok(()));
    }

    proptest! {
        #[test]
        fn agrees_with_a_memory_that_never_forgets(
            steps in proptest::collection::vec((0u8..3, 0u8..20, 0i64..=65, 0i64..20), 0..200),
        ) {
            let memory = Memory::new(0, WINDOW);
            let mut used = HashMap::new();
            let mut now = 1_000;
            for (owner, id, left, pause) in steps {
                now += pause;
                let got = memory.use_once(&[owner; 32], &id.to_string(), now + left, now);
                match used.get(&(owner, id)) {
                    Some(until) if *until >= now => prop_assert_eq!(got, Err(Refused::Used)),
                    _ => {
                        if got == Ok(()) {
                            used.insert((owner, id), now + left);
                        } else {
                            // Remembered somewhat longer than needed, never less.
                            prop_assert_eq!(got, Err(Refused::Used));
                        }
                    }
                }
            }
        }

        #[test]
        fn never_holds_more_than_its_room(
            owners in proptest::collection::vec(any::<u8>(), 0..3000),
        ) {
            let memory = Memory::new(0, WINDOW);
            for (id, owner) in owners.iter().enumerate() {
                let _ = memory.use_once(&[*owner; 32], &id.to_string(), 160, 100);
            }
            prop_assert!(held(&memory) <= SMALLEST);
        }
    }
}
