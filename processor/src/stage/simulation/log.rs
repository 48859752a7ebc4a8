//! A log in memory with transactions: what is read is what was committed, but all that was sent takes offsets, and so
//! does the marker at the end of each transaction.

use super::{producer::Truth, truth::Place};
use millrace_schemas::{EventTime, dead_letter::Reason, ledger::Entry};
use std::{collections::BTreeMap, time::Duration};

enum Kept<T> {
    Committed(T),
    Aborted(T),
    Marker,
}

/// One partition of a topic.
pub struct Partition<T>(Vec<Kept<T>>);

impl<T> Partition<T> {
    /// The offset of the next record.
    pub fn end(&self) -> i64 {
        offset(self.0.len())
    }

    pub fn append(&mut self, record: T) {
        self.0.push(Kept::Committed(record));
    }

    pub fn mark(&mut self) {
        self.0.push(Kept::Marker);
    }

    /// The committed records from an offset on.
    pub fn from(&self, from: i64) -> impl Iterator<Item = (i64, &T)> {
        self.read(from, false)
    }

    /// With those of aborted transactions, as a consumer reads that is not told better.
    pub fn read(&self, from: i64, uncommitted: bool) -> impl Iterator<Item = (i64, &T)> {
        let from = usize::try_from(from).expect("an offset");
        self.0.iter().enumerate().skip(from).filter_map(move |(at, entry)| match entry {
            Kept::Committed(record) => Some((offset(at), record)),
            Kept::Aborted(record) if uncommitted => Some((offset(at), record)),
            Kept::Aborted(_) | Kept::Marker => None,
        })
    }

    fn end_transaction(&mut self, records: Vec<T>, commit: bool) {
        let entry = if commit { Kept::Committed } else { Kept::Aborted };
        if !records.is_empty() {
            self.0.extend(records.into_iter().map(entry));
            self.mark();
        }
    }
}

fn offset(at: usize) -> i64 {
    i64::try_from(at).expect("a length")
}

/// A record of the raw topic, and what is true of it.
#[derive(Clone)]
pub struct Raw {
    pub append_time: EventTime,
    pub payload: Option<Vec<u8>>,
    pub truth: Truth,
    /// The rule in force.
    pub future_skew: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Letter {
    pub partition: i32,
    pub offset: i64,
}

/// What combine made of a record: no topic of Millrace, but written in its transactions for the auditor.
#[derive(Clone, Debug)]
pub struct Judged {
    pub partition: i32,
    pub offset: i64,
    pub place: Place,
}

/// A consumer group: who has a partition, and how often it has changed hands.
pub struct Group(Vec<(usize, u64)>);

impl Group {
    pub fn new(partitions: usize, workers: usize) -> Self {
        Self((0..partitions).map(|partition| (partition % workers, 0)).collect())
    }

    pub fn partitions(&self) -> usize {
        self.0.len()
    }

    pub fn hand_over(&mut self, partition: usize, worker: usize) {
        let (owner, epoch) = &mut self.0[partition];
        (*owner, *epoch) = (worker, *epoch + 1);
    }

    /// The partitions of a worker, each with its epoch.
    pub fn of(&self, worker: usize) -> Vec<(i32, u64)> {
        let all = (0_i32..).zip(&self.0);
        all.filter(|(_, (owner, _))| *owner == worker)
            .map(|(partition, (_, epoch))| (partition, *epoch))
            .collect()
    }

    fn is_current(&self, (partition, epoch): (i32, u64)) -> bool {
        self.0[index(partition)].1 == epoch
    }
}

pub fn index(partition: i32) -> usize {
    usize::try_from(partition).expect("not negative")
}

/// What a stage wants to write, all or nothing.
#[derive(Default)]
pub struct Transaction {
    pub partials: Vec<(i32, Vec<u8>)>,
    pub letters: Vec<(Letter, Reason)>,
    pub judged: Vec<Judged>,
    /// For the ledger.
    pub told: Vec<Entry>,
    pub rows: Vec<(i32, Vec<u8>)>,
    pub progress: Vec<(i32, Vec<u8>)>,
    pub raw_offsets: BTreeMap<i32, i64>,
    pub partials_offsets: BTreeMap<i32, (i64, String)>,
    /// The partitions whose offsets it commits, as the member knew them.
    pub raw_members: Vec<(i32, u64)>,
    pub partials_members: Vec<(i32, u64)>,
}

pub struct Log {
    pub raw: Vec<Partition<Raw>>,
    pub partials: Vec<Partition<Vec<u8>>>,
    pub aggregates: Vec<Partition<Vec<u8>>>,
    pub progress: Vec<Partition<Vec<u8>>>,
    pub letters: Partition<(Letter, Reason)>,
    pub judged: Partition<Judged>,
    pub ledger: Partition<Entry>,
    pub raw_offsets: BTreeMap<i32, i64>,
    pub partials_offsets: BTreeMap<i32, (i64, String)>,
    pub combine: Group,
    pub windows: Group,
}

impl Log {
    pub fn new(raw: usize, partials: usize, workers: usize) -> Self {
        Self {
            raw: empty(raw),
            partials: empty(partials),
            aggregates: empty(partials),
            progress: empty(partials),
            letters: Partition(Vec::new()),
            judged: Partition(Vec::new()),
            ledger: Partition(Vec::new()),
            raw_offsets: BTreeMap::new(),
            partials_offsets: BTreeMap::new(),
            combine: Group::new(raw, workers),
            windows: Group::new(partials, workers),
        }
    }

    /// Whether another member has any of the partitions by now.
    pub fn fences(&self, transaction: &Transaction) -> bool {
        let stale =
            |group: &Group, members: &[(i32, u64)]| members.iter().any(|member| !group.is_current(*member));
        stale(&self.combine, &transaction.raw_members) || stale(&self.windows, &transaction.partials_members)
    }

    pub fn end(&mut self, transaction: Transaction, commit: bool) {
        spread(&mut self.partials, transaction.partials, commit);
        spread(&mut self.aggregates, transaction.rows, commit);
        spread(&mut self.progress, transaction.progress, commit);
        self.letters.end_transaction(transaction.letters, commit);
        self.judged.end_transaction(transaction.judged, commit);
        self.ledger.end_transaction(transaction.told, commit);
        if commit {
            self.raw_offsets.extend(transaction.raw_offsets);
            self.partials_offsets.extend(transaction.partials_offsets);
        }
    }
}

fn empty<T>(count: usize) -> Vec<Partition<T>> {
    (0..count).map(|_| Partition(Vec::new())).collect()
}

fn spread(partitions: &mut [Partition<Vec<u8>>], records: Vec<(i32, Vec<u8>)>, commit: bool) {
    let mut by_partition = BTreeMap::<i32, Vec<Vec<u8>>>::new();
    for (partition, record) in records {
        by_partition.entry(partition).or_default().push(record);
    }
    for (partition, records) in by_partition {
        partitions[index(partition)].end_transaction(records, commit);
    }
}
