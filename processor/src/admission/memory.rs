//! The ids of the records of two generations.

mod blocks;
mod prefetch;

use super::Identity;
use blocks::Blocks;
use prefetch::prefetch;
use uuid::Uuid;

/// Slots of the first table.
const SLOTS_MIN: usize = 1_024;
/// So many records before it is judged, what a record is looked up by should be asked for: memory takes as long to answer as
/// it takes to judge some.
pub const AHEAD: usize = 16;

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

    /// What it knows a record by.
    pub(super) fn mark(&self, identity: &Identity) -> Mark {
        // Both sets have the same keys.
        self.current.mark(halves(fingerprint(self.secret, identity)))
    }

    /// Whether it was seen, and remembers that it is now.
    pub(super) fn is_repeat(&mut self, generation: i64, mark: &Mark) -> bool {
        self.turn_to(generation);
        !self.current.insert(mark) || self.previous.contains(mark)
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

    /// Asks the core for what a look at this begins with.
    pub(super) fn look_ahead(&self, mark: &Mark) {
        self.current.look_ahead(mark);
        self.previous.look_ahead(mark);
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

/// A set: what is looked at first is small, so that much of it stays in the caches, also in those of addresses; the ids
/// lie in the order in which they came.
#[derive(Debug)]
struct Ids {
    /// Two odd numbers, so that nobody can choose ids that come to lie together.
    keys: [u64; 2],
    ids: Blocks,
    /// As many as a power of two, 2ⁿ. 0 is an empty one; else the low n bits say where the id is, from 1, and the rest is
    /// some of the id's hash.
    slots: Vec<u32>,
}

/// What a memory knows a record by: no other memory does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// As halves: an `u128` would lie at a multiple of its size, and make what it is a part of larger.
    id: [u64; 2],
    hash: u64,
}

/// What a look is for.
struct Sought {
    id: [u64; 2],
    /// The slot at which it begins.
    home: usize,
    /// As in a slot.
    tag: u32,
}

impl Ids {
    /// Takes no memory before something is in it.
    fn new(secret: u128) -> Self {
        let [low, high] = halves(secret);
        Self { keys: [low | 1, high | 1], ids: Blocks::default(), slots: Vec::new() }
    }

    /// Keeps the memory: as many will come again.
    fn clear(&mut self) {
        self.ids.clear();
        self.slots.fill(0);
    }

    fn contains(&self, mark: &Mark) -> bool {
        !self.slots.is_empty() && self.find(&self.sought(mark)).is_ok()
    }

    /// True if it was not there.
    fn insert(&mut self, mark: &Mark) -> bool {
        // Never more than five of eight, or looks become long.
        if self.ids.len() * 8 >= self.slots.len() * 5 {
            self.grow();
        }
        let sought = self.sought(mark);
        let Err(slot) = self.find(&sought) else { return false };
        self.ids.push(mark.id);
        let place = u32::try_from(self.ids.len()).expect("fewer than slots");
        self.slots[slot] = sought.tag | place;
        true
    }

    /// In which slot it is, or else in which it belongs. There are slots, and one of them is empty.
    fn find(&self, sought: &Sought) -> Result<usize, usize> {
        let (last, mask) = (self.slots.len() - 1, self.place_mask());
        let mut slot = sought.home;
        loop {
            let found = self.slots[slot];
            if found == 0 {
                return Err(slot);
            }
            if found & !mask == sought.tag && self.ids.get((found & mask) as usize - 1) == sought.id {
                return Ok(slot);
            }
            slot = (slot + 1) & last;
        }
    }

    fn sought(&self, mark: &Mark) -> Sought {
        let Mark { id, hash } = *mark;
        #[expect(clippy::cast_possible_truncation, reason = "32 bits are meant")]
        let below = (hash >> (u64::BITS - u32::BITS - self.slots.len().trailing_zeros())) as u32;
        Sought { id, home: self.home(mark), tag: below & !self.place_mask() }
    }

    /// The bits of a slot that say where the id is.
    fn place_mask(&self) -> u32 {
        u32::try_from(self.slots.len() - 1).expect("a generation has at most 100,000,000 records")
    }

    fn mark(&self, id: [u64; 2]) -> Mark {
        let ([low, high], [first, second]) = (id, self.keys);
        let [folded, over] = halves(u128::from(low ^ first) * u128::from(high ^ second));
        // The high bits of a product depend on all of its factors.
        Mark { id, hash: (folded ^ over).wrapping_mul(first) }
    }

    /// The slot at which a look begins.
    fn home(&self, mark: &Mark) -> usize {
        let bits = self.slots.len().trailing_zeros();
        #[expect(clippy::cast_possible_truncation, reason = "there are as many slots in memory")]
        let slot = mark.hash.checked_shr(u64::BITS - bits).unwrap_or(0) as usize;
        slot
    }

    fn look_ahead(&self, mark: &Mark) {
        prefetch(&self.slots, self.home(mark));
    }

    fn grow(&mut self) {
        let slots = (self.slots.len() * 2).max(SLOTS_MIN);
        // All that was in it is in the ids: both need not be there together.
        self.slots = Vec::new();
        self.slots = written(slots);
        let ids = std::mem::take(&mut self.ids);
        let laters = ids.iter().skip(AHEAD).map(Some).chain(std::iter::repeat(None));
        for ((id, later), place) in ids.iter().zip(laters).zip(1..) {
            if let Some(later) = later {
                self.look_ahead(&self.mark(later));
            }
            let sought = self.sought(&self.mark(id));
            let slot = self.free_from(sought.home);
            self.slots[slot] = sought.tag | place;
        }
        self.ids = ids;
    }

    /// The first empty slot from there on.
    fn free_from(&self, home: usize) -> usize {
        let last = self.slots.len() - 1;
        let mut slot = home;
        while self.slots[slot] != 0 {
            slot = (slot + 1) & last;
        }
        slot
    }
}

/// Empty slots, each of them written: of memory that is only set aside the first look would map a page to read, and the
/// first write another.
#[expect(clippy::slow_vector_initialization, reason = "the pages are to be written")]
fn written(slots: usize) -> Vec<u32> {
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
                let mark = ids_seen.mark(halves(id));
                prop_assert_eq!(ids_seen.contains(&mark), truth.contains(&id));
                prop_assert_eq!(ids_seen.insert(&mark), truth.insert(id));
                prop_assert!(ids_seen.contains(&mark));
            }
            prop_assert!(truth.iter().all(|id| ids_seen.contains(&ids_seen.mark(halves(*id)))));
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
            (1..=60_000).for_each(|number| assert!(ids.insert(&ids.mark(halves(pattern(number))))));
            let runs = ids.slots.split(|slot| *slot == 0).map(<[u32]>::len);
            assert!(runs.max().is_some_and(|longest| longest < 200), "ids come to lie together");
        }
    }
}
