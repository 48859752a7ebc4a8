//! The newest records of each workspace, held in memory: bounded by count for each and by bytes for all.

use crate::record::{Arrival, Record};
use millrace_schemas::{EventTime, RecordId, WorkspaceId};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What is held at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub records_per_workspace: usize,
    pub bytes: usize,
}

/// All recent records. The log's tail is pushed in by one thread; requests look.
pub struct Recent {
    limits: Limits,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    rings: HashMap<WorkspaceId, Ring>,
    bytes: usize,
    /// Before this time some partition was not read, so that records may be missing between those held.
    complete_since: Option<EventTime>,
}

/// The records of one workspace, each id once.
#[derive(Default)]
struct Ring {
    by_arrival: BTreeMap<Arrival, Arc<Record>>,
    by_id: HashMap<(RecordId, bool), Arrival>,
    bytes: usize,
}

/// What is held of one workspace, newest first. Not all need be valid.
#[derive(Debug, Default)]
pub struct Newest {
    pub records: Vec<Arc<Record>>,
    /// That many of them are the newest of all: no other record came in between.
    pub unbroken: usize,
}

impl Recent {
    pub fn new(limits: Limits) -> Self {
        Self { limits, held: Mutex::default() }
    }

    pub fn push(&self, record: Arc<Record>) {
        let mut held = self.held();
        let ring = held.rings.entry(record.head.workspace_id).or_default();
        let before = ring.bytes;
        ring.insert(record);
        if ring.by_arrival.len() > self.limits.records_per_workspace {
            ring.drop_oldest();
        }
        let after = ring.bytes;
        held.bytes = held.bytes + after - before;
        if held.bytes > self.limits.bytes {
            held.shrink(self.limits.bytes / 10 * 9);
        }
    }

    /// A partition was not read from its beginning, but from a record that arrived at `time`.
    pub fn begins_at(&self, time: EventTime) {
        let mut held = self.held();
        held.complete_since = held.complete_since.max(Some(time));
    }

    pub fn newest(&self, workspace: WorkspaceId) -> Newest {
        let held = self.held();
        let Some(ring) = held.rings.get(&workspace) else { return Newest::default() };
        let records: Vec<_> = ring.by_arrival.values().rev().cloned().collect();
        let since = held.complete_since;
        // Others of the same time as the first may have come just before it.
        let unbroken = records.partition_point(|record| Some(record.arrival.log_time) > since);
        Newest { records, unbroken }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Of records with the same id the first to arrive stays, as it is the one that counts, unless it is not valid.
    fn insert(&mut self, record: Arc<Record>) {
        if let Some(arrival) = self.by_id.get(&record.head.identity()).copied() {
            let stays = self.by_arrival.get(&arrival).is_some_and(|held| held.json().is_some());
            if stays && (arrival <= record.arrival || record.json().is_none()) {
                return;
            }
            self.remove(arrival);
        }
        self.by_id.insert(record.head.identity(), record.arrival);
        self.bytes += record.size_bytes();
        if let Some(replaced) = self.by_arrival.insert(record.arrival, record) {
            self.bytes -= replaced.size_bytes();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(arrival) = self.by_arrival.keys().next().copied() {
            self.remove(arrival);
        }
    }

    fn remove(&mut self, arrival: Arrival) {
        if let Some(record) = self.by_arrival.remove(&arrival) {
            self.by_id.remove(&record.head.identity());
            self.bytes -= record.size_bytes();
        }
    }
}

impl Held {
    /// Drops the oldest records of the workspaces that hold most, until all take no more than `target` bytes.
    fn shrink(&mut self, target: usize) {
        let level = level(self.rings.values().map(|ring| ring.bytes).collect(), target);
        for ring in self.rings.values_mut() {
            while ring.bytes > level {
                ring.drop_oldest();
            }
        }
        self.rings.retain(|_, ring| !ring.by_arrival.is_empty());
        self.bytes = self.rings.values().map(|ring| ring.bytes).sum();
    }
}

/// The highest level to which each size can be cut so that the sum is at most `target`.
fn level(mut sizes: Vec<usize>, target: usize) -> usize {
    sizes.sort_unstable();
    let mut left = target;
    for (index, size) in sizes.iter().enumerate() {
        let share = left / (sizes.len() - index);
        if *size > share {
            return share;
        }
        left -= size;
    }
    usize::MAX
}

#[cfg(test)]
mod tests;
