//! Opening a log: what a checkpoint covers is trusted, the rest is scanned batch by batch, and a torn tail is cut off.
//!
//! Nothing is lost silently: what is cut is said in bytes, and what lies behind damage as an error.

use super::{
    Error, Outcome,
    batch::{self, CONTROL, Header, records},
    checkpoint::{self, Checkpoint},
    core, files,
    index::{Aborted, Index},
    producers::Producers,
    scan::{Found, ScanError, Scanner},
    segment::{Active, Segment, modified_ms},
};
use std::{
    fs::{File, OpenOptions},
    path::Path,
    sync::Arc,
};

mod leftovers;

#[cfg(test)]
pub use leftovers::bases;
pub use leftovers::remove_segment;

/// A log as it was found.
pub struct Recovered {
    pub sealed: Vec<Arc<Segment>>,
    pub active: Active,
    pub producers: Producers,
    pub log_start: i64,
    pub log_end: i64,
    pub cleaned_until: i64,
    /// Bytes that no checkpoint covered.
    pub scanned: u64,
    /// The segment that the checkpoint calls active, and its size there.
    pub saved: (i64, u64),
    /// Its first file was made just now.
    pub is_new: bool,
}

pub fn recover(folder: &Path, now_ms: i64) -> Result<Recovered, Error> {
    std::fs::create_dir_all(folder).map_err(Error::io("making", folder))?;
    leftovers::clear(folder)?;
    let mut bases = leftovers::bases(folder)?;
    let (log_start, cleaned_until) = checkpoint::load_offsets(folder).unwrap_or((0, 0));
    let is_new = bases.is_empty();
    if is_new {
        Active::create(folder, log_start)?;
        bases.push(log_start);
    }
    let mut recovery = Recovery::new(folder, &bases, now_ms)?;
    recovery.run(&bases)?;
    Ok(Recovered { is_new, ..recovery.finish(log_start, cleaned_until)? })
}

struct Recovery<'a> {
    folder: &'a Path,
    now_ms: i64,
    producers: Producers,
    /// Where trust ends: the segment that was active, the bytes of it, and the next offset.
    trusted: Option<(i64, u64, i64)>,
    sealed: Vec<Arc<Segment>>,
    active: Option<Active>,
    next_offset: i64,
    scanned: u64,
}

impl<'a> Recovery<'a> {
    fn new(folder: &'a Path, bases: &[i64], now_ms: i64) -> Result<Self, Error> {
        let checkpoint = match Checkpoint::load(folder) {
            Some(checkpoint) if covers(folder, bases, &checkpoint) => Some(checkpoint),
            Some(_) => Checkpoint::remove(folder).map(|()| None)?,
            None => None,
        };
        let (mut producers, mut trusted) = (Producers::default(), None);
        if let Some(checkpoint) = checkpoint {
            trusted = Some((checkpoint.base, checkpoint.position, checkpoint.offset));
            producers = checkpoint.producers;
            producers.expire(now_ms);
        }
        let (sealed, next_offset) = (Vec::new(), bases[0]);
        Ok(Self { folder, now_ms, producers, trusted, sealed, active: None, next_offset, scanned: 0 })
    }

    fn run(&mut self, bases: &[i64]) -> Result<(), Error> {
        for (at, base) in bases.iter().enumerate() {
            let next = bases.get(at + 1).copied();
            if let Some(next) = next.filter(|_| self.trusted.is_some_and(|(active, _, _)| *base < active)) {
                self.take_sealed(*base, next)?;
                continue;
            }
            let whole = self.take_scanned(*base, next)?;
            if !whole && next.is_some() {
                leftovers::remove_lost(self.folder, &bases[at + 1..])?;
                break;
            }
        }
        Ok(())
    }

    /// A segment before the checkpoint: only its indexes may be missing.
    fn take_sealed(&mut self, base: i64, next: i64) -> Result<(), Error> {
        let segment = match Segment::open(self.folder, base, next) {
            Some(segment) => segment,
            None => self.reindexed(base, next)?,
        };
        self.sealed.push(Arc::new(segment));
        self.next_offset = next;
        Ok(())
    }

