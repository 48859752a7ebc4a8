//! The `ledger` topic: what became of the records, by workspace and minute of arrival, as each stage tells it of itself.
//! What a stage counts of a partition is told together with the range of offsets that it is of, so that who adds the
//! counts up sees a range that is missing and one that comes twice.

mod minute;

pub use minute::Minute;

use crate::{EventTime, WorkspaceId, dead_letter::Reason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::AddAssign;
use uuid::Uuid;

/// The version written; a reader refuses a newer one.
pub const VERSION: u8 = 1;

/// What the edge ends each record of the `metrics` topic with, behind its JSON, which may end so. A header would say the same,
/// but to look for one takes librdkafka more than a quarter of the time that the record's JSON takes.
pub const EDGE_END: &[u8] = b" \t";

/// Header that older builds of the edge gave to each record of the `metrics` topic instead.
pub const FROM_OLDER_EDGE: &str = "millrace.edge";

/// One record of the topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "stage", rename_all = "lowercase")]
pub enum Entry {
    /// A stretch of the `metrics` topic, in the transaction that commits it: all of its records are judged.
    Combine(Stretch),
    /// A stretch of the `partials` topic, in the transaction that commits it: `late` and `backfilled`.
    Windows(Stretch),
    /// A stretch of the `metrics` topic that is archived. It may come more than once.
    Archive(Stretch),
    /// What one edge has had acknowledged since its start.
    Edge(Accepted),
}

/// What became of `[from, to)` of a partition. The ranges that a stage tells of a partition follow each other without a
/// gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stretch {
    /// 1
    pub version: u8,
    pub topic: String,
    pub partition: i32,
    /// Inclusive.
    pub from: i64,
    /// Exclusive.
    pub to: i64,
    /// When the newest record of it came, by the log's clock; null where it holds none.
    pub arrived: Option<EventTime>,
    pub rows: Vec<Row>,
}

/// What one run of an edge has had acknowledged. The counts only grow: of two the higher is the newer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// 1
    pub version: u8,
    /// Another one each time that an edge starts.
    pub instance: Uuid,
    /// The topic that the records went to.
    pub topic: String,
    pub rows: Vec<Row>,
}

/// The counts of one workspace in one minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// Null for records whose workspace can't be read or does not exist.
    pub workspace_id: Option<WorkspaceId>,
    pub minute: Minute,
    #[serde(flatten)]
    pub counts: Counts,
}

/// Numbers of records; one that is absent is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Counts {
    /// Acknowledged to an edge by the log.
    #[serde(skip_serializing_if = "is_zero")]
    pub accepted: i64,
    /// Of those read, the ones that an edge had written.
    #[serde(skip_serializing_if = "is_zero")]
    pub from_edge: i64,
    /// Read from the log by combine: each is one of the next four.
    #[serde(skip_serializing_if = "is_zero")]
    pub read: i64,
    /// In the windows.
    #[serde(skip_serializing_if = "is_zero")]
    pub counted: i64,
    /// Accepted, but without an outcome yet: in no window.
    #[serde(skip_serializing_if = "is_zero")]
    pub running: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub duplicate: i64,
    #[serde(skip_serializing_if = "DeadLettered::is_zero")]
    pub dead_lettered: DeadLettered,
    /// Of those counted: their window of 5 s had closed, but was still held.
    #[serde(skip_serializing_if = "is_zero")]
    pub late: i64,
    /// Of those counted: their window of 5 s had left the memory; they were merged into the stored row.
    #[serde(skip_serializing_if = "is_zero")]
    pub backfilled: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub archived: i64,
}

/// By reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DeadLettered {
    #[serde(skip_serializing_if = "is_zero")]
    pub invalid: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub unknown_workspace: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub future: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a ledger entry of version {0}; this build reads up to {VERSION}: upgrade the processor first")]
    Newer(u64),
    #[error("not a ledger entry")]
    Json(#[source] serde_json::Error),
    #[error("a ledger entry whose {0} can't be right")]
    Impossible(&'static str),
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

/// More of anything is no count: so sums never overflow.
const COUNT_MAX: i64 = 1_000_000_000_000;

impl Entry {
    /// Reads what anybody who may write to the topic wrote.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let Versioned { version } = serde_json::from_slice(bytes).map_err(Error::Json)?;
        if version > VERSION.into() {
            return Err(Error::Newer(version));
        }
        let entry: Self = serde_json::from_slice(bytes).map_err(Error::Json)?;
        entry.check().map(|()| entry)
    }

    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an entry is plain data: numbers, ids and times")
    }

    /// As the JSON says it.
    pub fn stage(&self) -> &'static str {
        match self {
            Self::Combine(_) => "combine",
            Self::Windows(_) => "windows",
            Self::Archive(_) => "archive",
            Self::Edge(_) => "edge",
        }
    }

    pub fn rows(&self) -> &[Row] {
        match self {
            Self::Combine(stretch) | Self::Windows(stretch) | Self::Archive(stretch) => &stretch.rows,
            Self::Edge(accepted) => &accepted.rows,
        }
    }

    /// The stretch that it is of; an edge's is of none.
    pub fn stretch(&self) -> Option<&Stretch> {
        match self {
            Self::Combine(stretch) | Self::Windows(stretch) | Self::Archive(stretch) => Some(stretch),
            Self::Edge(_) => None,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let range = self
            .stretch()
            .is_none_or(|stretch| stretch.partition >= 0 && stretch.from >= 0 && stretch.from <= stretch.to);
        if !range {
            return Err(Error::Impossible("range of offsets"));
        }
        if self.rows().iter().any(|row| !row.counts.is_possible()) {
            return Err(Error::Impossible("counts"));
        }
        Ok(())
    }
}

impl Counts {
    fn is_possible(&self) -> bool {
        let DeadLettered { invalid, unknown_workspace, future } = self.dead_lettered;
        let all = [
            self.accepted,
            self.from_edge,
            self.read,
            self.counted,
            self.running,
            self.duplicate,
            self.late,
            self.backfilled,
            self.archived,
            invalid,
            unknown_workspace,
            future,
        ];
        all.iter().all(|count| (0..=COUNT_MAX).contains(count))
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.from_edge += other.from_edge;
        self.read += other.read;
        self.counted += other.counted;
        self.running += other.running;
        self.duplicate += other.duplicate;
        self.dead_lettered.invalid += other.dead_lettered.invalid;
        self.dead_lettered.unknown_workspace += other.dead_lettered.unknown_workspace;
        self.dead_lettered.future += other.dead_lettered.future;
        self.late += other.late;
        self.backfilled += other.backfilled;
        self.archived += other.archived;
    }
}

impl DeadLettered {
    pub fn of(&mut self, reason: Reason) -> &mut i64 {
        match reason {
            Reason::Invalid => &mut self.invalid,
            Reason::UnknownWorkspace => &mut self.unknown_workspace,
            Reason::Future => &mut self.future,
        }
    }

    pub fn total(&self) -> i64 {
        self.invalid + self.unknown_workspace + self.future
    }

    fn is_zero(&self) -> bool {
        self.total() == 0
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &i64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests;
