//! One segment: the active one, which is written to, and sealed ones, which only change by compaction.

use super::{
    Error, LogConfig,
    batch::Header,
    files,
    index::{self, Aborted, Index, Largest},
};
use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice},
    path::Path,
    sync::{Arc, Mutex},
};

/// Offsets and positions in Kafka's index files are 32 bits wide, with a sign.
const RELATIVE_MAX: i64 = i32::MAX as i64;

pub struct Active {
    pub base: i64,
    pub file: Arc<File>,
    pub size: u64,
    pub index: Index,
    /// When its first batch came.
    pub begun_ms: Option<i64>,
    pub modified_ms: i64,
}

impl Active {
    pub fn create(folder: &Path, base: i64) -> Result<Self, Error> {
        let path = files::named(folder, base, "log");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
        let file = Arc::new(open.map_err(Error::io("creating", &path))?);
        Ok(Self { base, file, size: 0, index: Index::new(base), begun_ms: None, modified_ms: 0 })
    }

    /// Whether a batch needs a new segment; `header` has its final offset.
    pub fn is_full_for(&self, header: &Header, config: &LogConfig, now_ms: i64) -> bool {
        self.size > 0
            && (self.size + header.size as u64 > u64::from(config.segment_bytes)
                || self.is_due(config, now_ms)
                || header.last_offset() - self.base > RELATIVE_MAX)
    }

    /// Whether it is time for a new segment; where there is nothing in it, it never is.
    pub fn is_due(&self, config: &LogConfig, now_ms: i64) -> bool {
        self.size > 0 && self.begun_ms.is_some_and(|begun| now_ms.saturating_sub(begun) > config.roll_ms())
    }

    /// One call writes all of it or it is undone: the file never keeps a part. True where not even that worked.
    pub fn write(
        &mut self,
        header: &Header,
        parts: [&[u8]; 2],
        now_ms: i64,
    ) -> Result<(), (io::Error, bool)> {
        if let Err(error) = write_all_at(&self.file, parts, self.size) {
            return Err((error, self.file.set_len(self.size).is_err()));
        }
        self.index.push(header, self.size);
        self.size += header.size as u64;
        self.begun_ms.get_or_insert(now_ms);
        self.modified_ms = now_ms;
        Ok(())
    }
}

fn write_all_at(file: &File, parts: [&[u8]; 2], position: u64) -> io::Result<()> {
    let wanted = parts[0].len() + parts[1].len();
    let written = loop {
        match rustix::io::pwritev(file, &[IoSlice::new(parts[0]), IoSlice::new(parts[1])], position) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result?,
        }
    };
    if written == wanted { Ok(()) } else { Err(io::Error::from(io::ErrorKind::StorageFull)) }
}

pub struct Segment {
    pub base: i64,
    /// The base of the next one.
    pub end: i64,
    pub size: u64,
    pub largest: Largest,
    pub modified_ms: i64,
    pub has_aborted: bool,
    /// Until they are in files.
    unsaved: Mutex<Option<Unsaved>>,
}

#[derive(Clone)]
pub struct Unsaved {
    pub file: Arc<File>,
    pub index: Arc<Index>,
}

impl Segment {
    pub fn seal(active: Active, end: i64) -> Self {
        let Active { base, file, size, index, modified_ms, .. } = active;
        let (largest, has_aborted) = (index.largest, !index.aborted.is_empty());
        let unsaved = Mutex::new(Some(Unsaved { file, index: Arc::new(index) }));
        Self { base, end, size, largest, modified_ms, has_aborted, unsaved }
    }

    /// One whose indexes are in files; None where these are missing or bad.
    pub fn open(folder: &Path, base: i64, end: i64) -> Option<Self> {
        let metadata = files::named(folder, base, "log").metadata().ok()?;
        let size = metadata.len();
        let largest = index::largest_in_files(folder, base, size)?;
        let has_aborted = files::named(folder, base, "txnindex").exists();
        let modified_ms = modified_ms(&metadata);
        Some(Self { base, end, size, largest, modified_ms, has_aborted, unsaved: Mutex::new(None) })
    }

    /// A compacted one, whose indexes are in files.
    pub fn saved(base: i64, end: i64, (size, largest): (u64, Largest), modified_ms: i64) -> Self {
        // Aborted records are gone, and with them the need to know of them.
        Self { base, end, size, largest, modified_ms, has_aborted: false, unsaved: Mutex::new(None) }
    }

    pub fn unsaved(&self) -> Option<Unsaved> {
        self.unsaved.lock().expect("nothing panics while it is held").clone()
    }

    /// Writes its indexes, so that they need no memory any more.
    pub fn save(&self, folder: &Path) -> Result<(), Error> {
        let Some(unsaved) = self.unsaved() else { return Ok(()) };
        unsaved.index.save(folder, "")?;
        *self.unsaved.lock().expect("nothing panics while it is held") = None;
        Ok(())
    }

    pub fn file(&self, folder: &Path) -> io::Result<Arc<File>> {
        match self.unsaved() {
            Some(unsaved) => Ok(unsaved.file),
            None => File::open(files::named(folder, self.base, "log")).map(Arc::new),
        }
    }

    /// A position at or before the batch with `offset`.
    pub fn position(&self, folder: &Path, offset: i64) -> io::Result<u64> {
        match self.unsaved() {
            Some(unsaved) => Ok(unsaved.index.position(offset)),
            None => index::position_in_file(folder, self.base, offset),
        }
    }

    pub fn offset_before(&self, folder: &Path, timestamp: i64) -> io::Result<i64> {
        match self.unsaved() {
            Some(unsaved) => Ok(unsaved.index.offset_before(timestamp)),
            None => index::offset_before_in_file(folder, self.base, timestamp),
        }
    }

    pub fn aborted(&self, folder: &Path) -> io::Result<Vec<Aborted>> {
        match self.unsaved() {
            _ if !self.has_aborted => Ok(Vec::new()),
            Some(unsaved) => Ok(unsaved.index.aborted.clone()),
            None => Aborted::load(folder, self.base),
        }
    }

    /// What retention by time goes by.
    pub fn newest_ms(&self) -> i64 {
        if self.largest.timestamp >= 0 { self.largest.timestamp } else { self.modified_ms }
    }
}

/// When a file was last written to; 0 where the system does not say.
pub fn modified_ms(metadata: &std::fs::Metadata) -> i64 {
    let since = metadata.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0)
}
