//! Stretches of raw partitions with the verdict on each record: the one that combine came to.

use super::History;
use crate::{
    admission::{Admission, Verdict},
    stage::{
        StageError,
        chunk::Record,
        combine::read_record,
        past::{Patience, Range},
        positions::IN_THE_END,
        settled::{Stretch, dead_letters},
    },
};
use hashbrown::HashSet;
use millrace_log::NextOffset;
use millrace_schemas::{EventTime, WorkspaceId};
use std::collections::HashMap;

/// Records whose workspaces are asked for at once.
const JUDGED_AT_ONCE: usize = 10_000;

/// Workspaces that certainly exist, and since when.
#[derive(Default)]
pub(crate) struct Known(HashMap<WorkspaceId, EventTime>);

impl Known {
    pub(crate) fn created(&self, workspace: WorkspaceId) -> Option<EventTime> {
        self.0.get(&workspace).copied()
    }

    /// Asks for those that are not known yet.
    pub(crate) fn learn<'r>(
        &mut self,
        history: &History,
        records: impl IntoIterator<Item = &'r Record>,
    ) -> Result<(), StageError> {
        let named = records.into_iter().filter_map(Record::workspace);
        let wanted: HashSet<WorkspaceId> =
            named.filter(|workspace| !self.0.contains_key(workspace)).collect();
        if !wanted.is_empty() {
            let wanted: Vec<_> = wanted.into_iter().collect();
            let found = history.handle.block_on(history.directory.created(&wanted));
            self.0.extend(found.map_err(StageError::Directory)?);
        }
        Ok(())
    }
}

impl History {
    /// Calls `take` for every record of the stretch, in order. The duplicate memory is restored first, as combine does.
    pub(crate) fn judge<E: From<StageError>>(
        &self,
        stretch: Stretch,
        known: &mut Known,
        mut take: impl FnMut(&Record, Verdict) -> Result<(), E>,
    ) -> Result<(), E> {
        let Stretch { partition, from, to } = stretch;
        let restored_from = Admission::restore_from(from, &self.admission);
        let before = Stretch { partition, from: restored_from, to: from };
        let (topics, mut past) = (self.log.topics(), self.past()?);
        let patience = Patience { limit: IN_THE_END, shutdown: &self.shutdown };
        let dead = dead_letters(&mut past, &topics, before, patience)?;
        let mut admission = Admission::new(&self.admission);
        let mut judge = |batch: &mut Vec<Record>| {
            known.learn(self, &*batch)?;
            for record in batch.drain(..) {
                let created = |workspace| known.created(workspace);
                let verdict = admission.judge(record.offset, record.append_time, record.identity(), created);
                if record.offset >= from.get() {
                    take(&record, verdict)?;
                }
            }
            Ok::<(), E>(())
        };
        let mut batch = Vec::new();
        let range = Range { topic: &topics.metrics, partition, from: restored_from, to };
        past.scan(range, &self.shutdown, |message| {
            if message_is(&dead, message) {
                return Ok(());
            }
            batch.push(read_record(message));
            if batch.len() >= JUDGED_AT_ONCE { judge(&mut batch) } else { Ok(()) }
        })?;
        judge(&mut batch)
    }

    /// Calls `take` for every record of the stretch, without a verdict; returns the offset after the last of them.
    pub(crate) fn read<E: From<StageError>>(
        &self,
        stretch: Stretch,
        mut take: impl FnMut(Record) -> Result<(), E>,
    ) -> Result<NextOffset, E> {
        let Stretch { partition, from, to } = stretch;
        let topic = self.log.topics().metrics;
        let mut next = from;
        let range = Range { topic: &topic, partition, from, to };
        self.past()?.scan(range, &self.shutdown, |message| {
            let record = read_record(message);
            next = NextOffset::after(record.offset);
            take(record)
        })?;
        Ok(next)
    }
}

/// It was a dead letter when it was read first.
fn message_is(dead: &HashSet<i64>, message: &rdkafka::message::BorrowedMessage<'_>) -> bool {
    use rdkafka::Message as _;
    dead.contains(&message.offset())
}
