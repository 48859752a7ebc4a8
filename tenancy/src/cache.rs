//! A bounded map whose entries grow old but stay usable for a while, for when the database is away. Time is an argument.

use std::{collections::HashMap, hash::Hash, time::Duration, time::Instant};

/// At most `capacity` entries, fresh for `fresh_for`, and usable though stale for `usable_for`.
pub struct Cache<K, V> {
    entries: HashMap<K, Entry<V>>,
    limits: Limits,
}

#[derive(Clone, Copy)]
pub struct Limits {
    pub capacity: usize,
    pub fresh_for: Duration,
    pub usable_for: Duration,
}

struct Entry<V> {
    value: V,
    stored_at: Instant,
    fresh_until: Instant,
}

/// What the cache knows about a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<V> {
    Fresh(V),
    /// To be asked for again; this value may be used if there is no answer.
    Stale(V),
    Nothing,
}

impl<K: Hash + Eq, V: Copy> Cache<K, V> {
    pub fn new(limits: Limits) -> Self {
        Self { entries: HashMap::new(), limits }
    }

    pub fn get(&self, key: &K, now: Instant) -> Found<V> {
        match self.entries.get(key) {
            Some(entry) if now < entry.fresh_until => Found::Fresh(entry.value),
            Some(entry) if now < entry.stored_at + self.limits.usable_for => Found::Stale(entry.value),
            _ => Found::Nothing,
        }
    }

    /// Like `get`, but a stale entry counts as fresh for `grace` from now, so that only this caller asks for it again.
    pub fn claim(&mut self, key: &K, now: Instant, grace: Duration) -> Found<V> {
        let found = self.get(key, now);
        if let (Found::Stale(_), Some(entry)) = (&found, self.entries.get_mut(key)) {
            entry.fresh_until = now + grace;
        }
        found
    }

    /// A full cache first drops what is stale and, if that makes no room, everything.
    pub fn put(&mut self, key: K, value: V, now: Instant) {
        if self.entries.len() >= self.limits.capacity && !self.entries.contains_key(&key) {
            self.entries.retain(|_, entry| now < entry.fresh_until);
            if self.entries.len() >= self.limits.capacity {
                self.entries.clear();
            }
        }
        let entry = Entry { value, stored_at: now, fresh_until: now + self.limits.fresh_for };
        self.entries.insert(key, entry);
    }

    pub fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { capacity: 2, fresh_for: Duration::from_secs(30), usable_for: Duration::from_secs(60) };

    #[test]
    fn an_entry_is_fresh_then_stale_then_gone() {
        let start = Instant::now();
        let mut cache = Cache::new(LIMITS);
        cache.put("a", 1, start);
        assert_eq!(cache.get(&"a", start + Duration::from_secs(29)), Found::Fresh(1));
        assert_eq!(cache.get(&"a", start + Duration::from_secs(30)), Found::Stale(1));
        assert_eq!(cache.get(&"a", start + Duration::from_secs(60)), Found::Nothing);
    }

    #[test]
    fn one_caller_refreshes_a_stale_entry_while_the_others_use_it() {
        let later = Instant::now() + Duration::from_secs(40);
        let mut cache = Cache::new(LIMITS);
        cache.put("a", 1, later - Duration::from_secs(40));
        assert_eq!(cache.claim(&"a", later, Duration::from_secs(3)), Found::Stale(1));
        assert_eq!(cache.claim(&"a", later, Duration::from_secs(3)), Found::Fresh(1));
        assert_eq!(
            cache.claim(&"a", later + Duration::from_secs(3), Duration::from_secs(3)),
            Found::Stale(1)
        );
    }

    #[test]
    fn never_holds_more_than_its_capacity() {
        let now = Instant::now();
        let mut cache = Cache::new(LIMITS);
        for key in 0..100 {
            cache.put(key, key, now);
            assert!(cache.entries.len() <= LIMITS.capacity);
            assert_eq!(cache.get(&key, now), Found::Fresh(key));
        }
    }
}
