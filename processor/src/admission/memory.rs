//! The ids of the records of two generations.

use super::Identity;
use std::hint::black_box;
use uuid::Uuid;

/// Slots of the first table.
const SLOTS_MIN: usize = 1_024;

/// What was seen in a generation and in the one before.
#[derive(Debug)]
pub(super) struct Memory {
    /// Of this memory alone: it is rebuilt with another after a restart.
    secret: u128,
    generation: i64,
    current: Ids,
    previous: Ids,
}

impl Memory {
    pub(super) fn new() -> Self {
        let secret = Uuid::new_v4().as_u128() | 1;
        Self { secret, generation: 0, current: Ids::new(secret), previous: Ids::new(secret) }
    }

    /// Whether it was seen, and remembers that it is now.
    pub(super) fn is_repeat(&mut self, generation: i64, identity: &Identity) -> bool {
        self.turn_to(generation);
        let fingerprint = fingerprint(self.secret, identity);
        !self.current.insert(fingerprint) || self.previous.contains(fingerprint)
    }

    /// Forgets what is older than the generation before.
    fn turn_to(&mut self, generation: i64) {
        if generation == self.generation {
            return;
        }
        std::mem::swap(&mut self.current, &mut self.previous);
        self.current.clear();
        if generation != self.generation + 1 {
            self.previous.clear();
        }
        self.generation = generation;
    }

    pub(super) fn look_ahead<'i>(&self, identities: impl IntoIterator<Item = &'i Identity>) {
        let seen = identities.into_iter().fold(0, |seen, identity| {
            let fingerprint = fingerprint(self.secret, identity);
            seen ^ self.current.first(fingerprint) ^ self.previous.first(fingerprint)
        });
        black_box(seen);
    }
}

/// 128 bits of (workspace, id, running). Within a workspace it is one to one in the id; between a running query and an
/// ended one, and between workspaces, it depends on a secret: ids may be neighbours, and a tenant could choose ids that
/// make another's records look like repeats.
fn fingerprint(secret: u128, identity: &Identity) -> u128 {
    let mut mixed = identity.workspace.0.as_u128().wrapping_mul(secret);
    mixed ^= mixed >> 67;
    mixed = mixed.wrapping_mul(secret.rotate_left(64) | 1) ^ (u128::from(identity.running) * secret);
    mixed ^= mixed >> 61;
    mixed ^ identity.id.0.as_u128()
}

/// A set in one array: a look is mostly one line of the cache, where a table with its marks apart has two.
#[derive(Debug)]
struct Ids {
    /// Two odd numbers, so that nobody can choose ids that come to lie together.
    keys: [u64; 2],
    /// 0 is an empty one; as many as a power of two.
    slots: Vec<u128>,
    used: usize,
    has_zero: bool,
}

impl Ids {
    /// Takes no memory before something is in it.
    fn new(secret: u128) -> Self {
        let [low, high] = halves(secret);
        Self { keys: [low | 1, high | 1], slots: Vec::new(), used: 0, has_zero: false }
    }

    /// Keeps the memory: as many will come again.
    fn clear(&mut self) {
        self.slots.fill(0);
        (self.used, self.has_zero) = (0, false);
    }

    fn contains(&self, id: u128) -> bool {
        match id {
            0 => self.has_zero,
            _ => self.find(id).is_some_and(|slot| self.slots[slot] == id),
        }
    }

    /// True if it was not there.
    fn insert(&mut self, id: u128) -> bool {
        if id == 0 {
            return !std::mem::replace(&mut self.has_zero, true);
        }
        // Never more than five of eight, or looks become long.
        if self.used * 8 >= self.slots.len() * 5 {
            self.grow();
        }
        let slot = self.find(id).expect("it has grown");
        let is_new = self.slots[slot] == 0;
        self.slots[slot] = id;
        self.used += usize::from(is_new);
        is_new
    }

    /// Where it is, or belongs; `None` without slots.
    fn find(&self, id: u128) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut slot = self.home(id);
        while self.slots[slot] != 0 && self.slots[slot] != id {
            slot = (slot + 1) & mask;
        }
        Some(slot)
    }

    /// The slot at which a look begins.
    fn home(&self, id: u128) -> usize {
        let ([low, high], [first, second]) = (halves(id), self.keys);
        let [folded, over] = halves(u128::from(low ^ first) * u128::from(high ^ second));
        // The high bits of a product depend on all of its factors.
        let mixed = (folded ^ over).wrapping_mul(first);
        let bits = self.slots.len().trailing_zeros();
        #[expect(clippy::cast_possible_truncation, reason = "there are as many slots in memory")]
        let slot = mixed.checked_shr(u64::BITS - bits).unwrap_or(0) as usize;
        slot
    }

    /// What a look begins with.
    fn first(&self, id: u128) -> u128 {
        self.slots.get(self.home(id)).copied().unwrap_or_default()
    }

    fn grow(&mut self) {
        let slots = (self.slots.len() * 2).max(SLOTS_MIN);
        let before = std::mem::replace(&mut self.slots, written(slots));
        for id in before.into_iter().filter(|id| *id != 0) {
            let slot = self.find(id).expect("it has grown");
            self.slots[slot] = id;
        }
    }
}

/// Empty slots, each of them written: of memory that is only set aside the first look would map a page to read, and the
/// first write another.
#[expect(clippy::slow_vector_initialization, reason = "the pages are to be written")]
fn written(slots: usize) -> Vec<u128> {
    let mut all = Vec::with_capacity(slots);
    all.resize(slots, 0);
    all
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are meant")]
fn halves(number: u128) -> [u64; 2] {
    [number as u64, (number >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn is_a_set(ids in prop::collection::vec(prop_oneof![0..50_u128, any::<u128>()], 0..5_000), secret: u128) {
            let (mut ids_seen, mut truth) = (Ids::new(secret), HashSet::new());
            for id in ids {
                prop_assert_eq!(ids_seen.contains(id), truth.contains(&id));
                prop_assert_eq!(ids_seen.insert(id), truth.insert(id));
                prop_assert!(ids_seen.contains(id));
            }
            prop_assert!(truth.iter().all(|id| ids_seen.contains(*id)));
        }
    }

    /// Neighbours in the low half, in the high half, multiples of large powers of two: the longest run of used slots stays
    /// short, as it does for ids without a pattern.
    #[test]
    fn ids_with_a_pattern_do_not_come_to_lie_together() {
        let patterns: [fn(u128) -> u128; 5] = [
            |number| number,
            |number| number << 64,
            |number| number << 40 | number,
            |number| number << 112,
            |number| Uuid::from_u128(number).as_u128() ^ (4 << 76),
        ];
        for pattern in patterns {
            let mut ids = Ids::new(Uuid::new_v4().as_u128());
            (1..=60_000).for_each(|number| assert!(ids.insert(pattern(number))));
            let runs = ids.slots.split(|slot| *slot == 0).map(<[u128]>::len);
            assert!(runs.max().is_some_and(|longest| longest < 200), "ids come to lie together");
        }
    }
}
