//! Reading: whole batches from an offset, and which of their transactions were aborted.
//!
//! The lock is held to find the place; files are read without it.

use super::{
    Chunk, Isolation, Refused,
    batch::{self, HEADER, Header, Malformed},
    core::{Core, Inner, storage},
    scan::{BATCH_BYTES_MAX, read_at},
    segment::Segment,
};
use bytes::Bytes;
use kafka_protocol::ResponseError;
use std::{fs::File, io, sync::Arc};

mod aborted;
mod by_time;

/// The most that one call returns, whatever was asked for, but for the first batch.
const READ_BYTES_MAX: usize = 8 << 20;
/// The index leads at most about so far before the batch that is looked for.
const INDEX_SLACK: usize = 8 << 10;

/// Where the batch with an offset is, or a little before it.
pub struct Place {
    pub source: Source,
    pub generation: u64,
    /// The next segment begins here.
    pub end: i64,
}

pub enum Source {
    /// The active segment: file, position, where to stop.
    Active(Arc<File>, u64, u64),
    Sealed(Arc<Segment>),
}

/// What to read.
#[derive(Clone, Copy)]
struct Wanted {
    from: i64,
    /// Nothing from here on.
    bound: i64,
    max_bytes: usize,
    at_least_one: bool,
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("reading")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(Malformed),
}

impl Core {
    pub fn read(
        &self,
        from: i64,
        max_bytes: usize,
        at_least_one: bool,
        isolation: Isolation,
    ) -> Result<Chunk, Refused> {
        let max_bytes = max_bytes.min(READ_BYTES_MAX);
        let mut at = from;
        loop {
            let (bounds, place) = {
                let inner = self.lock();
                inner.check_open()?;
                let bounds = inner.bounds();
                if from < bounds.log_start || from > bounds.log_end {
                    let message =
                        format!("offset {from} is not within {} to {}", bounds.log_start, bounds.log_end);
                    return Err(Refused::new(ResponseError::OffsetOutOfRange, message));
                }
                (bounds, inner.place(at))
            };
            let read_committed = isolation == Isolation::ReadCommitted;
            let bound = if read_committed { bounds.last_stable } else { bounds.high_watermark };
            if at >= bound {
                return Ok(Chunk { bounds, ..Chunk::default() });
            }
            let wanted = Wanted { from, bound, max_bytes, at_least_one };
            let Some(read) = self.read_place(&place, wanted)? else { continue };
            if read.bytes.is_empty() && !read.more && !place.is_active() {
                at = place.end;
                continue;
            }
            let aborted = match read_committed && !read.bytes.is_empty() {
                true => self.aborted_between(from, read.next_offset)?,
                false => Vec::new(),
            };
            if self.is_current(&place, from) {
                return Ok(Chunk { records: read.bytes, aborted, bounds });
            }
        }
    }

    /// Whether nothing was replaced or removed since: else what was found of aborted transactions may lack some.
    pub(super) fn is_current(&self, place: &Place, from: i64) -> bool {
        let inner = self.lock();
        inner.generation == place.generation && from >= inner.log_start
    }

    /// None where the files changed meanwhile.
    fn read_place(&self, place: &Place, wanted: Wanted) -> Result<Option<Read>, Refused> {
        let result = match &place.source {
            Source::Active(file, position, limit) => collect(file, *position, *limit, wanted),
            Source::Sealed(segment) => self.read_sealed(segment, wanted),
        };
        match result {
            Ok(read) => Ok(Some(read)),
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound && self.moved(place) => {
                Ok(None)
            }
            Err(_) if self.lock().generation != place.generation => Ok(None),
            Err(ReadError::Io(error)) => Err(storage(format!("reading failed: {error}"))),
            Err(ReadError::Malformed(malformed)) => {
                let folder = self.folder.display();
                tracing::error!(%folder, offset = wanted.from, %malformed, "a batch is damaged and is not served");
                let message = format!("the batch with offset {} is damaged: {malformed}", wanted.from);
                Err(Refused::new(ResponseError::CorruptMessage, message))
            }
        }
    }

    /// Whether the segment was removed.
    fn moved(&self, place: &Place) -> bool {
        let Source::Sealed(segment) = &place.source else { return false };
        !self.lock().sealed.iter().any(|known| Arc::ptr_eq(known, segment))
    }

    fn read_sealed(&self, segment: &Segment, wanted: Wanted) -> Result<Read, ReadError> {
        let file = segment.file(&self.folder)?;
        // Without its index a segment is read from its start.
        let position = segment.position(&self.folder, wanted.from).unwrap_or(0);
        match collect(&file, position, segment.size, wanted) {
            Err(ReadError::Malformed(_)) if position > 0 => collect(&file, 0, segment.size, wanted),
            result => result,
        }
    }
}

