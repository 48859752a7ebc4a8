//! What makes the next start fast: up to where a log was surely on the disk, and the producers' states there.
//!
//! One file per log, replaced as a whole. A clean close is a checkpoint at the very end: nothing is left to be scanned.

use super::{
    Error,
    core::{Core, Maintenance},
    files,
    producers::{Producers, snapshot},
    segment::Segment,
};
use bytes::{Buf, BufMut};
use std::{
    path::Path,
    sync::{Arc, MutexGuard},
};

const MAGIC: u32 = 0x4d52_4c01;
const FILE: &str = "checkpoint";
/// The other small file: where the log starts, and until where it is compacted.
const OFFSETS: &str = "offsets";
const OFFSETS_MAGIC: u32 = 0x4d52_4f01;
/// New bytes until the next checkpoint; at most so much is scanned when a process was killed.
const BYTES: u64 = 16 << 20;

#[derive(Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// All before it is on the disk.
    pub offset: i64,
    /// The segment that was active, and its size.
    pub base: i64,
    pub position: u64,
    pub producers: Producers,
}

impl Checkpoint {
    /// None where there is none, or a bad one.
    pub fn load(folder: &Path) -> Option<Self> {
        let bytes = std::fs::read(folder.join(FILE)).ok()?;
        let mut at = checked(&bytes, MAGIC)?;
        let (offset, base, position) =
            (at.try_get_i64().ok()?, at.try_get_i64().ok()?, at.try_get_u64().ok()?);
        Some(Self { offset, base, position, producers: snapshot::decode(at)? })
    }

    /// One that says what is not so may seem right again when the log has grown.
    pub fn remove(folder: &Path) -> Result<(), Error> {
        files::remove(&folder.join(FILE))?;
        files::sync_folder(folder)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_i64(self.offset);
        bytes.put_i64(self.base);
        bytes.put_u64(self.position);
        snapshot::encode(&self.producers, &mut bytes);
        framed(MAGIC, &bytes)
    }
}

/// Magic, checksum, content.
fn framed(magic: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len() + 8);
    bytes.put_u32(magic);
    bytes.put_u32(crc32c::crc32c(content));
    bytes.put_slice(content);
    bytes
}

fn checked(mut bytes: &[u8], magic: u32) -> Option<&[u8]> {
    let found = (bytes.try_get_u32().ok()?, bytes.try_get_u32().ok()?);
    (found == (magic, crc32c::crc32c(bytes))).then_some(bytes)
}

/// (start of the log, until where it is compacted).
pub fn load_offsets(folder: &Path) -> Option<(i64, i64)> {
    let bytes = std::fs::read(folder.join(OFFSETS)).ok()?;
    let mut at = checked(&bytes, OFFSETS_MAGIC)?;
    Some((at.try_get_i64().ok()?, at.try_get_i64().ok()?))
}

fn save_offsets(folder: &Path, log_start: i64, cleaned_until: i64) -> Result<(), Error> {
    let content = [log_start.to_be_bytes(), cleaned_until.to_be_bytes()].concat();
    files::replace(&folder.join(OFFSETS), &framed(OFFSETS_MAGIC, &content))?;
    files::sync_folder(folder)
}

impl Core {
    /// Makes the start of the log durable.
    pub fn save_start(&self, log_start: i64) -> Result<(), Error> {
        let cleaned_until = self.cleaned();
        // Never back: another call may have come first.
        let log_start = log_start.max(self.lock().log_start);
        save_offsets(&self.folder, log_start, *cleaned_until)
    }

    /// Makes durable until where the log is compacted.
    pub fn save_cleaned(&self, until: i64) -> Result<(), Error> {
        let mut cleaned_until = self.cleaned();
        *cleaned_until = until;
        let log_start = self.lock().log_start;
        save_offsets(&self.folder, log_start, until)
    }

    pub fn cleaned(&self) -> MutexGuard<'_, i64> {
        self.cleaned_until.lock().expect("nothing panics while it is held")
    }

    /// A checkpoint where enough has come since the last one.
    pub fn checkpoint_if_due(&self, maintenance: &mut Maintenance) -> Result<(), Error> {
        let due = {
            let inner = self.lock();
            let (base, size) = maintenance.saved;
            !inner.unsaved.is_empty() || (inner.active.base, inner.active.size) >= (base, size + BYTES)
        };
        if due { self.checkpoint(maintenance) } else { Ok(()) }
    }

    pub fn checkpoint_is_missing(&self) -> bool {
        !self.folder.join(FILE).exists()
    }

    /// Forces all to the disk, and says so in the file.
    pub fn checkpoint(&self, maintenance: &mut Maintenance) -> Result<(), Error> {
        let (sealed, file, index, checkpoint) = {
            let mut inner = self.lock();
            let sealed: Vec<Arc<Segment>> = std::mem::take(&mut inner.unsaved);
            let (active, producers) = (&inner.active, inner.producers.clone());
            let (base, position) = (active.base, active.size);
            let checkpoint = Checkpoint { offset: inner.log_end, base, position, producers };
            (sealed, Arc::clone(&active.file), active.index.clone(), checkpoint)
        };
        let result = self.save(&sealed, (&file, &index), &checkpoint);
        match &result {
            Ok(()) => maintenance.saved = (checkpoint.base, checkpoint.position),
            Err(_) => {
                let mut inner = self.lock();
                let newer = std::mem::replace(&mut inner.unsaved, sealed);
                inner.unsaved.extend(newer);
            }
        }
        result
    }

    fn save(
        &self,
        sealed: &[Arc<Segment>],
        (file, index): (&Arc<std::fs::File>, &super::index::Index),
        checkpoint: &Checkpoint,
    ) -> Result<(), Error> {
        for segment in sealed {
            if let Some(unsaved) = segment.unsaved() {
                self.target.sync_now(&unsaved.file).map_err(Error::io("syncing", &self.folder))?;
            }
            segment.save(&self.folder)?;
        }
        self.target.sync_now(file).map_err(Error::io("syncing", &self.folder))?;
        index.save(&self.folder, "")?;
        // The new segments and indexes are there before the checkpoint that relies on them.
        files::sync_folder(&self.folder)?;
        files::replace(&self.folder.join(FILE), &checkpoint.encode())?;
        files::sync_folder(&self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_back_and_a_damaged_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut producers = Producers::default();
        producers.remember_epoch(7, 3, 1000);
        let checkpoint = Checkpoint { offset: 42, base: 40, position: 123, producers };
        let mut bytes = checkpoint.encode();
        std::fs::write(folder.path().join(FILE), &bytes).unwrap();
        assert_eq!(Checkpoint::load(folder.path()), Some(checkpoint));
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            std::fs::write(folder.path().join(FILE), &bytes).unwrap();
            assert_eq!(Checkpoint::load(folder.path()), None, "byte {at}");
            bytes[at] ^= 1;
        }
        save_offsets(folder.path(), 5, 9).unwrap();
        assert_eq!(load_offsets(folder.path()), Some((5, 9)));
    }
}
