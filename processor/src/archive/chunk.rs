//! The stretch of a partition that waits to be written: `[from, to)`, and its archivable records. Pure.

use super::{columns::Archived, path::Group};
use crate::{
    ledger::{Span, Tally},
    record::{Strings, Texts},
};
use hashbrown::HashSet;
use millrace_log::NextOffset;
use millrace_schemas::EventTime;
use std::time::{Duration, Instant};

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
    /// Bytes that all chunks hold together, those that are being written too.
    pub all_bytes: usize,
}

/// An archivable record; its strings are elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    pub archived: Archived,
    pub started_at: EventTime,
    /// The log's append time.
    pub ingest_time: EventTime,
    pub strings: Strings,
}

impl Row {
    pub fn group(&self) -> Group {
        Group::new(self.archived.identity.workspace, self.completed_at())
    }

    pub fn completed_at(&self) -> EventTime {
        self.archived.identity.completed_at
    }
}

/// Records with their strings.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    pub rows: &'a [Row],
    pub texts: &'a Texts,
}

/// Memory for a chunk's records: to ask the system for it anew each time would cost more than to fill it.
#[derive(Debug, Default)]
pub struct Room {
    rows: Vec<Row>,
    texts: Texts,
}

#[derive(Debug)]
pub struct Chunk {
    from: NextOffset,
    to: NextOffset,
    rows: Vec<Row>,
    texts: Texts,
    groups: HashSet<Group>,
    read: usize,
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
            texts: Texts::default(),
            groups: HashSet::new(),
            read: 0,
            since: None,
            tally: Tally::new(from),
        }
    }

    /// The next one, in the room of one that is archived.
    pub fn next(&self, Room { rows, texts }: Room) -> Self {
        Self { rows, texts, ..Self::new(self.to) }
    }

    /// Its room, emptied. What of it had hardly been needed is given back.
    pub fn into_room(self) -> Room {
        let Self { mut rows, mut texts, .. } = self;
        if rows.len() < rows.capacity() / 2 {
            rows = Vec::new();
        }
        if texts.bytes() < texts.capacity() / 2 {
            texts = Texts::default();
        }
        rows.clear();
        texts.clear();
        Room { rows, texts }
    }

    /// When its first record was read.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Of an empty one: gives back its room.
    pub fn release(&mut self) {
        self.rows.shrink_to_fit();
        self.texts.shrink_to_fit();
    }

    pub fn from(&self) -> NextOffset {
        self.from
    }

    pub fn to(&self) -> NextOffset {
        self.to
    }

    pub fn bytes(&self) -> usize {
        size_of_val(self.rows.as_slice()) + self.texts.bytes()
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

    /// Adds a record whose strings are among `texts`.
    pub fn add(&mut self, row: Row, texts: &Texts, now: Instant) {
        let Archived { offset, identity, .. } = row.archived;
        self.tally.count(offset, row.ingest_time, Some(identity.workspace)).archived += 1;
        self.step(offset, now);
        self.groups.insert(row.group());
        self.rows.push(Row { strings: self.texts.copy(texts, row.strings), ..row });
    }

    pub fn is_due(&self, limits: &Limits, now: Instant) -> bool {
        self.is_full(limits)
            || self.since.is_some_and(|since| now.saturating_duration_since(since) >= limits.age)
    }

    pub fn is_full(&self, limits: &Limits) -> bool {
        self.read >= limits.records || self.bytes() >= limits.bytes || self.groups.len() >= limits.files
    }

    /// The records of each data file, by time.
    pub fn groups(&mut self) -> Vec<(Group, Rows<'_>)> {
        self.rows.sort_unstable_by_key(|row| (row.group(), row.completed_at(), row.archived.offset));
        let (rows, texts) = (self.rows.as_slice(), &self.texts);
        let groups = rows.chunk_by(|a, b| a.group() == b.group());
        groups.map(|rows| (rows[0].group(), Rows { rows, texts })).collect()
    }
}

#[cfg(test)]
pub mod tests;
