//! What becomes of a raw record: counted, duplicate or dead letter. Pure: the verdicts on a partition are a function of
//! its log alone, so the windows and the archive come to the same ones, before and after a restart.
//!
//! The duplicate memory works in generations of offsets: an id is remembered through the generation in which it was last
//! seen and the next. So at least `dedupe_records` records back are covered, at most twice as many are held, and the
//! memory at any offset can be restored by reading from the start of the generation before.

mod identity;
mod memory;

pub use identity::Identity;
pub use memory::{AHEAD, Mark};

use crate::settings::AdmissionSettings;
use memory::Memory;
use millrace_log::NextOffset;
use millrace_schemas::{EventTime, FieldError, WorkspaceId, dead_letter::Reason};
use std::time::Duration;

/// The most bytes of a dead letter's error text.
const ERROR_BYTES_MAX: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Counted,
    Duplicate,
    DeadLetter { reason: Reason, error: String },
}

/// The duplicate memory and rules of one raw partition. Records must be judged in the order of their offsets.
#[derive(Debug)]
pub struct Admission {
    generation_records: i64,
    future_skew: Duration,
    memory: Memory,
}

impl Admission {
    pub fn new(settings: &AdmissionSettings) -> Self {
        Self {
            generation_records: i64::from(settings.dedupe_records),
            future_skew: settings.future_skew.into(),
            memory: Memory::new(),
        }
    }

    /// Where to begin reading, discarding the verdicts, so that the memory at `next` is exact.
    pub fn restore_from(next: NextOffset, settings: &AdmissionSettings) -> NextOffset {
        let records = i64::from(settings.dedupe_records);
        let generation = next.get().div_euclid(records);
        NextOffset::exclusive(generation.saturating_sub(1).max(0) * records)
    }

    /// `append_time` is the log's; `created` tells when a workspace was created, if it exists. A record that came before
    /// its workspace is a dead letter whenever it is judged: were it not when it is read again, a replay of it would be
    /// called a repeat.
    pub fn judge(
        &mut self,
        offset: i64,
        append_time: EventTime,
        record: Result<Identity, FieldError>,
        created: impl FnOnce(WorkspaceId) -> Option<EventTime>,
    ) -> Verdict {
        match self.admit(append_time, record, created) {
            Ok(identity) => self.judge_admitted(offset, &self.mark(&identity)),
            Err(refused) => refused,
        }
    }

    /// The same of one that [`Self::admit`] has let pass.
    pub fn judge_admitted(&mut self, offset: i64, mark: &Mark) -> Verdict {
        let generation = offset.div_euclid(self.generation_records);
        if self.memory.is_repeat(generation, mark) { Verdict::Duplicate } else { Verdict::Counted }
    }

    /// What this memory knows a record by.
    pub fn mark(&self, identity: &Identity) -> Mark {
        self.memory.mark(identity)
    }

    /// The rules that one record is held against, or the dead letter that it becomes. Whether it is a repeat is not asked.
    pub(crate) fn admit(
        &self,
        append_time: EventTime,
        record: Result<Identity, FieldError>,
        created: impl FnOnce(WorkspaceId) -> Option<EventTime>,
    ) -> Result<Identity, Verdict> {
        let identity = match record {
            Ok(identity) => identity,
            Err(error) => {
                let error = short(error.to_string());
                return Err(Verdict::DeadLetter { reason: Reason::Invalid, error });
            }
        };
        if let Err(error) = exists(identity.workspace, append_time, created(identity.workspace)) {
            return Err(Verdict::DeadLetter { reason: Reason::UnknownWorkspace, error });
        }
        let limit = append_time.saturating_add(self.future_skew);
        if identity.completed_at > limit {
            let error =
                format!("completed_at: {} is after {limit}, the latest allowed", identity.completed_at);
            return Err(Verdict::DeadLetter { reason: Reason::Future, error });
        }
        Ok(identity)
    }

    /// Tells the core that the record is judged soon, best [`AHEAD`] records before.
    pub fn look_ahead(&self, mark: &Mark) {
        self.memory.look_ahead(mark);
    }
}

fn exists(workspace: WorkspaceId, at: EventTime, created: Option<EventTime>) -> Result<(), String> {
    match created {
        Some(created) if created <= at => Ok(()),
        Some(created) => {
            Err(format!("workspace_id: {workspace} was created at {created}, after the record came at {at}"))
        }
        None => Err(format!("workspace_id: no workspace has the id {workspace}")),
    }
}

/// An error may quote what it found: enough of it for a person, not all of it.
fn short(mut error: String) -> String {
    if error.len() > ERROR_BYTES_MAX {
        error.truncate(error.floor_char_boundary(ERROR_BYTES_MAX));
        error.push('…');
    }
    error
}

#[cfg(test)]
mod tests;
