//! A map that never holds more than it may.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

/// A map with at most `cap` entries. When one too many comes, an eighth of the entries leaves: those that
/// were used least often, and of these the ones that were used longest ago. So whoever floods it with new
/// entries pushes out other new entries, not what has been usual for long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    from = "Stored<K, V>",
    into = "Stored<K, V>",
    bound(
        serialize = "K: Clone + Eq + Hash + Serialize, V: Clone + Serialize",
        deserialize = "K: Eq + Hash + Deserialize<'de>, V: Deserialize<'de>"
    )
)]
pub struct Capped<K: Eq + Hash, V> {
    cap: usize,
    clock: u64,
    evicted: u64,
    entries: HashMap<K, Entry<V>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry<V> {
    uses: u32,
    used: u64,
    value: V,
}

impl<K: Eq + Hash, V> Capped<K, V> {
    /// An empty map.
    #[must_use]
    pub fn new(cap: usize) -> Self {
        Self {
            cap: cap.max(1),
            clock: 0,
            evicted: 0,
            entries: HashMap::new(),
        }
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many entries had to leave, ever.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The value of a key; this is no use of it.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// The value of a key for changing it; this is no use of it.
    #[must_use]
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// Takes an entry out.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.entries.remove(key).map(|entry| entry.value)
    }

    /// The value of a key, made if there is none. This is a use of it.
    pub fn at(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V
    where
        K: Clone,
    {
        self.clock += 1;
        if !self.entries.contains_key(&key) && self.entries.len() >= self.cap {
            self.make_room();
        }
        let clock = self.clock;
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            uses: 0,
            used: clock,
            value: make(),
        });
        entry.uses = entry.uses.saturating_add(1);
        entry.used = clock;
        &mut entry.value
    }

    /// The entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.value))
    }

    /// An entry as it is kept, with how much it was used.
    pub(crate) fn entry<Q>(&self, key: &Q) -> Option<&Entry<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.entries.get(key)
    }

    /// Puts back an entry that was kept, if there is room.
    pub(crate) fn put_back(&mut self, key: K, entry: Entry<V>) {
        if self.entries.len() < self.cap {
            self.clock = self.clock.max(entry.used);
            self.entries.insert(key, entry);
        }
    }

    /// The values, in no order.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut().map(|entry| &mut entry.value)
    }

    /// Keeps the entries that `keep` says yes to.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.entries.retain(|key, entry| keep(key, &entry.value));
    }

    /// Evicts an eighth at once, so that a flood costs little per entry.
    fn make_room(&mut self)
    where
        K: Clone,
    {
        let leave = (self.cap / 8).max(1).min(self.entries.len());
        let mut ranked: Vec<(u32, u64, K)> = self
            .entries
            .iter()
            .map(|(key, entry)| (entry.uses, entry.used, key.clone()))
            .collect();
        ranked.select_nth_unstable_by_key(leave - 1, |(uses, used, _)| (*uses, *used));
        for (_, _, key) in ranked.into_iter().take(leave) {
            self.entries.remove(&key);
        }
        self.evicted += leave as u64;
    }
}

#[derive(Serialize, Deserialize)]
struct Stored<K, V> {
    cap: usize,
    clock: u64,
    evicted: u64,
    entries: Vec<(K, Entry<V>)>,
}

impl<K: Eq + Hash, V> From<Stored<K, V>> for Capped<K, V> {
    fn from(stored: Stored<K, V>) -> Self {
        let cap = stored.cap.max(1);
        Self {
            cap,
            clock: stored.clock,
            evicted: stored.evicted,
            entries: stored.entries.into_iter().take(cap).collect(),
        }
    }
}

impl<K: Eq + Hash, V> From<Capped<K, V>> for Stored<K, V> {
    fn from(map: Capped<K, V>) -> Self {
        Self {
            cap: map.cap,
            clock: map.clock,
            evicted: map.evicted,
            entries: map.entries.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_flood_pushes_out_the_flood() {
        let mut map = Capped::new(64);
        for usual in 0..32 {
            for _ in 0..3 {
                map.at(usual, || ());
            }
        }
        for new in 1_000..100_000 {
            map.at(new, || ());
        }
        assert!((0..32).all(|usual| map.get(&usual).is_some()));
        assert!(map.len() <= 64);
    }

    proptest! {
        #[test]
        fn it_never_holds_more_than_it_may(
            cap in 1usize..40,
            keys in proptest::collection::vec(0u16..200, 0..400),
        ) {
            let mut map = Capped::new(cap);
            for key in keys {
                map.at(key, || key);
                prop_assert!(map.len() <= cap);
                prop_assert_eq!(map.get(&key), Some(&key), "the newest is always there");
            }
            let text = serde_json::to_string(&map).unwrap();
            prop_assert_eq!(serde_json::from_str::<Capped<u16, u16>>(&text).unwrap(), map);
        }
    }
}
