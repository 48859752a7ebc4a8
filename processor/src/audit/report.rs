//! What an audit has looked at and found. Pure.

use super::finding::Findings;
use millrace_schemas::{EventTime, WorkspaceId, ledger::Counts};
use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub agrees: bool,
    pub partitions: Vec<Partition>,
    /// Arrivals from this time on are all known; null: from the log's first record on.
    pub exact_from: Option<EventTime>,
    /// By workspace and minute of arrival, as the log has it.
    pub minutes: Vec<MinuteRow>,
    pub total: Counts,
    /// Dead letters that today's rules would not make: the rules were others.
    pub other_rules: u64,
    pub letters: u64,
    pub manifests: u64,
    pub archived: u64,
    /// Sums of stored rows that were compared, each over so many seconds.
    pub window_sums: u64,
    pub window_sums_s: i64,
    pub ledger_rows: u64,
    pub findings: Findings,
}

/// One partition of the raw topic: `[from, to)` is what was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    pub partition: i32,
    pub from: i64,
    pub to: i64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct MinuteRow {
    pub workspace_id: Option<WorkspaceId>,
    pub minute: EventTime,
    #[serde(flatten)]
    pub counts: Counts,
}
