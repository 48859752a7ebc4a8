//! What decides the verdict on a record, however it was read.

use millrace_schemas::{EventTime, QueryMetric, RecordId, Status, WorkspaceId};

/// What of a record decides the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub workspace: WorkspaceId,
    pub id: RecordId,
    pub completed_at: EventTime,
    /// A query that still ran may be told again, with the same id, when it has ended.
    pub running: bool,
}

impl Identity {
    /// For the memory alone: when a record came that was admitted then, however far ahead of the log's clock a record may
    /// be today.
    pub fn admitted_at(&self, append_time: EventTime) -> EventTime {
        append_time.max(self.completed_at)
    }
}

impl From<&QueryMetric> for Identity {
    fn from(metric: &QueryMetric) -> Self {
        Self {
            workspace: metric.workspace_id,
            id: metric.id,
            completed_at: metric.completed_at,
            running: metric.status == Status::Running,
        }
    }
}
