//! The state of one partition's log under its lock, and all that writes to it.

use super::{
    Appended, Bounds, Error, LogConfig, Outcome, Refused,
    batch::{self, HEADER, Header},
    files,
    index::Aborted,
    producers::{Batch, Producers, Verdict},
    segment::{Active, Segment},
    syncer::{Durable, SyncTarget, Syncer},
};
use crate::Fsync;
use bytes::Bytes;
use kafka_protocol::ResponseError;
use std::{
    collections::VecDeque,
    fs::File,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, RwLock},
};
use tokio::sync::watch;

mod validation;

/// Sealed segments whose indexes are still in memory; one more is written at once.
const UNSAVED_MAX: usize = 8;

pub struct Core {
    pub folder: PathBuf,
    pub syncer: Arc<Syncer>,
    pub target: Arc<SyncTarget>,
    pub config: RwLock<Arc<LogConfig>>,
    pub inner: Mutex<Inner>,
    pub changes: watch::Sender<Bounds>,
    /// What is before it was compacted; held while the file with it and the start of the log is written.
    pub cleaned_until: Mutex<i64>,
    /// Held by what may take long: there is one at a time.
    pub maintenance: Mutex<Maintenance>,
}

/// What only maintenance knows.
#[derive(Default)]
pub struct Maintenance {
    /// The segment that the last checkpoint calls active, and its size there.
    pub saved: (i64, u64),
    pub expired_ms: i64,
    /// Out of the log, but their files are still there.
    pub removed: VecDeque<Arc<Segment>>,
    /// After a failed compaction.
    pub compact_after_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Open,
    Closed,
    Deleted,
}

pub struct Inner {
    pub sealed: Vec<Arc<Segment>>,
    pub active: Active,
    pub producers: Producers,
    pub log_start: i64,
    pub log_end: i64,
    pub high_watermark: i64,
    /// Transactions that ended, but not below the high watermark: first offset and that of the marker.
    pub undecided: Vec<(i64, i64)>,
    /// Sealed segments that no checkpoint covers.
    pub unsaved: Vec<Arc<Segment>>,
    /// Raised when segments are replaced: positions from before are of no use then.
    pub generation: u64,
    pub state: State,
    /// The file has bytes of a failed write past its end.
    pub torn: bool,
}

impl Inner {
    pub fn bounds(&self) -> Bounds {
        let undecided = self.undecided.iter().map(|(first, _)| *first);
        let open = self.producers.first_open().into_iter().chain(undecided).min();
        let last_stable = open.map_or(self.high_watermark, |open| open.min(self.high_watermark));
        let Self { log_start, high_watermark, log_end, .. } = *self;
        Bounds { log_start, last_stable: last_stable.max(log_start), high_watermark, log_end }
    }

    /// The index of the sealed segment with `offset`; its length for the active one.
    pub fn segment_with(&self, offset: i64) -> usize {
        self.sealed.partition_point(|segment| segment.end <= offset)
    }
}

