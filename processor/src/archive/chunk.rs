//! The stretch of a partition that waits to be written: `[from, to)`, and its archivable records. Pure.

use super::path::Group;
use crate::ledger::{Span, Tally};
use millrace_log::NextOffset;
use millrace_schemas::{EventTime, QueryMetric};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

/// What a record holds besides its own bytes, roughly.
const RECORD_OVERHEAD_BYTES: usize = 200;

/// When a chunk is written, whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Records read, archivable or not.
    pub records: usize,
    /// Bytes held.
    pub bytes: usize,
    /// Data files that it would make: tenants may scatter their times at will.
    pub files: usize,
    pub age: Duration,
}

/// An archivable record.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub metric: QueryMetric,
    /// The log's append time.
    pub ingest_time: EventTime,
    pub offset: i64,
}

impl Row {
    pub fn group(&self) -> Group {
        Group::new(self.metric.workspace_id, self.metric.completed_at)
    }
}

#[derive(Debug)]
pub struct Chunk {
    from: NextOffset,
    to: NextOffset,
    rows: Vec<Row>,
    groups: HashSet<Group>,
    read: usize,
    bytes: usize,
    /// When its first record was read.
    since: Option<Instant>,
    tally: Tally,
}

impl Chunk {
    pub fn new(from: NextOffset) -> Self {
        Self {
            from,
            to: from,
            rows: Vec::new(),
            groups: HashSet::new(),
            read: 0,
            bytes: 0,
            since: None,
            tally: Tally::new(from),
        }
    }

    pub fn from(&self) -> NextOffset {
        self.from
    }

    pub fn to(&self) -> NextOffset {
        self.to
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.read == 0
    }

    /// Retention has left the records from `low` on: those before are nobody's to tell of.
    pub fn begins_at(&mut self, low: NextOffset) {
        self.tally = Tally::new(self.from.max(low));
    }

    /// Retention has removed the records before `low` unread; false where there were none.
    pub fn lose_to(&mut self, low: NextOffset) -> bool {
        self.tally.lose_to(low)
    }

    /// What the ledger is to be told.
    pub fn spans(&self) -> Vec<Span> {
        self.tally.spans()
    }

    /// A record was read that is not archived: only the offset goes on.
    pub fn pass(&mut self, offset: i64, ingest_time: EventTime, now: Instant) {
        self.tally.pass(offset, ingest_time);
        self.step(offset, now);
    }

    fn step(&mut self, offset: i64, now: Instant) {
        self.to = NextOffset::after(offset);
        self.read += 1;
        self.since.get_or_insert(now);
    }

    /// Adds a record of `bytes` bytes.
    pub fn add(&mut self, row: Row, bytes: usize, now: Instant) {
        self.tally.count(row.offset, row.ingest_time, Some(row.metric.workspace_id)).archived += 1;
        self.step(row.offset, now);
        self.bytes += bytes + RECORD_OVERHEAD_BYTES;
        self.groups.insert(row.group());
        self.rows.push(row);
    }

    pub fn is_due(&self, limits: &Limits, now: Instant) -> bool {
        self.read >= limits.records
            || self.bytes >= limits.bytes
            || self.groups.len() >= limits.files
            || self.since.is_some_and(|since| now.saturating_duration_since(since) >= limits.age)
    }

    /// The records of each data file, by time.
    pub fn groups(&mut self) -> Vec<(Group, &[Row])> {
        self.rows.sort_unstable_by_key(|row| (row.group(), row.metric.completed_at, row.offset));
        self.rows.chunk_by(|a, b| a.group() == b.group()).map(|rows| (rows[0].group(), rows)).collect()
    }
}

#[cfg(test)]
pub mod tests;
