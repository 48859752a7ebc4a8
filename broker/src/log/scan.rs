//! Batches of a segment's file, one after the other, read in large pieces.

use super::batch::{self, HEADER, Header, Malformed};
use rustix::{buffer::spare_capacity, io::Errno};
use std::{fs::File, io};

/// The largest batch that is taken for one; no producer may send one as large.
pub const BATCH_BYTES_MAX: usize = 256 << 20;
const PIECE: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error("reading")]
    Io(#[from] io::Error),
    #[error("no batch at byte {position}: {malformed}")]
    Batch { position: u64, malformed: Malformed },
}

/// A batch with its position.
pub struct Found<'a> {
    pub header: Header,
    pub position: u64,
    pub bytes: &'a [u8],
}

/// Goes through the bytes from `position` to `limit`.
pub struct Scanner<'a> {
    file: &'a File,
    /// Of the next batch.
    pub position: u64,
    limit: u64,
    piece: Vec<u8>,
    /// Where in `piece` the next batch is.
    at: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(file: &'a File, position: u64, limit: u64) -> Self {
        Self { file, position, limit, piece: Vec::new(), at: 0 }
    }

    /// The next batch with its position, its checksum checked; None at the limit.
    pub fn next(&mut self) -> Result<Option<Found<'_>>, ScanError> {
        if self.position >= self.limit {
            return Ok(None);
        }
        let header = self.peek()?;
        self.need(header.size)?;
        let (position, from) = (self.position, self.at);
        let batch = &self.piece[from..from + header.size];
        batch::check(batch).map_err(|malformed| ScanError::Batch { position, malformed })?;
        self.position += header.size as u64;
        self.at += header.size;
        Ok(Some(Found { header, position, bytes: &self.piece[from..from + header.size] }))
    }

    fn peek(&mut self) -> Result<Header, ScanError> {
        self.need(HEADER)?;
        let header = Header::parse(&self.piece[self.at..]).map_err(|malformed| self.bad(malformed))?;
        if header.size > BATCH_BYTES_MAX || header.size as u64 > self.limit - self.position {
            return Err(self.bad(Malformed::Short));
        }
        Ok(header)
    }

    fn bad(&self, malformed: Malformed) -> ScanError {
        ScanError::Batch { position: self.position, malformed }
    }

    /// Has `bytes` of the next batch at hand.
    fn need(&mut self, bytes: usize) -> Result<(), ScanError> {
        if self.piece.len() - self.at >= bytes {
            return Ok(());
        }
        self.piece.drain(..self.at);
        self.at = 0;
        let left = self.limit - self.position;
        let wanted = (bytes.max(PIECE) as u64).min(left) as usize;
        read_at(self.file, &mut self.piece, self.position, wanted)?;
        if self.piece.len() < bytes { Err(self.bad(Malformed::Short)) } else { Ok(()) }
    }
}

/// Reads on, until `buffer`, whose content begins at `position`, has `wanted` bytes or the file ends.
pub fn read_at(file: &File, buffer: &mut Vec<u8>, position: u64, wanted: usize) -> io::Result<()> {
    buffer.reserve_exact(wanted.saturating_sub(buffer.len()));
    while buffer.len() < wanted {
        let at = position + buffer.len() as u64;
        match rustix::io::pread(file, spare_capacity(buffer), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // There may be more room than was asked for.
    buffer.truncate(wanted);
    Ok(())
}
