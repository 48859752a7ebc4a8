//! The log of one partition: segment files of Kafka's v2 record batches, stored as received.
//!
//! It owns offsets, producers' sequences, open and aborted transactions, retention and compaction of that one partition.
//! It knows nothing of topics, requests or sockets. All calls are synchronous and short; `&self` with a lock inside.

mod batch;
mod checkpoint;
mod compaction;
mod core;
pub(crate) mod files;
mod index;
mod producers;
mod read;
mod recovery;
mod retention;
mod scan;
mod segment;
pub mod syncer;

pub use syncer::{Durable, SyncTarget, Syncer};

use self::core::{Core, Inner, Maintenance, State};
use bytes::Bytes;
use kafka_protocol::ResponseError;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, RwLock},
};
use tokio::sync::watch;

/// What the log of a partition needs to know of its topic's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    pub delete: bool,                 // cleanup.policy contains delete
    pub compact: bool,                // cleanup.policy contains compact: every record needs a key
    pub retention_ms: Option<i64>,    // None: -1, without end
    pub retention_bytes: Option<u64>, // None: -1
    pub segment_bytes: u32,           // default 128 MiB (Kafka: 1 GiB)
    pub segment_ms: i64,              // default 7 days
    pub max_message_bytes: u32,       // of one batch as received, default 1_048_588 as in Kafka
    pub log_append_time: bool,        // message.timestamp.type=LogAppendTime
    pub timestamp_after_max_ms: i64,  // message.timestamp.after.max.ms, default one hour as in Kafka
    pub timestamp_before_max_ms: i64, // message.timestamp.before.max.ms, default without end as in Kafka
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64, // no later than this records are compacted
    pub delete_retention_ms: i64,   // tombstones stay so long, default one day
    pub min_cleanable_dirty_ratio: f64, // compacted when so much of the log is new, default a half
}

impl Default for LogConfig {
    fn default() -> Self {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        Self {
            delete: true,
            compact: false,
            retention_ms: Some(7 * DAY_MS),
            retention_bytes: None,
            segment_bytes: 128 << 20,
            segment_ms: 7 * DAY_MS,
            max_message_bytes: 1_048_588,
            log_append_time: false,
            timestamp_after_max_ms: DAY_MS / 24,
            timestamp_before_max_ms: i64::MAX,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: DAY_MS,
            min_cleanable_dirty_ratio: 0.5,
        }
    }
}

impl LogConfig {
    /// A compacted log rolls early enough for its records to be compacted in time.
    fn roll_ms(&self) -> i64 {
        if self.compact { self.segment_ms.min(self.max_compaction_lag_ms) } else { self.segment_ms }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Bounds {
    pub log_start: i64,
    /// Before it every transaction is decided.
    pub last_stable: i64,
    /// Before it records are shown: what is on the disk, with `--log-fsync os` the end.
    pub high_watermark: i64,
    /// The offset that the next record gets.
    pub log_end: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Commit,
    Abort,
}

/// A batch that the log has, or had already (`duplicate`).
#[derive(Debug)]
pub struct Appended {
    pub base_offset: i64,
    pub last_offset: i64,
    /// Only with message.timestamp.type=LogAppendTime.
    pub log_append_time: Option<i64>,
    pub log_start: i64,
    pub duplicate: bool,
    /// Resolves when the batch is as durable as the settings promise before an acknowledgement.
    pub durable: Durable,
}

/// Refused: the protocol's own error and a text that says what was wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub error: ResponseError,
    pub message: String,
}

impl Refused {
    pub fn new(error: ResponseError, message: String) -> Self {
        Self { error, message }
    }
}

#[derive(Debug, Default)]
pub struct Chunk {
    /// Whole batches, the first of which contains the offset asked for; empty at the end.
    pub records: Bytes,
    /// For read_committed: aborted transactions that overlap, (producer id, first offset).
    pub aborted: Vec<(i64, i64)>,
    pub bounds: Bounds,
}

/// What DescribeProducers shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    pub producer_id: i64,
    pub epoch: i16,
    pub last_sequence: i32,
    pub last_timestamp: i64,
    pub transaction_start: Option<i64>,
}

/// Why a log can't be opened, kept or closed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing} {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} {what}", path.display())]
    Foreign { path: PathBuf, what: String },
}

impl Error {
    /// For `map_err`: what was being done to what.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// With its cause, for one line of text.
    pub fn with_cause(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("{self}: {source}"),
            Self::Foreign { .. } => self.to_string(),
        }
    }
}

pub struct PartitionLog {
    core: Arc<Core>,
}

