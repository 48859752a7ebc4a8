//! `millrace audit`: reads the log once more, judges every record by [`crate::admission`], and holds all else against it:
//! the dead letters, the archive, the rows of 5 s and the ledger. It only reads.
//!
//! What came before the audit began must be processed; what comes meanwhile may be in the tables or not, and is allowed
//! for. Where retention has removed the beginning of the log, verdicts are exact once a generation of the duplicate memory
//! was read, and what was stored of earlier times is not compared.
//!
//! Where a letter and the archive agree that a record was not (or was) let in, it was so by the rules of its time, whatever
//! they are today: that is told, but is no disagreement.
//!
//! Memory: one partition's duplicate memory, one manifest's records, 50 bytes a dead letter, a row a workspace and minute,
//! and at most 2,000,000 sums of windows, which get coarser when there would be more.

mod cells;
mod error;
mod finding;
mod job;
mod letters;
mod minutes;
mod report;
mod shelved;
mod start;
mod stored;
mod walk;

pub use error::Error;
pub use finding::{Check, Finding, Findings};
pub use report::{MinuteRow, Partition, Report};

use crate::{
    archive::{Location, Shelf},
    history::History,
    settings::AdmissionSettings,
};
use job::Job;
use millrace_log::LogSettings;
use millrace_schemas::EventTime;
use millrace_tenancy::Directory;
use sqlx::PgPool;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use walk::Books;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Only records that came then or later.
    pub from: Option<EventTime>,
    /// As the processor has it.
    pub admission: AdmissionSettings,
    /// How long the processor may take for what the log has.
    pub wait: Duration,
}

pub struct Components {
    pub log: LogSettings,
    pub pool: PgPool,
    /// None where no archive is kept.
    pub archive: Option<Location>,
    pub shutdown: CancellationToken,
}

/// Is told what goes on.
pub trait Observer: Send {
    /// `total` of what [`Self::advance`] tells; 0 where it is not known.
    fn begin(&mut self, what: &'static str, total: u64);
    fn advance(&mut self, done: u64);
    fn end(&mut self);
}

pub async fn audit(
    settings: Settings,
    components: Components,
    observer: Box<dyn Observer>,
) -> Result<Report, Error> {
    let Components { log, pool, archive, shutdown } = components;
    let history = History {
        log,
        directory: Directory::new(pool.clone()),
        admission: settings.admission.clone(),
        handle: Handle::current(),
        shutdown,
    };
    let now = EventTime::from(chrono::Utc::now());
    let job = Job {
        settings,
        history,
        pool,
        shelf: archive.map(Shelf::new),
        observer,
        books: Books::default(),
        now,
    };
    tokio::task::spawn_blocking(|| job.run()).await.map_err(Error::Panicked)?
}
