//! The ledger as clients see it: what became of the records, by workspace and minute of arrival, and for which minutes
//! that is the whole truth. Pure; [`select`] asks the database, [`monitor`] also the brokers.

pub mod meters;
pub mod monitor;
pub mod select;
mod standing;

pub use standing::{Partition, Position, Reader, Standing};

use millrace_schemas::{
    EventTime, WorkspaceId,
    ledger::{Counts, DeadLettered, Minute},
};
use serde::Serialize;

/// The row of a workspace and a minute, as the database has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// `None`: the workspace can't be read or does not exist.
    pub workspace: Option<WorkspaceId>,
    pub minute: Minute,
    pub counts: Counts,
    /// Each record read is counted, running, duplicate or a dead letter, and no more were accepted than read.
    pub adds_up: bool,
    /// What is counted or running is archived, and nothing else.
    pub all_archived: bool,
}

/// A row as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RowView {
    pub minute: Minute,
    #[serde(flatten)]
    pub counts: CountsView,
    /// All records that came in this minute have been dealt with.
    pub processed: bool,
    /// And the numbers agree.
    pub balanced: bool,
}

/// The same with the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WorkspaceRowView {
    pub workspace_id: Option<WorkspaceId>,
    #[serde(flatten)]
    pub row: RowView,
}

/// All counts, also those that are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CountsView {
    pub accepted: i64,
    pub from_edge: i64,
    pub read: i64,
    pub counted: i64,
    pub running: i64,
    pub duplicate: i64,
    pub late: i64,
    pub backfilled: i64,
    pub dead_lettered: DeadLetteredView,
    pub archived: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeadLetteredView {
    pub invalid: i64,
    pub unknown_workspace: i64,
    pub future: i64,
}

/// The rows of an answer together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Totals {
    #[serde(flatten)]
    pub counts: CountsView,
    /// Every row is.
    pub processed: bool,
    /// Every row is.
    pub balanced: bool,
}

impl Row {
    pub fn view(&self, standing: &Standing) -> RowView {
        let processed = standing.has_processed(self.minute);
        let balanced = processed && self.adds_up && (self.all_archived || !standing.is_archived);
        RowView { minute: self.minute, counts: self.counts.into(), processed, balanced }
    }
}

impl Totals {
    pub fn of(rows: &[Row], standing: &Standing) -> Self {
        let mut counts = Counts::default();
        rows.iter().for_each(|row| counts += row.counts);
        let all = |is: fn(RowView) -> bool| rows.iter().all(|row| is(row.view(standing)));
        Self { counts: counts.into(), processed: all(|row| row.processed), balanced: all(|row| row.balanced) }
    }
}

impl From<Counts> for CountsView {
    fn from(counts: Counts) -> Self {
        let Counts {
            accepted,
            from_edge,
            read,
            counted,
            running,
            duplicate,
            dead_lettered: DeadLettered { invalid, unknown_workspace, future },
            late,
            backfilled,
            archived,
        } = counts;
        Self {
            accepted,
            from_edge,
            read,
            counted,
            running,
            duplicate,
            late,
            backfilled,
            dead_lettered: DeadLetteredView { invalid, unknown_workspace, future },
            archived,
        }
    }
}

/// What the ledger says of one moment, for Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Rows of the last hour that are processed and not balanced.
    pub unbalanced: i64,
    /// The newest minute that has rows, all of which are balanced.
    pub newest_balanced: Option<EventTime>,
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use uuid::Uuid;

    pub fn row(minute: i64) -> Row {
        let dead_lettered = DeadLettered { invalid: 1, ..DeadLettered::default() };
        let counts =
            Counts { read: 5, counted: 3, running: 1, dead_lettered, archived: 4, ..Counts::default() };
        Row {
            workspace: Some(WorkspaceId(Uuid::from_u128(1))),
            minute: Minute::of(EventTime(minute * 60_000_000)),
            counts,
            adds_up: true,
            all_archived: true,
        }
    }

    fn through(minute: i64) -> Standing {
        Standing { through: Some(EventTime(minute * 60_000_000)), since: None, is_archived: true }
    }

    #[test]
    fn has_every_count_and_says_whether_they_are_final() {
        let view = serde_json::to_string(&row(9).view(&through(10))).expect("serializes");
        insta::assert_snapshot!(view, @r#"{"minute":"1970-01-01T00:09:00Z","accepted":0,"from_edge":0,"read":5,"counted":3,"running":1,"duplicate":0,"late":0,"backfilled":0,"dead_lettered":{"invalid":1,"unknown_workspace":0,"future":0},"archived":4,"processed":true,"balanced":true}"#);
    }

    #[test]
    fn is_balanced_only_when_it_is_processed_and_all_agrees() {
        let balanced = |row: Row, standing: Standing| row.view(&standing).balanced;
        assert!(balanced(row(9), through(10)));
        assert!(!balanced(row(9), through(9)));
        assert!(!balanced(Row { adds_up: false, ..row(9) }, through(10)));
        let not_archived = Row { all_archived: false, ..row(9) };
        assert!(!balanced(not_archived, through(10)));
        assert!(balanced(not_archived, Standing { is_archived: false, ..through(10) }));
    }

    #[test]
    fn totals_are_of_all_rows() {
        let totals = Totals::of(&[row(8), row(9)], &through(9));
        assert_eq!((totals.counts.read, totals.counts.dead_lettered.invalid), (10, 2));
        assert!(!totals.processed && !totals.balanced);
        assert!(Totals::of(&[row(8)], &through(9)).balanced);
    }
}
