//! Replaces a journal that has grown by one that holds only the live state.
//!
//! Under the lock the state is written to a new file; without it that file is synced and takes the other's place; under it
//! again the journal goes over to it. What happens in between is written to both.

use super::{
    Error, Event, File, FileExt, Forcing, HEADER, Journal, Path, PathBuf, REWRITE_BYTES_MIN, REWRITE_FACTOR,
    encode, forcing::Reached, sync_folder,
};
use crate::log::Durable;
use std::{io, sync::Arc};

pub struct Rewriting {
    file: Arc<File>,
    forcing: Forcing,
    len: u64,
    /// A write to the new file failed: it must not take the old one's place.
    failed: bool,
}

impl Rewriting {
    pub fn append(&mut self, bytes: &[u8]) -> Option<Durable> {
        if self.failed {
            return None;
        }
        if let Err(error) = self.file.write_all_at(bytes, self.len) {
            tracing::warn!(%error, "could not write to the new journal: the old one stays");
            self.failed = true;
            return None;
        }
        self.len += bytes.len() as u64;
        Some(self.forcing.wrote(&self.file, self.len))
    }
}

impl Rewriting {
    /// None: the old file stays.
    pub fn reached(&self) -> Option<Reached> {
        (!self.failed).then(|| self.forcing.reached(self.len))
    }
}

/// A new file that waits for its place.
pub struct Replacement {
    file: Arc<File>,
    path: PathBuf,
}

impl Replacement {
    /// Syncs the new file: the slow part.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(Error::io("syncing", &temporary(&self.path)))
    }
}

impl Journal {
    pub fn is_worth_rewriting(&self) -> bool {
        let has_grown = self.len > REWRITE_BYTES_MIN && self.len / REWRITE_FACTOR > self.live;
        has_grown && self.rewriting.is_none() && !self.broken
    }

    /// Writes the live state to a new file beside the old one.
    pub fn begin_rewrite(&mut self, state: impl Iterator<Item = Event>) -> Result<Replacement, Error> {
        let path = temporary(&self.path);
        let file = Arc::new(File::create(&path).map_err(Error::io("making", &path))?);
        let len = write_all(&file, state).map_err(Error::io("writing", &path))?;
        // It is synced as a whole before it takes its place.
        let forcing = Forcing::new(&self.syncer, len);
        self.rewriting = Some(Rewriting { file: Arc::clone(&file), forcing, len, failed: false });
        Ok(Replacement { file, path: self.path.clone() })
    }

    /// Lets the new file take the old one's place, if all went well.
    pub fn finish_rewrite(&mut self, synced: Result<Replacement, Error>) -> Result<(), Error> {
        let new = self.rewriting.take();
        // Not worth trying again before it has grown further.
        self.live = self.len / 2;
        let replacement = synced?;
        let Some(new) = new.filter(|new| !new.failed) else { return Ok(()) };
        std::fs::rename(temporary(&replacement.path), &self.path)
            .map_err(Error::io("replacing", &self.path))?;
        let before = self.len;
        (self.file, self.forcing, self.len, self.live) = (new.file, new.forcing, new.len, new.len);
        tracing::info!(before, after = self.len, "rewrote the journal of groups and transactions");
        let synced = self.path.parent().map_or(Ok(()), sync_folder);
        self.switched(synced)
    }

    /// Where the new name may not be on the disk, a power loss brings back the old file, without what comes now.
    pub(super) fn switched(&mut self, synced: Result<(), Error>) -> Result<(), Error> {
        self.broken |= synced.is_err();
        synced
    }
}

/// A crash during an earlier rewriting left it.
pub fn remove_leftover(path: &Path) -> Result<(), Error> {
    let leftover = temporary(path);
    match std::fs::remove_file(&leftover) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", &leftover)(error)),
        _ => Ok(()),
    }
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn write_all(file: &File, state: impl Iterator<Item = Event>) -> io::Result<u64> {
    const FLUSH_BYTES: usize = 1 << 20;
    let mut buffer = HEADER.to_vec();
    let mut len = 0;
    for event in state {
        encode(&event, &mut buffer).map_err(io::Error::other)?;
        if buffer.len() > FLUSH_BYTES {
            file.write_all_at(&buffer, len)?;
            len += buffer.len() as u64;
            buffer.clear();
        }
    }
    file.write_all_at(&buffer, len)?;
    Ok(len + buffer.len() as u64)
}
