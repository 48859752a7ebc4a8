//! What a combine worker must know before it takes on a partition: the workspaces, and the ids of the records before.

use super::{Components, read_record, wait};
use crate::{
    admission::Admission,
    plan::Raw,
    settings::AdmissionSettings,
    stage::{
        StageError,
        chunk::{Record, Source},
        range::{self, Range},
        settled::{Stretch, dead_letters},
    },
};
use hashbrown::{HashMap, HashSet};
use millrace_log::NextOffset;
use millrace_schemas::{EventTime, WorkspaceId};
use millrace_tenancy::Directory;
use rdkafka::Message as _;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const DIRECTORY_RETRY: Duration = Duration::from_millis(500);
/// Records judged together.
const BATCH_RECORDS: usize = 10_000;

/// Workspaces that certainly exist, and since when.
pub(super) type Known = HashMap<WorkspaceId, EventTime>;

/// Asks for workspaces not yet known. While the database is away it waits, but not when `must_stop` says so: an unanswered
/// question is no reason to call a record a dead letter.
pub(super) fn learn_workspaces(
    (directory, runtime): (&Directory, &Runtime),
    known: &mut Known,
    records: &[Record],
    must_stop: impl Fn() -> bool,
) -> Result<(), StageError> {
    let wanted: HashSet<WorkspaceId> = records
        .iter()
        .filter_map(|record| record.workspace)
        .filter(|workspace| !known.contains_key(workspace))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let wanted: Vec<_> = wanted.into_iter().collect();
    let mut told = false;
    loop {
        match runtime.block_on(directory.created(&wanted)) {
            Ok(found) => {
                known.extend(found);
                return Ok(());
            }
            Err(error) if must_stop() => return Err(StageError::Directory(error)),
            Err(error) => {
                if !told {
                    tracing::warn!(%error, "can't ask which workspaces exist; waiting for the database");
                }
                told = true;
            }
        }
        wait(runtime, DIRECTORY_RETRY);
    }
}

/// One partition, from which records up to `next` have been judged.
pub(super) struct Restoring {
    pub components: Components,
    pub admission: AdmissionSettings,
    pub topic: String,
    pub partition: i32,
    pub next: NextOffset,
    /// The first offset that retention has left.
    pub low: NextOffset,
    pub known: Known,
}

pub(super) struct Restored {
    pub source: Source,
    pub known: Known,
}

impl Restoring {
    /// Reads back what the duplicate memory of the partition must hold.
    pub(super) fn run(mut self, stop: &CancellationToken) -> Result<Restored, StageError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(StageError::Thread)?;
        let Self { next, partition, .. } = self;
        let (topic, log) = (self.topic.clone(), self.components.log.clone());
        let mut source = Source::new(Admission::new(&self.admission), next);
        let from = Admission::restore_from(next, &self.admission);
        let dead = dead_letters(&log, Stretch { partition, from, to: next }, stop)?;
        let mut batch = Vec::new();
        range::read(&log, Range { topic: &topic, partition, from, to: next }, stop, |message| {
            if dead.contains(&message.offset()) {
                return Ok(());
            }
            batch.push(read_record(message));
            if batch.len() < BATCH_RECORDS {
                return Ok(());
            }
            self.remember(&runtime, &mut source, &mut batch, stop)
        })?;
        self.remember(&runtime, &mut source, &mut batch, stop)?;
        source.restored(next, self.low);
        Ok(Restored { source, known: self.known })
    }

    /// Judges records once more, for the memory alone.
    fn remember(
        &mut self,
        runtime: &Runtime,
        source: &mut Source,
        records: &mut Vec<Record>,
        stop: &CancellationToken,
    ) -> Result<(), StageError> {
        let directory = &self.components.directory;
        learn_workspaces((directory, runtime), &mut self.known, records, || stop.is_cancelled())?;
        let mut discarded = Raw::default();
        for record in records.drain(..) {
            source.take(&record, &self.known, &mut discarded, EventTime(i64::MIN));
        }
        Ok(())
    }
}