impl Core {
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("a thread panicked while it changed this log: its state can't be trusted")
    }

    pub fn config(&self) -> Arc<LogConfig> {
        Arc::clone(&self.config.read().expect("nothing panics while it is held"))
    }

    fn writable(&self) -> Result<MutexGuard<'_, Inner>, Refused> {
        if self.syncer.is_failed() {
            return Err(storage("the disk failed to sync: nothing is written any more".to_owned()));
        }
        let mut inner = self.lock();
        inner.check_open()?;
        if inner.torn {
            let size = inner.active.size;
            inner
                .active
                .file
                .set_len(size)
                .map_err(|error| storage(format!("a failed write stays: {error}")))?;
            inner.torn = false;
        }
        Ok(inner)
    }

    pub fn append(&self, batch: &Bytes, now_ms: i64) -> Result<Appended, Refused> {
        let config = self.config();
        let header = batch::check_produced(batch, config.max_message_bytes)?;
        let mut bytes = validation::prepare(batch, &header, &config, now_ms)?;
        let mut inner = self.writable()?;
        if let Verdict::Duplicate(known) = inner.producers.check(&header)? {
            return Ok(self.known(&inner, known, &config));
        }
        let header = place(&mut bytes, inner.log_end)?;
        let durable = self.write(&mut inner, &header, [&bytes, &batch[HEADER..]], now_ms)?;
        inner.producers.appended(&header, now_ms);
        self.publish(&inner);
        let log_append_time = config.log_append_time.then_some(header.max_timestamp);
        Ok(Appended { log_append_time, ..appended(&inner, &header, durable) })
    }

    pub fn append_marker(
        &self,
        producer_id: i64,
        epoch: i16,
        outcome: Outcome,
        now_ms: i64,
    ) -> Result<Option<Appended>, Refused> {
        let batch = batch::marker(producer_id, epoch, outcome, now_ms);
        let mut inner = self.writable()?;
        if !inner.producers.check_marker(producer_id, epoch)? {
            inner.producers.remember_epoch(producer_id, epoch, now_ms);
            return Ok(None);
        }
        let mut bytes = batch::assigned(&batch, 0);
        let header = place(&mut bytes, inner.log_end)?;
        let durable = self.write(&mut inner, &header, [&bytes, &batch[HEADER..]], now_ms)?;
        inner.end_transaction(&header, outcome, now_ms);
        self.publish(&inner);
        Ok(Some(appended(&inner, &header, durable)))
    }

    /// Answers a batch that is there already as it was answered then.
    fn known(&self, inner: &Inner, known: Batch, config: &LogConfig) -> Appended {
        Appended {
            base_offset: known.base_offset,
            last_offset: known.last_offset,
            log_append_time: config.log_append_time.then_some(known.timestamp),
            log_start: inner.log_start,
            duplicate: true,
            durable: self.target.reached(known.last_offset.cast_unsigned() + 1),
        }
    }

    fn write(
        &self,
        inner: &mut Inner,
        header: &Header,
        parts: [&[u8]; 2],
        now_ms: i64,
    ) -> Result<Durable, Refused> {
        let config = self.config();
        if inner.active.is_full_for(header, &config, now_ms) {
            self.roll(inner).map_err(|error| storage(error.with_cause()))?;
        }
        if let Err((error, torn)) = inner.active.write(header, parts, now_ms) {
            inner.torn = torn;
            tracing::error!(folder = %self.folder.display(), %error, "a batch could not be written and is refused");
            return Err(storage(format!("the batch could not be written: {error}")));
        }
        inner.log_end = header.next_offset();
        // Else `synced` raises it: nobody may act on what a power loss can take.
        if self.syncer.fsync() == Fsync::Os {
            inner.high_watermark = inner.log_end;
        }
        Ok(self.target.wrote(&inner.active.file, inner.log_end.cast_unsigned()))
    }

    /// Begins a new segment. What the old one needs for a fast start is written by maintenance.
    pub fn roll(&self, inner: &mut Inner) -> Result<(), Error> {
        let folder = File::open(&self.folder).map_err(Error::io("opening", &self.folder))?;
        let active = Active::create(&self.folder, inner.log_end)?;
        let old = std::mem::replace(&mut inner.active, active);
        let sealed = Arc::new(Segment::seal(old, inner.log_end));
        inner.sealed.push(Arc::clone(&sealed));
        inner.unsaved.push(sealed);
        self.save_oldest(inner);
        // Nobody waits for the folder alone: the new segment's first batch has a later mark.
        drop(self.target.wrote(&Arc::new(folder), inner.log_end.cast_unsigned()));
        Ok(())
    }

    /// Not while maintenance is at it, which may be writing the same files. What fails here it tries again.
    fn save_oldest(&self, inner: &Inner) {
        let Some(at) = inner.unsaved.len().checked_sub(1 + UNSAVED_MAX) else { return };
        let Ok(_maintenance) = self.maintenance.try_lock() else { return };
        if let Err(error) = inner.unsaved[at].save(&self.folder) {
            tracing::warn!(error = %error.with_cause(), "the index of a segment stays in memory");
        }
    }

    /// What a killed process left to the system is on the disk before it is shown; a new file soon is.
    pub fn secure(&self, scanned: u64, is_new: bool) -> Result<(), Error> {
        let (file, end) = {
            let inner = self.lock();
            (Arc::clone(&inner.active.file), inner.log_end.cast_unsigned())
        };
        self.target.begin(end);
        if is_new {
            let folder = File::open(&self.folder).map_err(Error::io("opening", &self.folder))?;
            drop(self.target.wrote(&Arc::new(folder), end));
        }
        if self.syncer.fsync() != Fsync::Os && scanned > 0 {
            self.target.sync_now(&file).map_err(Error::io("syncing", &self.folder))?;
            files::sync_folder(&self.folder)?;
        }
        Ok(())
    }

    /// What the disk has up to `end` may be shown.
    pub fn synced(&self, end: i64) {
        let mut inner = self.lock();
        inner.high_watermark = inner.high_watermark.max(end).min(inner.log_end);
        let high_watermark = inner.high_watermark;
        inner.undecided.retain(|(_, marker)| *marker >= high_watermark);
        self.publish(&inner);
    }

    /// Wakes those that wait for something to show.
    pub fn publish(&self, inner: &Inner) {
        let now = inner.bounds();
        self.changes.send_if_modified(|shown| {
            let news = Bounds { log_end: 0, ..*shown } != Bounds { log_end: 0, ..now };
            *shown = now;
            news
        });
    }
}

impl Inner {
    pub fn check_open(&self) -> Result<(), Refused> {
        let (error, message) = match self.state {
            State::Open => return Ok(()),
            State::Closed => (ResponseError::KafkaStorageError, "the log was closed"),
            State::Deleted => (ResponseError::UnknownTopicOrPartition, "the topic was deleted"),
        };
        Err(Refused::new(error, message.to_owned()))
    }

    fn end_transaction(&mut self, header: &Header, outcome: Outcome, now_ms: i64) {
        let Some(completed) = self.producers.ended(header, outcome, now_ms) else { return };
        if completed.last_offset >= self.high_watermark {
            self.undecided.push((completed.first_offset, completed.last_offset));
        }
        if outcome == Outcome::Abort {
            self.active.index.aborted.push(aborted(&completed, &self.producers));
        }
    }
}

/// What the index of aborted transactions says of one.
pub fn aborted(completed: &super::producers::Completed, producers: &Producers) -> Aborted {
    Aborted {
        producer_id: completed.producer_id,
        first_offset: completed.first_offset,
        last_offset: completed.last_offset,
        last_stable: producers.first_open().unwrap_or(completed.last_offset + 1),
    }
}

/// Gives a batch its offset.
fn place(bytes: &mut [u8; HEADER], offset: i64) -> Result<Header, Refused> {
    *bytes = batch::assigned(bytes, offset);
    Header::parse(bytes).map_err(|malformed| storage(malformed.to_string()))
}

fn appended(inner: &Inner, header: &Header, durable: Durable) -> Appended {
    Appended {
        base_offset: header.base_offset,
        last_offset: header.last_offset(),
        log_append_time: None,
        log_start: inner.log_start,
        duplicate: false,
        durable,
    }
}

pub fn storage(message: String) -> Refused {
    Refused::new(ResponseError::KafkaStorageError, message)
}
