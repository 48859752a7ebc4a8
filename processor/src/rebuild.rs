//! `millrace rebuild`: recomputes the windows of a range of event time from the archive and the log, by the code of the
//! stages, compares them with what is stored and, when told to, puts them in its place.
//!
//! Which records count: those archived, and of the log after them those that [`crate::admission`] lets in, with the
//! duplicate memory restored as combine does. The range must have left the memory of the windows stage, so that the rows
//! change by deltas alone; those are merged into whatever is stored. The comparison is exact also while records come:
//! the stored rows are copied when they contain all that was read, and what the log has got until after the copy is looked
//! through; if a record of the range is among it, it is taken in and the rows are copied anew.
//!
//! Memory: a chunk of 65,536 records, some 50,000 states, one file of the archive, one partition's duplicate memory and
//! the rows of 5 minutes. The rest is in tables of the rebuild's own.

mod accumulator;
mod difference;
mod error;
mod job;
mod lease;
mod report;
mod span;
mod tables;

pub use crate::history::told::NotLeft;
pub use difference::{Cell, Column, Difference, Kind};
pub use error::Error;
pub use report::{Comparison, Largest, Report, RowName};
pub use span::{Span, SpanError};
pub use tables::Applied;
pub use tables::Fewer;

use crate::{
    archive::{Location, Shelf},
    history::{History, judged::Known},
    plan::Plan,
    settings::AdmissionSettings,
};
use accumulator::Accumulator;
use job::Job;
use millrace_log::LogSettings;
use millrace_schemas::WorkspaceId;
use millrace_tenancy::Directory;
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};
use tables::Shadows;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

#[derive(Clone, Debug)]
pub struct Settings {
    pub span: Span,
    /// Of this workspace only.
    pub workspace: Option<WorkspaceId>,
    /// As the processor has it.
    pub admission: AdmissionSettings,
    /// Where it is more than the processor tells, or that tells nothing.
    pub late_horizon: Option<Duration>,
    /// How long the processor may take to store what the log has.
    pub wait: Duration,
    /// The most rows that are replaced, all in one transaction.
    pub rows_max: u32,
}

pub struct Components {
    pub log: LogSettings,
    pub pool: PgPool,
    /// None where no archive is kept: then the log must have everything from its start.
    pub archive: Option<Location>,
    pub shutdown: CancellationToken,
}

/// What a rebuild does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reads records of the archive.
    Archive,
    /// Reads records of the log.
    Log,
    /// Waits until the processor has stored what the log has.
    Waiting,
    /// Compares slices of 5 min.
    Compare,
}

/// Is told what goes on.
pub trait Observer: Send {
    /// `total` of what [`Self::advance`] tells; 0 where it is not known.
    fn begin(&mut self, phase: Phase, total: u64);
    fn advance(&mut self, done: u64);
    fn difference(&mut self, difference: &Difference);
    fn end(&mut self);
}

/// A finished comparison, and the rows to put in the place of the stored ones.
pub struct Rebuilt {
    pub report: Report,
    shadows: Arc<Shadows>,
    aggregates: String,
    rows_max: u32,
}

/// Recomputes and compares. [`Rebuilt::discard`] must be called in the end.
pub async fn rebuild(
    settings: Settings,
    components: Components,
    observer: Box<dyn Observer>,
) -> Result<Rebuilt, Error> {
    let Components { log, pool, archive, shutdown } = components;
    let (aggregates, rows_max) = (log.topics().aggregates, settings.rows_max);
    let accumulator = Accumulator::new(Plan::declare().await?);
    let shadows = Arc::new(Shadows::create(pool.clone(), settings.span, settings.workspace).await?);
    let job = Job {
        report: Report::new(settings.span, settings.workspace),
        history: History {
            log,
            directory: Directory::new(pool.clone()),
            admission: settings.admission.clone(),
            handle: Handle::current(),
            shutdown,
        },
        pool,
        shelf: archive.map(Shelf::new),
        shadows: Arc::clone(&shadows),
        accumulator,
        observer,
        settings,
        known: Known::default(),
    };
    let done = tokio::task::spawn_blocking(|| job.run()).await.map_err(Error::Panicked);
    match done.flatten() {
        Ok(report) => Ok(Rebuilt { report, shadows, aggregates, rows_max }),
        Err(error) => {
            if let Err(left) = shadows.remove().await {
                tracing::warn!(error = %left, "tables of this rebuild are left; the next one removes them");
            }
            Err(error)
        }
    }
}

impl Rebuilt {
    /// Replaces, adds and removes the rows that differ, all or none. Refuses if one is not any more what it was.
    pub async fn apply(&self, fewer: Fewer) -> Result<Applied, Error> {
        let rows = self.report.differences();
        if rows > self.rows_max.into() {
            return Err(Error::TooMany { rows, rows_max: self.rows_max });
        }
        self.shadows.apply(&self.aggregates, fewer).await
    }

    /// Removes the tables of the rebuild.
    pub async fn discard(self) -> Result<(), Error> {
        self.shadows.remove().await
    }
}