    fn reindexed(&self, base: i64, next: i64) -> Result<Segment, Error> {
        let folder = self.folder.display();
        tracing::warn!(%folder, base, "a missing or bad index is made anew");
        let (mut active, size) = self.open(base)?;
        let known = Aborted::load(self.folder, base);
        // The producers' states are in the checkpoint.
        self.scan(&mut active, &mut Producers::default())?;
        if active.size < size {
            tracing::error!(%folder, base, position = active.size, "a segment is damaged: what follows can't be read");
            active.size = size;
        }
        if let Ok(known) = known {
            active.index.aborted = known;
        }
        self.saved(active, next)
    }

    /// A segment that may have a torn tail. False where its end was cut off.
    fn take_scanned(&mut self, base: i64, next: Option<i64>) -> Result<bool, Error> {
        let (mut active, size) = self.open(base)?;
        self.next_offset = self.next_offset.max(base);
        if let Some((_, position, offset)) = self.trusted.filter(|(trusted, _, _)| *trusted == base) {
            match Index::load(self.folder, base, position, offset) {
                Some(index) => (active.size, active.index, self.next_offset) = (position, index, offset),
                None => {
                    self.index_trusted(&mut active, position)?;
                    self.next_offset = offset;
                }
            }
        }
        let before = active.size;
        let mut producers = std::mem::take(&mut self.producers);
        self.next_offset = self.scan(&mut active, &mut producers)?;
        self.producers = producers;
        self.scanned += active.size - before;
        if active.size < size {
            self.cut(&active, size)?;
        }
        let whole = active.size == size;
        match next.filter(|_| whole) {
            Some(next) => {
                // The next checkpoint relies on it.
                active.file.sync_data().map_err(Error::io("syncing", self.folder))?;
                let segment = self.saved(active, next)?;
                self.sealed.push(Arc::new(segment));
            }
            None => self.active = Some(active),
        }
        Ok(whole)
    }

    fn open(&self, base: i64) -> Result<(Active, u64), Error> {
        let path = files::named(self.folder, base, "log");
        let file =
            OpenOptions::new().read(true).write(true).open(&path).map_err(Error::io("opening", &path))?;
        let metadata = file.metadata().map_err(Error::io("reading", &path))?;
        let modified_ms = modified_ms(&metadata);
        let begun_ms = (metadata.len() > 0).then_some(self.now_ms);
        let index = Index::new(base);
        Ok((Active { base, file: Arc::new(file), size: 0, index, begun_ms, modified_ms }, metadata.len()))
    }

    /// The part that a checkpoint covers, where its indexes are gone.
    fn index_trusted(&self, active: &mut Active, position: u64) -> Result<(), Error> {
        let mut producers = Producers::default();
        let file = Arc::clone(&active.file);
        self.scan_to(active, &mut producers, &file, position).map(|_| ())
    }

    fn scan(&self, active: &mut Active, producers: &mut Producers) -> Result<i64, Error> {
        let file = Arc::clone(&active.file);
        let size = file.metadata().map_err(Error::io("reading", self.folder))?.len();
        self.scan_to(active, producers, &file, size)
    }

    /// Takes note of all good batches from `active.size` on; the next offset.
    fn scan_to(
        &self,
        active: &mut Active,
        producers: &mut Producers,
        file: &File,
        limit: u64,
    ) -> Result<i64, Error> {
        let mut scanner = Scanner::new(file, active.size, limit);
        let mut next_offset = self.next_offset.max(active.base);
        loop {
            match scanner.next() {
                Ok(None) => return Ok(next_offset),
                Ok(Some(Found { header, position, bytes: batch })) if header.base_offset >= next_offset => {
                    active.index.push(&header, position);
                    self.replay(&mut active.index, producers, (&header, batch));
                    next_offset = header.next_offset();
                    active.size = position + header.size as u64;
                }
                Ok(Some(Found { header, position, .. })) => {
                    let (folder, offset) = (self.folder.display(), header.base_offset);
                    tracing::warn!(%folder, position, offset, next_offset, "offsets go back: the rest is cut off");
                    return Ok(next_offset);
                }
                Err(ScanError::Batch { position, malformed }) => {
                    tracing::warn!(folder = %self.folder.display(), position, %malformed, "no whole batch");
                    return Ok(next_offset);
                }
                Err(ScanError::Io(error)) => return Err(Error::io("reading", self.folder)(error)),
            }
        }
    }

