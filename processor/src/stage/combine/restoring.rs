//! What a combine worker must know before it takes on a partition: the workspaces, and the ids of the records before.

use super::{Components, read_record, wait};
use crate::{
    admission::Admission,
    plan::Raw,
    settings::AdmissionSettings,
    sink::outage::Chain,
    stage::{
        StageError,
        chunk::{Record, Source},
        past::{Past, Patience, Range},
        positions::{Positions, SOON},
        settled::{Stretch, dead_letters},
    },
};
use hashbrown::{HashMap, HashSet};
use millrace_log::NextOffset;
use millrace_schemas::{EventTime, WorkspaceId};
use millrace_tenancy::Directory;
use rdkafka::Message as _;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

pub(super) const DIRECTORY_RETRY: Duration = Duration::from_millis(500);
/// Records judged together.
const BATCH_RECORDS: usize = 10_000;

/// Workspaces that certainly exist, and since when.
pub(super) type Known = HashMap<WorkspaceId, EventTime>;

/// Asks once for workspaces not yet known. An unanswered question is no reason to call a record a dead letter.
pub(super) fn learn_workspaces(
    (directory, runtime): (&Directory, &Runtime),
    known: &mut Known,
    records: &[Record],
) -> Result<(), StageError> {
    let wanted: HashSet<WorkspaceId> = records
        .iter()
        .filter_map(Record::workspace)
        .filter(|workspace| !known.contains_key(workspace))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let wanted: Vec<_> = wanted.into_iter().collect();
    known.extend(runtime.block_on(directory.created(&wanted)).map_err(StageError::Directory)?);
    Ok(())
}

pub(super) fn tell_outage(error: &StageError) {
    tracing::warn!(error = %Chain(error), "can't ask which workspaces exist; waiting for the database");
}

/// One partition, from which records up to its committed offset have been judged.
pub(super) struct Restoring {
    pub components: Components,
    pub admission: AdmissionSettings,
    pub topic: String,
    pub partition: i32,
    pub positions: Arc<Positions>,
    /// Shared by those that came together.
    pub past: Arc<Mutex<Past>>,
    pub known: Known,
}

pub(super) struct Restored {
    pub source: Source,
    pub known: Known,
}

impl Restoring {
    /// Reads back what the duplicate memory of the partition must hold.
    pub(super) fn run(&self, stop: &CancellationToken) -> Result<Restored, StageError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(StageError::Thread)?;
        let (partition, topics) = (self.partition, self.components.log.topics());
        let (next, _) = self.positions.committed(partition)?;
        let low = self.positions.low(partition)?;
        let mut known = self.known.clone();
        let mut source = Source::new(Admission::new(&self.admission), next);
        let from = Admission::restore_from(next, &self.admission);
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = Patience { limit: SOON, shutdown: stop };
        let dead = dead_letters(&mut past, &topics, Stretch { partition, from, to: next }, patience)?;
        let mut batch = Vec::new();
        past.read(Range { topic: &self.topic, partition, from, to: next }, stop, |message| {
            if dead.contains(&message.offset()) {
                return Ok(());
            }
            batch.push(read_record(message));
            if batch.len() < BATCH_RECORDS {
                return Ok(());
            }
            self.remember(&runtime, (&mut source, &mut known), &mut batch, stop)
        })?;
        self.remember(&runtime, (&mut source, &mut known), &mut batch, stop)?;
        source.restored(next, low);
        // Where nothing is committed nobody was to read them.
        if low > next && next > NextOffset::START {
            tracing::error!(partition, expected = %next, first = %low, "retention removed records before they were combined");
        }
        Ok(Restored { source, known })
    }

    /// Judges records once more, for the memory alone.
    fn remember(
        &self,
        runtime: &Runtime,
        (source, known): (&mut Source, &mut Known),
        records: &mut Vec<Record>,
        stop: &CancellationToken,
    ) -> Result<(), StageError> {
        let directory = &self.components.directory;
        let mut told = false;
        while let Err(error) = learn_workspaces((directory, runtime), known, records) {
            if stop.is_cancelled() {
                return Err(error);
            }
            if !told {
                tell_outage(&error);
            }
            told = true;
            wait(runtime, DIRECTORY_RETRY);
        }
        let mut discarded = Raw::default();
        for mut record in records.drain(..) {
            if let Ok((identity, _)) = &record.parsed {
                record.append_time = identity.admitted_at(record.append_time);
            }
            source.take(&record, known, &mut discarded, EventTime(i64::MIN));
        }
        Ok(())
    }
}
