//! Which raw records the stored windows contain: what the windows stage told with each of its commits, and how far the
//! sink has stored the rows that it speaks of. Pure; [`stored`] asks the database.
//!
//! A raw offset is contained when, for every partition of `partials` (a record's key may have led to any of them), the
//! windows told that all before it is in rows up to some offset of `aggregates`, and the sink has stored up to there.
//! Duplicates and dead letters are in no row, but the offsets pass over them all the same.

pub mod stored;

use millrace_schemas::{CommitToken, progress::Progress};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// The most commits of a partition that wait for the sink one by one; beyond it the newest replaces the one before, whose
/// records then count as stored a little later.
const WAITING_MAX: usize = 100;

/// By raw partition, the next offset; `None` where it is not known.
pub type Offsets = Vec<Option<i64>>;

#[derive(Default)]
pub struct Reach {
    partitions: Mutex<BTreeMap<i32, Partition>>,
    news: watch::Sender<()>,
}

/// One partition of `partials`, and the same of `aggregates`.
struct Partition {
    newest: Progress,
    /// Up to where the sink must have stored, and what is contained then; ascending.
    waiting: VecDeque<(i64, Offsets)>,
    stored: Offsets,
    /// Where the sink was seen last.
    sink: i64,
}

impl Reach {
    /// A record of the `progress` topic came.
    pub fn told(&self, progress: Progress) {
        let mut partitions = self.partitions();
        match partitions.get_mut(&progress.partition) {
            Some(partition) => partition.told(progress),
            None => {
                partitions.insert(progress.partition, Partition::new(progress));
            }
        }
        drop(partitions);
        self.news.send_replace(());
    }

    /// Where the sink is, by partition of `aggregates`.
    pub fn sink_is_at(&self, next: &BTreeMap<i32, i64>) {
        for (number, partition) in self.partitions().iter_mut() {
            partition.sink_is_at(next.get(number).copied().unwrap_or(0));
        }
    }

    /// Told whenever [`Self::told`] was called.
    pub fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// What was told last of each partition.
    pub fn newest(&self) -> Vec<Progress> {
        self.partitions().values().map(|partition| partition.newest.clone()).collect()
    }

    /// All records of the raw partition before this offset are in stored rows, duplicates or dead letters.
    pub fn stored(&self, source: i32) -> Option<i64> {
        least(&self.partitions(), |partition| at(&partition.stored, source))
    }

    /// The same of rows that have been emitted, stored or not.
    pub fn emitted(&self, source: i32) -> Option<i64> {
        least(&self.partitions(), |partition| partition.source(source)?.emitted)
    }

    pub fn has_stored(&self, token: &CommitToken) -> bool {
        token.next.iter().all(|(source, next)| self.stored(*source) >= Some(*next))
    }

    /// Only then it is worth while to ask how far the sink is.
    pub fn has_emitted(&self, token: &CommitToken) -> bool {
        token.next.iter().all(|(source, next)| self.emitted(*source) >= Some(*next))
    }

    fn partitions(&self) -> MutexGuard<'_, BTreeMap<i32, Partition>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The least over all partitions that there are; `None` if one of them is not known.
fn least(partitions: &BTreeMap<i32, Partition>, of: impl Fn(&Partition) -> Option<i64>) -> Option<i64> {
    let count = partitions.values().map(|partition| partition.newest.partitions).max()?;
    (0..count).map(|number| of(partitions.get(&number)?)).min().flatten()
}

fn at(offsets: &Offsets, source: i32) -> Option<i64> {
    offsets.get(usize::try_from(source).ok()?).copied().flatten()
}

impl Partition {
    fn new(progress: Progress) -> Self {
        let mut partition =
            Self { newest: progress, waiting: VecDeque::new(), stored: Offsets::new(), sink: 0 };
        partition.wait_for_newest();
        partition
    }

    fn told(&mut self, progress: Progress) {
        self.newest = progress;
        self.wait_for_newest();
    }

    fn wait_for_newest(&mut self) {
        let Some(rows_end) = self.newest.aggregates else { return };
        let emitted = self.newest.sources.iter().map(|source| source.and_then(|source| source.emitted));
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_back();
        }
        self.waiting.push_back((rows_end, emitted.collect()));
        self.settle();
    }

    fn sink_is_at(&mut self, next: i64) {
        if next < self.sink {
            // The database is an older one: what it had stored is not stored any more.
            self.stored.clear();
            self.waiting.clear();
            self.sink = next;
            self.wait_for_newest();
        }
        self.sink = next;
        self.settle();
    }

    fn settle(&mut self) {
        while let Some((_, contained)) = self.waiting.pop_front_if(|(rows_end, _)| *rows_end <= self.sink) {
            if self.stored.len() < contained.len() {
                self.stored.resize(contained.len(), None);
            }
            for (stored, contained) in self.stored.iter_mut().zip(contained) {
                *stored = contained.or(*stored);
            }
        }
    }

    fn source(&self, number: i32) -> Option<millrace_schemas::progress::Source> {
        self.newest.sources.get(usize::try_from(number).ok()?).copied().flatten()
    }
}

#[cfg(test)]
mod tests;