impl PartitionLog {
    /// Opens or makes the log in `folder`: truncates a torn tail, rebuilds what is missing.
    pub fn open(folder: PathBuf, config: LogConfig, syncer: Arc<Syncer>, now_ms: i64) -> Result<Self, Error> {
        let found = recovery::recover(&folder, now_ms)?;
        let maintenance = Maintenance {
            saved: found.saved,
            expired_ms: now_ms,
            compact_after_ms: i64::MIN,
            ..Maintenance::default()
        };
        let cleaned_until = Mutex::new(found.cleaned_until);
        let log_end = found.log_end;
        let inner = Inner {
            sealed: found.sealed,
            active: found.active,
            producers: found.producers,
            log_start: found.log_start,
            log_end,
            high_watermark: log_end,
            undecided: Vec::new(),
            unsaved: Vec::new(),
            generation: 0,
            state: State::Open,
            torn: false,
        };
        let changes = watch::Sender::new(inner.bounds());
        let core = Arc::new_cyclic(|core: &std::sync::Weak<Core>| {
            let core = core.clone();
            let on_synced = move |end: u64| {
                if let Some(core) = core.upgrade() {
                    core.synced(end.cast_signed());
                }
            };
            let target = syncer.log_target(Box::new(on_synced));
            let (config, inner, maintenance) =
                (RwLock::new(Arc::new(config)), Mutex::new(inner), Mutex::new(maintenance));
            Core { folder, syncer, target, config, inner, changes, cleaned_until, maintenance }
        });
        core.secure(found.scanned, found.is_new)?;
        Ok(Self { core })
    }

    /// Appends what a producer sent: exactly one batch (Kafka: more than one is an invalid record). Checks the CRC, the
    /// header, the size, the timestamp, keys (compacted), epoch and sequence (InvalidProducerEpoch,
    /// OutOfOrderSequenceNumber, duplicates answered with the first answer, as Kafka with its last five batches).
    pub fn append(&self, batch: Bytes, now_ms: i64) -> Result<Appended, Refused> {
        self.core.append(&batch, now_ms)
    }

    /// Ends the producer's transaction here with a control batch; None where it has none open (so that it can be
    /// repeated), but then still remembers a higher epoch.
    pub fn append_marker(
        &self,
        producer_id: i64,
        epoch: i16,
        outcome: Outcome,
        now_ms: i64,
    ) -> Result<Option<Appended>, Refused> {
        self.core.append_marker(producer_id, epoch, outcome, now_ms)
    }

    /// Whole batches from the one with `from` on, up to `max_bytes`; with `at_least_one` the first one however large.
    /// OffsetOutOfRange below the start and past the end. A batch with a wrong CRC is CorruptMessage, never served.
    pub fn read(
        &self,
        from: i64,
        max_bytes: usize,
        at_least_one: bool,
        isolation: Isolation,
    ) -> Result<Chunk, Refused> {
        self.core.read(from, max_bytes, at_least_one, isolation)
    }

    pub fn bounds(&self) -> Bounds {
        self.core.lock().bounds()
    }

    /// Resolves when all that was acknowledged before is shown, or never will be: who has written asks for the end.
    pub async fn settled(&self) {
        let end = self.core.lock().log_end.cast_unsigned();
        if let Err(refused) = self.core.target.forced(end).wait().await {
            tracing::debug!(%refused, "what was acknowledged is not shown");
        }
    }

    /// Wakes long polls: changes with high watermark and last stable offset.
    pub fn changes(&self) -> watch::Receiver<Bounds> {
        self.core.changes.subscribe()
    }

    /// The first record at or after `timestamp`: (offset, its timestamp).
    pub fn offset_for(&self, timestamp: i64) -> Result<Option<(i64, i64)>, Refused> {
        self.core.offset_for(timestamp)
    }

    /// The record with the greatest timestamp: (offset, timestamp).
    pub fn latest_timestamp(&self) -> Result<Option<(i64, i64)>, Refused> {
        self.core.latest_timestamp()
    }

    pub fn producers(&self) -> Vec<ActiveProducer> {
        self.core.lock().producers.list()
    }

    pub fn size_bytes(&self) -> u64 {
        let inner = self.core.lock();
        inner.sealed.iter().map(|segment| segment.size).sum::<u64>() + inner.active.size
    }

    pub fn reconfigure(&self, config: LogConfig) {
        *self.core.config.write().expect("nothing panics while it is held") = Arc::new(config);
    }

    /// Raises the start of the log to `offset` (-1: the high watermark); the new start.
    pub fn delete_before(&self, offset: i64) -> Result<i64, Refused> {
        self.core.delete_before(offset)
    }

    /// Rolls, retains and compacts; called every few seconds, may take long, does not block `append` and `read` for long.
    pub fn maintain(&self, now_ms: i64) -> Result<(), Error> {
        self.core.maintain(now_ms)
    }

    /// Syncs, writes what makes the next start fast. Appends are refused from now on.
    pub fn close(&self) -> Result<(), Error> {
        self.core.close()
    }

    /// The topic is gone: those that wait are woken, and all is refused from now on. The files are the caller's to remove.
    pub fn deleted(&self) {
        self.core.end(State::Deleted);
    }

    /// As a maintenance that had begun before the log was deleted; what it says is of no use then.
    #[cfg(test)]
    pub(crate) fn maintain_late(&self, now_ms: i64) -> Result<(), Error> {
        self.core.lock().state = State::Open;
        let result = self.core.maintain(now_ms);
        self.core.lock().state = State::Deleted;
        result
    }
}

#[cfg(test)]
pub(crate) mod tests;