impl Place {
    fn is_active(&self) -> bool {
        matches!(self.source, Source::Active(..))
    }
}

impl Inner {
    pub fn place(&self, offset: i64) -> Place {
        let generation = self.generation;
        match self.sealed.get(self.segment_with(offset)) {
            Some(segment) => {
                Place { source: Source::Sealed(Arc::clone(segment)), generation, end: segment.end }
            }
            None => {
                let active = &self.active;
                let limit = active.index.position_after(self.bounds().high_watermark).unwrap_or(active.size);
                let source = Source::Active(Arc::clone(&active.file), active.index.position(offset), limit);
                Place { source, generation, end: self.log_end }
            }
        }
    }
}

struct Read {
    bytes: Bytes,
    next_offset: i64,
    /// There is a batch, but it was not to be returned.
    more: bool,
}

/// Whole batches from the one with the offset on, each with its checksum checked.
fn collect(file: &File, position: u64, limit: u64, wanted: Wanted) -> Result<Read, ReadError> {
    let mut window = Window { file, position, limit, buffer: Vec::new() };
    let mut at = 0;
    window.fill(&mut at, wanted.max_bytes + INDEX_SLACK)?;
    while let Some(header) = window.header(&mut at)? {
        if header.next_offset() > wanted.from {
            return window.take(at, header, wanted);
        }
        at += header.size;
    }
    Ok(Read { bytes: Bytes::new(), next_offset: wanted.from, more: false })
}

/// A piece of the file.
struct Window<'a> {
    file: &'a File,
    position: u64,
    limit: u64,
    buffer: Vec<u8>,
}

impl Window<'_> {
    /// Moves the start to `at` and has `bytes` from there, as far as there are any.
    fn fill(&mut self, at: &mut usize, bytes: usize) -> io::Result<()> {
        self.buffer.drain(..(*at).min(self.buffer.len()));
        self.position += *at as u64;
        *at = 0;
        let left = self.limit.saturating_sub(self.position);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(bytes);
        read_at(self.file, &mut self.buffer, self.position, wanted)
    }

    /// The header at `at`; None at the end.
    fn header(&mut self, at: &mut usize) -> Result<Option<Header>, ReadError> {
        if self.position + *at as u64 >= self.limit {
            return Ok(None);
        }
        if self.buffer.len() < *at + HEADER {
            let bytes = self.buffer.capacity().max(INDEX_SLACK);
            self.fill(at, bytes)?;
        }
        let header =
            Header::parse(self.buffer.get(*at..).unwrap_or_default()).map_err(ReadError::Malformed)?;
        if header.size > BATCH_BYTES_MAX {
            return Err(ReadError::Malformed(Malformed::Short));
        }
        Ok(Some(header))
    }

    /// Takes batches from `start` on, where the first one has `header`.
    fn take(mut self, mut start: usize, header: Header, wanted: Wanted) -> Result<Read, ReadError> {
        let nothing = |more| Ok(Read { bytes: Bytes::new(), next_offset: wanted.from, more });
        if header.base_offset >= wanted.bound {
            return nothing(true);
        }
        if header.size > wanted.max_bytes && !wanted.at_least_one {
            return nothing(true);
        }
        if self.buffer.len() < start + header.size {
            self.fill(&mut start, header.size.max(wanted.max_bytes))?;
        }
        let (mut end, mut next_offset) = (start, wanted.from);
        let allowed = header.size.max(wanted.max_bytes);
        while let Ok(header) = Header::parse(self.buffer.get(end..).unwrap_or_default()) {
            let fits = end + header.size <= self.buffer.len() && end - start + header.size <= allowed;
            if !fits || header.base_offset >= wanted.bound {
                break;
            }
            match batch::check(&self.buffer[end..end + header.size]) {
                Ok(_) => {}
                // It is the next call's to say so.
                Err(_) if end > start => break,
                Err(malformed) => return Err(ReadError::Malformed(malformed)),
            }
            end += header.size;
            next_offset = header.next_offset();
        }
        if end == start {
            return Err(ReadError::Malformed(Malformed::Short));
        }
        Ok(Read { bytes: slice(self.buffer, start, end), next_offset, more: true })
    }
}

/// A small part of a large buffer is copied, so that the rest is not kept with it.
fn slice(buffer: Vec<u8>, start: usize, end: usize) -> Bytes {
    if (end - start) * 2 < buffer.capacity() {
        return Bytes::copy_from_slice(&buffer[start..end]);
    }
    Bytes::from(buffer).slice(start..end)
}
