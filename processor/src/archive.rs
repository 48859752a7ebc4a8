//! The archive: each accepted raw record once, in Parquet files on an object store.
//!
//! How far it is stand in its own manifests, which also make its files part of it: every record is archived exactly
//! once, whatever dies. Consumer groups only share out the partitions; their offsets are told but never read. Which
//! records are accepted is decided by [`crate::admission`], as for the windows.

pub(crate) mod chunk;
mod columns;
mod encode;
mod error;
mod location;
mod manifest;
mod metrics;
pub(crate) mod partition;
mod path;
mod settings;
mod shelf;
mod turns;
mod worker;

pub(crate) use columns::Archived;
pub use columns::schema;
pub use encode::{BATCH_ROWS, encode};
pub use error::Error;
pub use location::{Error as LocationError, Location};
pub use manifest::{DataFile, Error as ManifestError, Manifest};
pub use metrics::ArchiveMetrics;
pub(crate) use path::Source;
pub use settings::ArchiveSettings;
pub(crate) use shelf::{Shelf, past::Wanted};

use crate::{
    settings::AdmissionSettings,
    sink::{
        drive::{self, Blocking},
        member::Member,
    },
};
use chunk::Limits;
use millrace_log::{LogSettings, Publisher};
use millrace_tenancy::Directory;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use worker::{Archive, State};

/// The archive's group.
const ROLE: &str = "archive";
/// The most bytes that one partition's chunk holds.
const CHUNK_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most bytes that all chunks hold: at half of it the largest is written.
const BYTES_MAX: usize = 256 * 1024 * 1024;
/// The most data files of one chunk.
const CHUNK_FILES_MAX: usize = 256;

pub struct ArchiveComponents {
    pub log: LogSettings,
    pub directory: Directory,
    pub location: Location,
    pub admission: AdmissionSettings,
    pub settings: ArchiveSettings,
    pub metrics: ArchiveMetrics,
    /// Names this processor among others on the same log.
    pub instance: String,
}

/// Runs until `shutdown`, then writes what it has read. An absent object store, database or broker is waited for.
pub async fn run(components: ArchiveComponents, shutdown: CancellationToken) -> Result<(), Error> {
    // Also when this future is dropped, the thread must end.
    let ending = shutdown.child_token();
    let _end = ending.clone().drop_guard();
    let blocking = Blocking::new(Handle::current(), ending.clone());
    let thread = tokio::task::spawn_blocking(move || {
        let log = components.log.clone();
        let topic = log.topics().metrics;
        let member = Member::join(&log, ROLE, &components.instance, &topic)?;
        drive::drive(components.worker(blocking), member, &ending)
    });
    thread.await.map_err(Error::Panicked)?
}

impl ArchiveComponents {
    fn worker(self, blocking: Blocking) -> Archive {
        let limits = Limits {
            records: usize::try_from(self.settings.archive_records).unwrap_or(usize::MAX),
            bytes: CHUNK_BYTES_MAX,
            files: CHUNK_FILES_MAX,
            age: self.settings.archive_interval.into(),
            all_bytes: BYTES_MAX,
        };
        Archive {
            ledger: Publisher::new(&self.log, &self.log.topics().ledger),
            log: self.log,
            shelf: Shelf::new(self.location),
            directory: self.directory,
            blocking,
            metrics: self.metrics,
            limits,
            admission: self.admission,
            state: State::default(),
        }
    }
}
