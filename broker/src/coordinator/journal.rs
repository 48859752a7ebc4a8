//! The coordinator's one file: events, each with its length and CRC32C, appended at once and read again at open.
//!
//! It knows the format of the file and what a crash leaves of it; it knows nothing of what events mean.

mod forcing;
mod reading;
mod rewriting;
#[cfg(test)]
mod tests;

use super::event::Event;
use crate::log::{Error, Syncer};
use forcing::Forcing;
pub use forcing::Written;
use kafka_protocol::ResponseError;
pub use rewriting::Replacement;
use rewriting::Rewriting;
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The version is the last byte: a newer one is refused.
const HEADER: [u8; 8] = *b"MLRGRP\0\x01";
/// Length and CRC32C, both little-endian, before each event.
const FRAME_BYTES: usize = 8;
/// A longer event is refused, as Kafka refuses a group that does not fit its topic.
const EVENT_BYTES_MAX: usize = 64 << 20;
/// A larger file takes no more events until it was rewritten.
const JOURNAL_BYTES_MAX: u64 = 4 << 30;
/// A smaller file is not worth rewriting.
const REWRITE_BYTES_MIN: u64 = 8 << 20;
/// How many times the live state a file grows before it is rewritten.
const REWRITE_FACTOR: u64 = 4;

pub const FILE_NAME: &str = "coordinator.journal";

pub struct Journal {
    path: PathBuf,
    file: Arc<File>,
    syncer: Arc<Syncer>,
    forcing: Forcing,
    len: u64,
    /// The length after the last rewriting; 0 before the first.
    live: u64,
    rewriting: Option<Rewriting>,
    /// A failed write could not be taken back, or nobody knows which file a power loss leaves: nothing more is written.
    broken: bool,
    /// The last write failed, and that has been said.
    failing: bool,
    buffer: Vec<u8>,
}

impl Journal {
    /// Opens or makes the journal in `folder` and shows each of its events to `replay`.
    pub fn open(folder: &Path, syncer: &Arc<Syncer>, replay: impl FnMut(Event)) -> Result<Self, Error> {
        std::fs::create_dir_all(folder).map_err(Error::io("making", folder))?;
        let path = folder.join(FILE_NAME);
        rewriting::remove_leftover(&path)?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(Error::io("opening", &path))?;
        let len = match reading::read(&file, &path, replay)? {
            0 => start(&file, &path, folder)?,
            len => len,
        };
        // What a killed process has written is on the disk before anybody is told of it.
        file.sync_all().map_err(Error::io("syncing", &path))?;
        let journal = Self {
            path,
            file: Arc::new(file),
            syncer: Arc::clone(syncer),
            forcing: Forcing::new(syncer, len),
            len,
            // Not known: the file may have grown for long, so it is rewritten once it is worth it.
            live: 0,
            rewriting: None,
            broken: false,
            failing: false,
            buffer: Vec::new(),
        };
        Ok(journal)
    }

    /// Writes an event. After an error the file is as it was; the client may try again.
    pub fn append(&mut self, event: &Event) -> Result<Written, ResponseError> {
        self.encode(event)?;
        let end = self.len + self.buffer.len() as u64;
        if self.broken || end > JOURNAL_BYTES_MAX {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        self.write()?;
        let mut written = vec![self.forcing.wrote(&self.file, end)];
        self.len = end;
        // Until the new file has taken the place of the old one, either may be the one that is read again.
        written.extend(self.rewriting.as_mut().and_then(|rewriting| rewriting.append(&self.buffer)));
        Ok(Written::promised(written))
    }

    /// Resolves when all up to now is on the disk, also where the settings promise that only after an interval: for what
    /// must not be overtaken by what is written next.
    pub fn forced(&self) -> Written {
        let rewriting = self.rewriting.as_ref().and_then(Rewriting::reached);
        Written::forced(&self.syncer, [self.forcing.reached(self.len)].into_iter().chain(rewriting).collect())
    }

    pub fn is_broken(&self) -> bool {
        self.broken
    }

    pub fn close(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(Error::io("syncing", &self.path))
    }

    fn encode(&mut self, event: &Event) -> Result<(), ResponseError> {
        self.buffer.clear();
        encode(event, &mut self.buffer)
    }

    fn write(&mut self) -> Result<(), ResponseError> {
        let written = self.file.write_all_at(&self.buffer, self.len);
        self.tell(written.as_ref().err());
        if written.is_ok() {
            return Ok(());
        }
        if let Err(error) = self.file.set_len(self.len) {
            tracing::error!(path = %self.path.display(), %error, "could not take it back: no more is written");
            self.broken = true;
        }
        Err(ResponseError::CoordinatorNotAvailable)
    }

    /// Clients try again many times a second, so only the first failure is told, and the end of them.
    fn tell(&mut self, error: Option<&std::io::Error>) {
        let path = self.path.display();
        match error {
            Some(error) if !self.failing => {
                tracing::error!(%path, %error, "could not write a change of groups or transactions: clients try again");
            }
            None if self.failing => {
                tracing::info!(%path, "changes of groups and transactions are written again")
            }
            _ => {}
        }
        self.failing = error.is_some();
    }
}

/// Adds an event with its frame.
fn encode(event: &Event, buffer: &mut Vec<u8>) -> Result<(), ResponseError> {
    let start = buffer.len();
    buffer.extend([0; FRAME_BYTES]);
    serde_json::to_writer(&mut *buffer, event).map_err(|error| {
        tracing::error!(%error, "could not encode a change of groups or transactions");
        ResponseError::UnknownServerError
    })?;
    let payload = &buffer[start + FRAME_BYTES..];
    if payload.len() > EVENT_BYTES_MAX {
        tracing::warn!(
            bytes = payload.len(),
            EVENT_BYTES_MAX,
            "refused a change of a group: it is too large"
        );
        return Err(ResponseError::UnknownServerError);
    }
    let crc = crc32c::crc32c(payload);
    let len = u32::try_from(payload.len()).expect("it is at most EVENT_BYTES_MAX");
    buffer[start..start + 4].copy_from_slice(&len.to_le_bytes());
    buffer[start + 4..start + FRAME_BYTES].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// A new file; its name is on the disk when this returns.
fn start(file: &File, path: &Path, folder: &Path) -> Result<u64, Error> {
    file.set_len(0).map_err(Error::io("emptying", path))?;
    file.write_all_at(&HEADER, 0).map_err(Error::io("writing", path))?;
    file.sync_all().map_err(Error::io("syncing", path))?;
    sync_folder(folder)?;
    Ok(HEADER.len() as u64)
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io("syncing", folder))
}
