//! A combine worker on the log in memory: what [`crate::stage::combine`] does around [`crate::stage::chunk`].

use super::{
    super::{
        chunk::{Record, Source},
        frame::{self, Router},
    },
    fault::Fault,
    log::{Judged, Letter, Raw, Transaction, index},
    site::{Ending, Site},
    truth::Place,
};
use crate::{
    admission::{Admission, Verdict},
    plan,
};
use arrow::array::RecordBatch;
use hashbrown::HashSet;
use millrace_log::NextOffset;
use millrace_schemas::{EventTime, ledger::Entry, partial::Header};
use std::collections::BTreeMap;

struct Held {
    source: Source,
    /// Read up to here.
    position: i64,
    epoch: u64,
}

pub struct Worker {
    number: usize,
    held: BTreeMap<i32, Held>,
    stalled: Option<Transaction>,
}

impl Worker {
    pub fn new(number: usize) -> Self {
        Self { number, held: BTreeMap::new(), stalled: None }
    }

    /// It dies, and its successor begins from what is committed.
    pub fn die(&mut self) {
        *self = Self::new(self.number);
    }

    /// Up to `records` of each of its partitions become one transaction.
    pub fn step(&mut self, site: &mut Site<'_>, records: usize, ending: Ending) {
        if let Some(transaction) = self.stalled.take() {
            site.tell(format_args!("combine {} goes on", self.number));
            return self.end(site, transaction, ending);
        }
        self.follow_assignment(site);
        let chunk = self.poll(site, records);
        if let Some(transaction) = self.process(site, &chunk) {
            self.end(site, transaction, ending);
        }
    }

    fn end(&mut self, site: &mut Site<'_>, mut transaction: Transaction, ending: Ending) {
        if ending == Ending::Stalls {
            site.tell(format_args!("  stalls"));
            self.stalled = Some(transaction);
            return;
        }
        let apart = site.has(Fault::CombineOffsetApart).then(|| std::mem::take(&mut transaction.raw_offsets));
        let committed = site.end(transaction, ending);
        if let Some(offsets) = apart.filter(|_| ending == Ending::Committed) {
            site.log.raw_offsets.extend(offsets);
        }
        if !committed || ending != Ending::Committed {
            self.die();
        }
    }

    fn follow_assignment(&mut self, site: &mut Site<'_>) {
        let assigned = site.log.combine.of(self.number);
        self.held.retain(|partition, held| assigned.contains(&(*partition, held.epoch)));
        for (partition, epoch) in assigned {
            self.held.entry(partition).or_insert_with(|| restore(site, partition, epoch));
        }
    }

    fn poll(&mut self, site: &mut Site<'_>, records: usize) -> Vec<Record> {
        let mut chunk = Vec::new();
        for (partition, held) in &mut self.held {
            let topic = &site.log.raw[index(*partition)];
            let read = topic.from(held.position).take(records);
            for (offset, raw) in read {
                held.source.receives(offset);
                held.position = offset + 1;
                let mut record = record(*partition, offset, raw);
                record.admitted = held.source.admits(&record, &site.created);
                chunk.push(record);
            }
            if topic.from(held.position).next().is_none() {
                held.source.reached_end();
            }
        }
        chunk
    }

