//! Committed offsets of all groups, and those that wait for a transaction. It changes by events only.

#[cfg(test)]
mod tests;

use super::event::{Event, Offset, Partition};
use crate::log::Outcome;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A longer text with an offset is answered with OffsetMetadataTooLarge, as in Kafka.
pub const METADATA_BYTES_MAX: usize = 4096;
/// The most offsets that wait for transactions, of all groups together; more are answered with CoordinatorNotAvailable.
pub const PENDING_MAX: usize = 100_000;
/// How many offsets one event of a snapshot holds.
const SNAPSHOT_RUN: usize = 1000;

#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
    pub committed_ms: i64,
    /// Which commit was later: one that came after a transaction's wins over it, as in Kafka.
    order: u64,
}

type ByPartition = BTreeMap<Partition, Committed>;

#[derive(Debug, Default)]
struct OfGroup {
    committed: ByPartition,
    /// By producer.
    pending: BTreeMap<i64, ByPartition>,
}

#[derive(Debug, Default)]
pub struct Offsets {
    by_group: HashMap<String, OfGroup>,
    order: u64,
}

impl Offsets {
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Offsets { group, offsets } => self.commit(group, offsets),
            Event::PendingOffsets { producer_id, group, offsets } => self.hold(*producer_id, group, offsets),
            Event::OffsetsDeleted { group, partitions } => self.delete(group, partitions),
            Event::GroupDeleted { group } => {
                self.by_group.remove(group);
            }
            Event::TopicDeleted { topic } => self.delete_topic(topic),
            Event::Transaction(transaction) => {
                if let Some(outcome) = transaction.state.decided() {
                    self.decide(transaction.producer_id, &transaction.groups, outcome);
                }
            }
            _ => {}
        }
    }

    fn commit(&mut self, group: &str, offsets: &[Offset]) {
        let committed = &mut self.by_group.entry(group.to_owned()).or_default().committed;
        insert(committed, offsets, &mut self.order);
    }

    fn hold(&mut self, producer_id: i64, group: &str, offsets: &[Offset]) {
        let group = self.by_group.entry(group.to_owned()).or_default();
        insert(group.pending.entry(producer_id).or_default(), offsets, &mut self.order);
    }

    fn decide(&mut self, producer_id: i64, groups: &BTreeSet<String>, outcome: Outcome) {
        for id in groups {
            let Some(group) = self.by_group.get_mut(id) else { continue };
            let pending = group.pending.remove(&producer_id).unwrap_or_default();
            if outcome == Outcome::Commit {
                group.take_over(pending);
            }
            if group.is_empty() {
                self.by_group.remove(id);
            }
        }
    }

    fn delete(&mut self, group: &str, partitions: &[Partition]) {
        let Some(known) = self.by_group.get_mut(group) else { return };
        for partition in partitions {
            known.committed.remove(partition);
            known.pending.values_mut().for_each(|pending| drop(pending.remove(partition)));
        }
        self.tidy();
    }

    fn delete_topic(&mut self, topic: &str) {
        for group in self.by_group.values_mut() {
            group.committed.retain(|(name, _), _| name != topic);
            group.pending.values_mut().for_each(|pending| pending.retain(|(name, _), _| name != topic));
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        self.by_group.values_mut().for_each(|group| group.pending.retain(|_, pending| !pending.is_empty()));
        self.by_group.retain(|_, group| !group.is_empty());
    }

    pub fn has(&self, group: &str) -> bool {
        self.by_group.contains_key(group)
    }

    pub fn get(&self, group: &str, partition: &Partition) -> Option<&Committed> {
        self.by_group.get(group)?.committed.get(partition)
    }

    /// Whether an open transaction has an offset for it.
    pub fn is_unstable(&self, group: &str, partition: &Partition) -> bool {
        let known = self.by_group.get(group);
        known.is_some_and(|known| known.pending.values().any(|pending| pending.contains_key(partition)))
    }

    /// The partitions that have a committed offset.
    pub fn partitions(&self, group: &str) -> impl Iterator<Item = &Partition> {
        self.by_group.get(group).into_iter().flat_map(|known| known.committed.keys())
    }

    /// All topics that an offset is for.
    pub fn topics(&self) -> impl Iterator<Item = String> + '_ {
        let of_group = |known: &OfGroup| {
            let pending = known.pending.values().flat_map(BTreeMap::keys);
            known.committed.keys().chain(pending).map(|(topic, _)| topic.clone()).collect::<Vec<_>>()
        };
        self.by_group.values().flat_map(of_group)
    }

    pub fn pending_len(&self) -> usize {
        self.by_group.values().flat_map(|group| group.pending.values()).map(BTreeMap::len).sum()
    }

    /// Partitions whose commit is so old, and that no transaction is about to commit.
    pub fn older_than(&self, group: &str, committed_ms: i64) -> Vec<Partition> {
        let old = |partition: &&Partition| {
            let is_old = self.get(group, partition).is_some_and(|known| known.committed_ms <= committed_ms);
            is_old && !self.is_unstable(group, partition)
        };
        self.partitions(group).filter(old).cloned().collect()
    }

    /// Events that cut back what lies past the end of a log.
    pub fn cut_back(&self, end: impl Fn(&Partition) -> Option<i64>) -> Vec<Event> {
        let cut = |offsets: &ByPartition| {
            let past = offsets.iter().filter_map(|(partition, known)| {
                let end = end(partition).filter(|end| *end < known.offset)?;
                Some(Offset { offset: end, leader_epoch: -1, ..known.to_event(partition) })
            });
            past.collect::<Vec<_>>()
        };
        let of_group = |(group, known): (&String, &OfGroup)| {
            let committed = Event::Offsets { group: group.clone(), offsets: cut(&known.committed) };
            let pending = known.pending.iter().map(|(producer_id, pending)| Event::PendingOffsets {
                producer_id: *producer_id,
                group: group.clone(),
                offsets: cut(pending),
            });
            std::iter::once(committed).chain(pending).collect::<Vec<_>>()
        };
        let has_any = |event: &Event| matches!(event, Event::Offsets { offsets, .. } | Event::PendingOffsets { offsets, .. } if !offsets.is_empty());
        self.by_group.iter().flat_map(of_group).filter(has_any).collect()
    }

    /// Events that make the same state, in the order in which commits came.
    pub fn snapshot(&self) -> impl Iterator<Item = Event> + '_ {
        self.by_group.iter().flat_map(|(group, known)| known.snapshot(group))
    }
}