    /// What an append would have done to the producers' states.
    fn replay(&self, index: &mut Index, producers: &mut Producers, (header, batch): (&Header, &[u8])) {
        if !header.has_producer() {
            return;
        }
        if !header.is(CONTROL) {
            return producers.appended(header, self.now_ms);
        }
        let Some(outcome) = outcome_in(header, batch) else { return };
        let completed = producers.ended(header, outcome, self.now_ms);
        if let Some(completed) = completed.filter(|_| outcome == Outcome::Abort) {
            index.aborted.push(core::aborted(&completed, producers));
        }
    }

    fn cut(&self, active: &Active, size: u64) -> Result<(), Error> {
        let (folder, lost) = (self.folder.display(), size - active.size);
        tracing::warn!(%folder, segment = active.base, bytes = lost, "a torn tail is cut off");
        let cut = active.file.set_len(active.size).and_then(|()| active.file.sync_all());
        cut.map_err(Error::io("cutting", self.folder))
    }

    fn saved(&self, active: Active, end: i64) -> Result<Segment, Error> {
        let segment = Segment::seal(active, end);
        segment.save(self.folder)?;
        Ok(segment)
    }

    fn finish(self, log_start: i64, cleaned_until: i64) -> Result<Recovered, Error> {
        let Self { folder, now_ms, sealed, active, next_offset, scanned, producers, trusted } = self;
        let active = match active {
            Some(active) => active,
            None => Active::create(folder, next_offset)?,
        };
        let first = sealed.first().map_or(active.base, |segment| segment.base);
        let log_start = log_start.max(first);
        let saved = trusted.map_or((first, 0), |(base, position, _)| (base, position));
        let found = Recovered {
            sealed,
            active,
            producers,
            log_start,
            log_end: next_offset,
            cleaned_until,
            scanned,
            saved,
            is_new: false,
        };
        if log_start <= next_offset { Ok(found) } else { found.start_over(folder, now_ms) }
    }
}

impl Recovered {
    /// Records were deleted up to an offset that is not there any more: the log goes on there.
    fn start_over(mut self, folder: &Path, now_ms: i64) -> Result<Self, Error> {
        let (log_start, log_end) = (self.log_start, self.log_end);
        tracing::error!(folder = %folder.display(), log_start, log_end, "the end of the log was lost: it starts anew");
        Checkpoint::remove(folder)?;
        let active = Active::create(folder, log_start)?;
        let old = std::mem::replace(&mut self.active, active);
        for base in self.sealed.drain(..).map(|segment| segment.base).chain([old.base]) {
            leftovers::remove_segment(folder, base)?;
        }
        self.log_end = log_start;
        self.saved = (log_start, 0);
        self.active.modified_ms = now_ms;
        Ok(self)
    }
}

/// What a control batch says; an empty one, left by compaction, says nothing.
pub fn outcome_in(header: &Header, batch: &[u8]) -> Option<Outcome> {
    let mut outcome = None;
    let walked = records::walk(batch, header, |record| {
        outcome = record.key.and_then(batch::outcome_of);
        false
    });
    walked.ok().and(outcome)
}

/// Whether what the checkpoint speaks of is there.
fn covers(folder: &Path, bases: &[i64], checkpoint: &Checkpoint) -> bool {
    let size = files::named(folder, checkpoint.base, "log").metadata().map_or(0, |metadata| metadata.len());
    let covers = bases.contains(&checkpoint.base) && size >= checkpoint.position;
    if !covers {
        let (folder, position) = (folder.display(), checkpoint.position);
        tracing::error!(%folder, base = checkpoint.base, size, position, "what was synced is gone: all is scanned");
    }
    covers
}