    fn process(&mut self, site: &mut Site<'_>, records: &[Record]) -> Option<Transaction> {
        let (mut raw, mut transaction) = (plan::Raw::default(), Transaction::default());
        for record in records {
            let held = self.held.get_mut(&record.partition).expect("it was read for this worker");
            let verdict = held.source.take(record, &site.created, &mut raw, site.now);
            let place = match verdict {
                Verdict::Counted if record.is_running() => Place::Running,
                Verdict::Counted => Place::Counted,
                Verdict::Duplicate => Place::Duplicate,
                Verdict::DeadLetter { reason, .. } => {
                    let letter = Letter { partition: record.partition, offset: record.offset };
                    transaction.letters.push((letter, reason));
                    Place::DeadLetter(reason)
                }
            };
            transaction.judged.push(Judged { partition: record.partition, offset: record.offset, place });
        }
        let idle_after = site.windows.idle_after.into();
        let told = self.held.iter_mut();
        let progress: Vec<_> = told
            .filter_map(|(partition, held)| held.source.progress(*partition, site.now, idle_after))
            .collect();
        if progress.is_empty() {
            return None;
        }
        site.tell(format_args!("combine {}: {} records, {progress:?}", self.number, records.len()));
        for told in &progress {
            let next = self.held[&told.partition].source.next.get();
            transaction.raw_offsets.insert(told.partition, next + offset_error(site));
        }
        for (partition, held) in &mut self.held {
            let spans = held.source.tallied().into_iter();
            transaction.told.extend(spans.map(|span| Entry::Combine(span.of("raw", *partition))));
        }
        transaction.raw_members =
            self.held.iter().map(|(partition, held)| (*partition, held.epoch)).collect();
        let states = (!raw.is_empty()).then(|| site.engine.plan.partial(&mut raw).expect("it aggregates"));
        let oldest_arrival = records.iter().map(|record| record.append_time).min();
        let sources = i32::try_from(site.log.raw.len()).expect("few");
        let header = Header { sources, progress, oldest_arrival };
        transaction.partials = frames(site, &header, states.as_ref());
        Some(transaction)
    }
}

fn offset_error(site: &Site<'_>) -> i64 {
    match site.fault {
        Some(Fault::CombineOffsetAhead) => 1,
        Some(Fault::CombineOffsetBehind) => -1,
        _ => 0,
    }
}

fn frames(site: &Site<'_>, header: &Header, states: Option<&RecordBatch>) -> Vec<(i32, Vec<u8>)> {
    let mut router = Router::new(i32::try_from(site.log.partials.len()).expect("few"));
    let parts = states.map(|states| router.split(states).expect("it splits")).unwrap_or_default();
    let mut parts = parts.into_iter();
    let mut frames = Vec::new();
    for partition in 0..router.partitions() {
        let part = parts.next().flatten();
        let mut of_partition = Vec::new();
        if site.has(Fault::ProgressBeforeStates) && part.is_some() {
            of_partition.extend(frame::encode(header, None).expect("it encodes"));
        }
        of_partition.extend(frame::encode(header, part.as_ref()).expect("it encodes"));
        frames.extend(of_partition.into_iter().map(|frame| (partition, frame)));
    }
    frames
}

/// Judges once more what the duplicate memory must hold.
fn restore(site: &mut Site<'_>, partition: i32, epoch: u64) -> Held {
    let next = NextOffset::exclusive(site.log.raw_offsets.get(&partition).copied().unwrap_or(0).max(0));
    let settings = site.admission();
    let mut source = Source::new(Admission::new(&settings), next);
    let from = Admission::restore_from(next, &settings);
    let dead = dead_letters(site, partition);
    let mut discarded = plan::Raw::default();
    let stretch = site.log.raw[index(partition)].from(from.get());
    let stretch =
        stretch.take_while(|(offset, _)| *offset < next.get() && !site.has(Fault::DuplicatesForgotten));
    for (offset, raw) in stretch.filter(|(offset, _)| !dead.contains(offset)) {
        let mut record = record(partition, offset, raw);
        if let Ok((identity, _)) = &record.parsed {
            record.append_time = identity.admitted_at(record.append_time);
        }
        source.take(&record, &site.created, &mut discarded, EventTime(i64::MIN));
    }
    source.restored(next, NextOffset::START);
    site.tell(format_args!("  raw partition {partition} from {next}, remembered from {from}"));
    Held { source, position: next.get(), epoch }
}

/// The offsets of a raw partition that the log says are dead letters.
pub fn dead_letters(site: &Site<'_>, partition: i32) -> HashSet<i64> {
    let letters = site.log.letters.from(0).map(|(_, (letter, _))| letter);
    letters
        .filter(|letter| letter.partition == partition && !site.has(Fault::DeadLettersForgotten))
        .map(|letter| letter.offset)
        .collect()
}

fn record(partition: i32, offset: i64, raw: &Raw) -> Record {
    Record::parse(partition, offset, raw.append_time, raw.payload.as_deref())
}
