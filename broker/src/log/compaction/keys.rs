//! The last offset of each key, by a hash of 16 bytes, in bounded memory.

use super::transactions::Transactions;
use crate::log::{
    batch::{CONTROL, records},
    scan::Found,
};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

/// About 30 MB. With more keys a round ends early.
const KEYS_MAX: usize = 1 << 19;

pub struct Keys {
    offsets: HashMap<(u64, u64), i64>,
    /// Two secret keys, so that nobody can make hashes collide.
    hashers: (RandomState, RandomState),
    /// Records up to here are in the map.
    pub latest: i64,
    max: usize,
}

impl Keys {
    pub fn new(latest: i64) -> Self {
        Self::with_room(latest, KEYS_MAX)
    }

    pub fn with_room(latest: i64, max: usize) -> Self {
        Self { offsets: HashMap::new(), hashers: (RandomState::new(), RandomState::new()), latest, max }
    }

    /// Takes note of a batch, unless it was aborted. False where the map is full.
    pub fn take(&mut self, found: &Found<'_>, transactions: &mut Transactions) -> bool {
        let header = found.header;
        if header.is(CONTROL) {
            transactions.on_control(&header, found.bytes);
        } else if !transactions.on_data(&header) {
            let mut full = false;
            let walked = records::walk(found.bytes, &header, |record| {
                let offset = header.base_offset + i64::from(record.offset_delta);
                full = !self.put(record.key.unwrap_or_default(), offset);
                !full
            });
            if let Err(error) = walked {
                tracing::warn!(offset = header.base_offset, %error, "a batch can't be compacted and stays");
            }
            if full {
                return false;
            }
        }
        self.latest = self.latest.max(header.last_offset());
        true
    }

    fn put(&mut self, key: &[u8], offset: i64) -> bool {
        let hash = self.hash(key);
        if self.offsets.len() >= self.max && !self.offsets.contains_key(&hash) {
            return false;
        }
        self.offsets.insert(hash, offset);
        self.latest = self.latest.max(offset);
        true
    }

    /// Whether a later record has the key.
    pub fn is_replaced(&self, key: &[u8], offset: i64) -> bool {
        self.offsets.get(&self.hash(key)).is_some_and(|last| *last > offset)
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        (self.hashers.0.hash_one(key), self.hashers.1.hash_one(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_takes_known_keys_only() {
        let mut keys = Keys::with_room(-1, 2);
        assert!(keys.put(b"a", 0) && keys.put(b"b", 1) && keys.put(b"a", 2));
        assert!(!keys.put(b"c", 3));
        assert_eq!(keys.latest, 2);
        assert!(keys.is_replaced(b"a", 0) && !keys.is_replaced(b"a", 2) && !keys.is_replaced(b"c", 0));
    }
}
