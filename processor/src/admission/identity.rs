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