impl OfGroup {
    fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.pending.is_empty()
    }

    fn take_over(&mut self, pending: ByPartition) {
        for (partition, offset) in pending {
            let is_outdated = self.committed.get(&partition).is_some_and(|known| known.order > offset.order);
            if !is_outdated {
                self.committed.insert(partition, offset);
            }
        }
    }

    fn snapshot(&self, group: &str) -> Vec<Event> {
        let committed =
            self.committed.iter().map(|(partition, known)| (known.order, None, known.to_event(partition)));
        let pending = self.pending.iter().flat_map(|(producer_id, pending)| {
            pending
                .iter()
                .map(|(partition, known)| (known.order, Some(*producer_id), known.to_event(partition)))
        });
        let mut all: Vec<_> = committed.chain(pending).collect();
        all.sort_by_key(|(order, ..)| *order);
        let runs = all.chunk_by(|left, right| left.1 == right.1).flat_map(|run| run.chunks(SNAPSHOT_RUN));
        let event = |run: &[(u64, Option<i64>, Offset)]| {
            let offsets = run.iter().map(|(.., offset)| offset.clone()).collect();
            match run.first().and_then(|(_, producer_id, _)| *producer_id) {
                None => Event::Offsets { group: group.to_owned(), offsets },
                Some(producer_id) => Event::PendingOffsets { producer_id, group: group.to_owned(), offsets },
            }
        };
        runs.map(event).collect()
    }
}

impl Committed {
    fn to_event(&self, (topic, partition): &Partition) -> Offset {
        Offset {
            topic: topic.clone(),
            partition: *partition,
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: self.metadata.clone(),
            committed_ms: self.committed_ms,
        }
    }
}

fn insert(into: &mut ByPartition, offsets: &[Offset], order: &mut u64) {
    for offset in offsets {
        *order += 1;
        let committed = Committed {
            offset: offset.offset,
            leader_epoch: offset.leader_epoch,
            metadata: offset.metadata.clone(),
            committed_ms: offset.committed_ms,
            order: *order,
        };
        into.insert((offset.topic.clone(), offset.partition), committed);
    }
}
