//! One raw partition as the archive sees it: verdicts, and the chunk that waits to be written. Pure.

use super::{
    chunk::{Chunk, Limits, Room, Row},
    columns::Archived,
};
use crate::{
    admission::{Admission, Identity, Verdict},
    ledger::Span,
    record::{self, Texts, Whole},
    settings::AdmissionSettings,
};
use hashbrown::{HashMap, HashSet};
use millrace_log::NextOffset;
use millrace_schemas::{EventTime, FieldError, WorkspaceId};
use std::time::Instant;

/// A raw record as it was read.
#[derive(Debug)]
pub struct Record {
    pub offset: i64,
    pub append_time: EventTime,
    pub content: Result<Content, FieldError>,
}

#[derive(Debug)]
pub enum Content {
    /// It may be archived.
    Whole(Whole),
    /// It is read again for the duplicate memory only.
    Identity(Identity),
}

impl Content {
    pub fn identity(&self) -> Identity {
        match self {
            Self::Whole(whole) => whole.identity,
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

/// The chunk before the one that is filled.
#[derive(Debug)]
enum Before {
    /// It waits to be written.
    Closed(Box<Chunk>),
    /// It is being written.
    Out { from: NextOffset, bytes: usize },
    /// That failed: it is to be written again.
    Failed(Box<Chunk>),
}

#[derive(Debug)]
pub struct Partition {
    admission: Admission,
    judged: Judged,
    /// The one that is filled.
    pub chunk: Chunk,
    /// What of the chunk before it is not archived yet.
    before: Option<Before>,
    /// For the next chunk.
    room: Room,
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
            before: None,
            room: Room::default(),
            reached: Admission::restore_from(next, settings),
            hasten_to,
            caught_up: false,
            sweep: true,
            untold: Vec::new(),
        }
    }

    /// It was given up, and comes back: others may have begun to archive meanwhile, up to `attempted`.
    pub fn taken_back(mut self, attempted: Option<NextOffset>) -> Self {
        // A chunk that waits is soon written anyway, and may be what was attempted.
        self.hasten_to = attempted.filter(|_| self.before.is_none());
        self.sweep = true;
        self
    }

    /// It is archived up to here.
    pub fn from(&self) -> NextOffset {
        match &self.before {
            Some(Before::Out { from, .. }) => *from,
            Some(Before::Closed(chunk) | Before::Failed(chunk)) => chunk.from(),
            None => self.chunk.from(),
        }
    }

    /// There is nothing to be archived.
    pub fn is_empty(&self) -> bool {
        self.before.is_none() && self.chunk.is_empty()
    }

    /// What its chunks hold.
    pub fn bytes(&self) -> usize {
        let before = match &self.before {
            Some(Before::Out { bytes, .. }) => *bytes,
            Some(Before::Closed(chunk) | Before::Failed(chunk)) => chunk.bytes(),
            None => 0,
        };
        self.chunk.bytes() + before
    }

    /// Where to read on.
    pub fn reached(&self) -> NextOffset {
        self.reached
    }

    /// Parses a record of this partition: no more of it than will be needed. Strings go to `texts`.
    pub fn parse(
        &self,
        offset: i64,
        payload: Option<&[u8]>,
        texts: &mut Texts,
    ) -> Result<Content, FieldError> {
        let payload = payload.ok_or_else(|| FieldError::new("", "a record without a value"))?;
        if offset < self.chunk.from().get() {
            record::parse(payload).map(|(identity, _)| Content::Identity(identity))
        } else {
            record::read(payload, texts).map(Content::Whole)
        }
    }

    /// Tells the core that the record is judged soon.
    pub fn look_ahead(&self, record: &Record) {
        if let Ok(content) = &record.content {
            self.admission.look_ahead(&self.admission.mark(&content.identity()));
        }
    }

    /// What retention has removed before the record at `offset`, unread, is not told as dealt with; false where there is
    /// nothing of that.
    pub fn skips_to(&mut self, offset: i64, low: NextOffset) -> bool {
        let low = low.min(NextOffset::exclusive(offset));
        low > self.reached && self.chunk.lose_to(low)
    }

    /// Judges a record, whose strings are among `texts`, and keeps it if it counts and is not archived yet.
    pub fn take(
        &mut self,
        (record, texts): (Record, &Texts),
        created: &HashMap<WorkspaceId, EventTime>,
        now: Instant,
    ) {
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
            (Verdict::Counted, Ok(Content::Whole(whole))) => {
                let Whole { identity, measured, started_at, strings } = whole;
                let archived = Archived { offset: record.offset, identity, measured };
                let row = Row { archived, started_at, ingest_time: record.append_time, strings };
                self.chunk.add(row, texts, now);
            }
            _ => self.chunk.pass(record.offset, record.append_time, now),
        }
    }

    fn is_due(&self, limits: &Limits, now: Instant) -> bool {
        let hastened = self.hasten_to.is_some_and(|to| !self.chunk.is_empty() && self.chunk.to() >= to);
        hastened || self.chunk.is_due(limits, now)
    }

    /// A chunk that is due waits to be written from now on, while the next one is filled; unless one is before it.
    pub fn close_if_due(&mut self, limits: &Limits, now: Instant) {
        if self.before.is_none() && self.is_due(limits, now) {
            let chunk = self.close();
            self.before = Some(Before::Closed(Box::new(chunk)));
        }
    }

    fn close(&mut self) -> Chunk {
        self.hasten_to = None;
        let next = self.chunk.next(std::mem::take(&mut self.room));
        std::mem::replace(&mut self.chunk, next)
    }

    /// Since when the chunk is there that waits to be written, if one does.
    pub fn closed_since(&self) -> Option<Instant> {
        match &self.before {
            Some(Before::Closed(chunk)) => chunk.since(),
            _ => None,
        }
    }

    /// A chunk of it is being written.
    pub fn is_out(&self) -> bool {
        matches!(self.before, Some(Before::Out { .. }))
    }

    pub fn has_failed(&self) -> bool {
        matches!(self.before, Some(Before::Failed(_)))
    }

    /// The chunk can't take more, and can't be closed before the one before it is written.
    pub fn is_held_up(&self, limits: &Limits) -> bool {
        self.before.is_some() && self.chunk.is_full(limits)
    }

    /// The chunk to be written next, none of which may be out. What comes of it is to be told by [`Self::written`] or
    /// [`Self::failed`].
    pub fn hand_out(&mut self) -> Chunk {
        let chunk = match self.before.take() {
            Some(Before::Closed(chunk) | Before::Failed(chunk)) => *chunk,
            _ => self.close(),
        };
        self.before = Some(Before::Out { from: chunk.from(), bytes: chunk.bytes() });
        chunk
    }

    /// The chunk that was out is archived.
    pub fn written(&mut self, chunk: Chunk) {
        self.untold.extend(chunk.spans());
        self.room = chunk.into_room();
        self.before = None;
    }

    /// It could not be written. There may be orphans of it.
    pub fn failed(&mut self, chunk: Chunk) {
        self.before = Some(Before::Failed(Box::new(chunk)));
        self.sweep = true;
    }

    /// Gives back memory that it had for more records than come now.
    pub fn release_idle(&mut self) {
        if self.caught_up && self.is_empty() {
            self.room = Room::default();
            self.chunk.release();
        }
    }
}

#[cfg(test)]
mod tests;
