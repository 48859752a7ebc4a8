//! One raw partition as the archive sees it: verdicts, and the chunk that waits to be written. Pure.

use super::chunk::{Chunk, Limits, Row};
use crate::{
    admission::{Admission, Identity, Verdict},
    ledger::Span,
    record,
    settings::AdmissionSettings,
};
use hashbrown::HashSet;
use millrace_log::NextOffset;
use millrace_schemas::{EventTime, FieldError, QueryMetric, WorkspaceId};
use std::{collections::HashMap, time::Instant};

/// A raw record as it was read.
#[derive(Debug)]
pub struct Record {
    pub offset: i64,
    pub append_time: EventTime,
    pub bytes: usize,
    pub content: Result<Content, FieldError>,
}

#[derive(Debug)]
pub enum Content {
    /// It may be archived.
    Whole(Box<QueryMetric>),
    /// It is read again for the duplicate memory only.
    Identity(Identity),
}

impl Content {
    pub fn identity(&self) -> Identity {
        match self {
            Self::Whole(metric) => Identity::from(metric.as_ref()),
            Self::Identity(identity) => *identity,
        }
    }
}

/// What combine has judged of the records before the chunk: it can be behind the archive.
#[derive(Debug)]
pub struct Judged {
    pub to: NextOffset,
    /// Offsets that are dead letters, whatever the rules say today. The others up to there are none.
    pub dead: HashSet<i64>,
}

impl Default for Judged {
    /// Nothing.
    fn default() -> Self {
        Self { to: NextOffset::START, dead: HashSet::new() }
    }
}

impl Judged {
    fn was_admitted(&self, offset: i64) -> bool {
        offset < self.to.get() && !self.dead.contains(&offset)
    }
}

#[derive(Debug)]
pub struct Partition {
    admission: Admission,
    judged: Judged,
    pub chunk: Chunk,
    /// The next offset to be judged: before the chunk while the duplicate memory is restored.
    reached: NextOffset,
    /// An interrupted archiver got so far: the sooner this one does, the sooner its orphans are removed.
    hasten_to: Option<NextOffset>,
    /// All of it has been read.
    pub caught_up: bool,
    /// There may be orphans to remove once a manifest has been written.
    pub sweep: bool,
    /// Archived, but the ledger was not told yet: nothing else is archived before.
    pub untold: Vec<Span>,
}

impl Partition {
    /// A partition that is archived up to `next`.
    pub fn archived_to(
        next: NextOffset,
        hasten_to: Option<NextOffset>,
        settings: &AdmissionSettings,
        judged: Judged,
    ) -> Self {
        Self {
            admission: Admission::new(settings),
            judged,
            chunk: Chunk::new(next),
            reached: Admission::restore_from(next, settings),
            hasten_to,
            caught_up: false,
            sweep: true,
            untold: Vec::new(),
        }
    }

    /// It was given up, and comes back: others may have begun to archive meanwhile, up to `attempted`.
    pub fn taken_back(mut self, attempted: Option<NextOffset>) -> Self {
        self.hasten_to = attempted;
        self.sweep = true;
        self
    }

    /// Where to read on.
    pub fn reached(&self) -> NextOffset {
        self.reached
    }

    /// Parses a record of this partition: no more of it than will be needed.
    pub fn parse(&self, offset: i64, payload: Option<&[u8]>) -> Result<Content, FieldError> {
        let payload = payload.ok_or_else(|| FieldError::new("", "a record without a value"))?;
        if offset < self.chunk.from().get() {
            record::parse(payload).map(|(identity, _)| Content::Identity(identity))
        } else {
            QueryMetric::from_slice(payload).map(|metric| Content::Whole(Box::new(metric)))
        }
    }

    /// What retention has removed before the record at `offset`, unread, is not told as dealt with; false where there is
    /// nothing of that.
    pub fn skips_to(&mut self, offset: i64, low: NextOffset) -> bool {
        let low = low.min(NextOffset::exclusive(offset));
        low > self.reached && self.chunk.lose_to(low)
    }

    /// Judges a record, and keeps it if it counts and is not archived yet.
    pub fn take(&mut self, record: Record, created: &HashMap<WorkspaceId, EventTime>, now: Instant) {
        if record.offset < self.reached.get() {
            return;
        }
        self.reached = NextOffset::after(record.offset);
        self.caught_up = false;
        if record.offset < self.chunk.from().get() && self.judged.dead.contains(&record.offset) {
            return;
        }
        let identity = record.content.as_ref().map(Content::identity).map_err(Clone::clone);
        let since = |workspace| created.get(&workspace).copied();
        let is_archived = record.offset < self.chunk.from().get();
        let append_time = match &identity {
            Ok(identity) if is_archived && self.judged.was_admitted(record.offset) => {
                identity.admitted_at(record.append_time)
            }
            _ => record.append_time,
        };
        let verdict = self.admission.judge(record.offset, append_time, identity, since);
        if is_archived {
            return;
        }
        match (verdict, record.content) {
            (Verdict::Counted, Ok(Content::Whole(metric))) => {
                let row = Row { metric: *metric, ingest_time: record.append_time, offset: record.offset };
                self.chunk.add(row, record.bytes, now);
            }
            _ => self.chunk.pass(record.offset, record.append_time, now),
        }
    }

    pub fn is_due(&self, limits: &Limits, now: Instant) -> bool {
        let hastened = self.hasten_to.is_some_and(|to| !self.chunk.is_empty() && self.chunk.to() >= to);
        hastened || self.chunk.is_due(limits, now)
    }

    /// The chunk is archived: the next one begins.
    pub fn written(&mut self) {
        self.untold.extend(self.chunk.spans());
        self.chunk = Chunk::new(self.chunk.to());
        self.hasten_to = None;
    }
}

#[cfg(test)]
mod tests;
