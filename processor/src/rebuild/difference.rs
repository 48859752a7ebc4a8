//! How the stored rows differ from the rebuilt ones, and what the table must hold instead. Pure.

use crate::{aggregate, sink::Identity};
use millrace_schemas::{AggregateRow, EventTime, ServiceId, Window, WorkspaceId};
use serde::Serialize;
use std::collections::BTreeMap;

/// Sums depend on the order in which they were added up, by much less than this.
const TOLERANCE: f64 = 1e-9;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Stored, but the log and the archive have no record for it.
    OnlyStored,
    /// Not stored, though there are records for it.
    OnlyRebuilt,
    Different,
}

/// A row that is not stored as it is rebuilt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    pub kind: Kind,
    pub window: Window,
    pub window_start: EventTime,
    pub workspace_id: WorkspaceId,
    pub service_id: ServiceId,
    /// Of the stored row; 0 where there is none.
    pub base_revision: i64,
    /// Those that differ; of a row that is missing on one side only the number of queries.
    pub columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Column {
    pub name: &'static str,
    pub stored: Cell,
    pub rebuilt: Cell,
    /// |stored - rebuilt| by the larger of both, where both are numbers.
    pub relative: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    Count(i64),
    Number(f64),
    Flag(bool),
    Null,
}

/// A difference, and what the table is to hold: a row without queries where it must hold none.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub difference: Difference,
    pub row: AggregateRow,
}

/// Both sides are of one window size.
pub(super) fn compare(stored: Vec<AggregateRow>, rebuilt: Vec<AggregateRow>) -> Vec<Change> {
    let mut sides: BTreeMap<Identity, (Option<AggregateRow>, Option<AggregateRow>)> = BTreeMap::new();
    for row in stored {
        let identity = Identity::from(&row);
        sides.entry(identity).or_default().0 = Some(row);
    }
    for row in rebuilt {
        let identity = Identity::from(&row);
        sides.entry(identity).or_default().1 = Some(row);
    }
    sides.into_values().filter_map(|(stored, rebuilt)| change(stored, rebuilt)).collect()
}

fn change(stored: Option<AggregateRow>, rebuilt: Option<AggregateRow>) -> Option<Change> {
    match (stored, rebuilt) {
        (Some(stored), Some(rebuilt)) => {
            let columns = differing(&stored, &rebuilt);
            // Who came late is known to the stage alone, at the time; the log and the archive don't tell.
            let late_count = stored.late_count.min(rebuilt.query_count);
            let row = AggregateRow { late_count, ..rebuilt };
            (!columns.is_empty()).then(|| Change::new(Kind::Different, stored.revision, columns, row))
        }
        (Some(stored), None) => {
            let count = Column::of("query_count", Cell::Count(stored.query_count), Cell::Null);
            let (revision, row) = (stored.revision, AggregateRow { query_count: 0, ..stored });
            Some(Change::new(Kind::OnlyStored, revision, vec![count], row))
        }
        (None, Some(rebuilt)) => {
            let count = Column::of("query_count", Cell::Null, Cell::Count(rebuilt.query_count));
            let row = AggregateRow { late_count: 0, ..rebuilt };
            Some(Change::new(Kind::OnlyRebuilt, 0, vec![count], row))
        }
        (None, None) => None,
    }
}

impl Change {
    fn new(kind: Kind, base_revision: i64, columns: Vec<Column>, row: AggregateRow) -> Self {
        let difference = Difference {
            kind,
            window: row.window,
            window_start: row.window_start,
            workspace_id: row.workspace_id,
            service_id: row.service_id,
            base_revision,
            columns,
        };
        Self { difference, row: AggregateRow { revision: base_revision + 1, is_final: true, ..row } }
    }
}

impl Column {
    fn of(name: &'static str, stored: Cell, rebuilt: Cell) -> Self {
        let relative = stored.number().zip(rebuilt.number()).map(|(a, b)| relative(a, b));
        Self { name, stored, rebuilt, relative }
    }

    fn is_same(&self) -> bool {
        match (self.stored, self.rebuilt) {
            (Cell::Number(a), Cell::Number(b)) => relative(a, b) <= TOLERANCE,
            (stored, rebuilt) => stored == rebuilt,
        }
    }
}

impl Cell {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn number(self) -> Option<f64> {
        match self {
            Self::Count(count) => Some(count as f64),
            Self::Number(number) => Some(number),
            Self::Flag(_) | Self::Null => None,
        }
    }
}

fn relative(a: f64, b: f64) -> f64 {
    let larger = a.abs().max(b.abs());
    if larger == 0.0 { 0.0 } else { (a - b).abs() / larger }
}

/// All columns but those that tell how the row came to be.
fn differing(stored: &AggregateRow, rebuilt: &AggregateRow) -> Vec<Column> {
    let count = |of: fn(&AggregateRow) -> i64| (Cell::Count(of(stored)), Cell::Count(of(rebuilt)));
    let number = |of: fn(&AggregateRow) -> Option<f64>| {
        let cell = |row| of(row).map_or(Cell::Null, Cell::Number);
        (cell(stored), cell(rebuilt))
    };
    let rows_affected = |row: &AggregateRow| row.total_rows_affected.map_or(Cell::Null, Cell::Count);
    let columns = [
        ("query_count", count(|row| row.query_count)),
        ("success_count", count(|row| row.success_count)),
        ("failed_count", count(|row| row.failed_count)),
        ("timeout_count", count(|row| row.timeout_count)),
        ("cancelled_count", count(|row| row.cancelled_count)),
        ("total_rows_affected", (rows_affected(stored), rows_affected(rebuilt))),
        ("duration_count", count(|row| row.duration_count)),
        ("sum_duration_ms", number(|row| row.sum_duration_ms)),
        ("min_duration_ms", number(|row| row.min_duration_ms)),
        ("max_duration_ms", number(|row| row.max_duration_ms)),
        ("p50_duration_ms", number(|row| row.p50_duration_ms)),
        ("p95_duration_ms", number(|row| row.p95_duration_ms)),
        ("p99_duration_ms", number(|row| row.p99_duration_ms)),
        // What is rebuilt has left the processor's memory: it is final.
        ("is_final", (Cell::Flag(stored.is_final), Cell::Flag(true))),
    ];
    let columns = columns.into_iter().map(|(name, (stored, rebuilt))| Column::of(name, stored, rebuilt));
    let mut differing: Vec<Column> = columns.filter(|column| !column.is_same()).collect();
    differing.extend(sketches(stored, rebuilt));
    differing
}

/// Shown by the number of values in each; null is one that can't be read.
fn sketches(stored: &AggregateRow, rebuilt: &AggregateRow) -> Option<Column> {
    let sketch = |row: &AggregateRow| aggregate::decode_sketch(&row.sketch).ok();
    let (stored, rebuilt) = (sketch(stored), sketch(rebuilt));
    let cell = |sketch: &Option<crate::sketch::Sketch>| {
        sketch.as_ref().map_or(Cell::Null, |s| Cell::Count(i64::try_from(s.count()).unwrap_or(i64::MAX)))
    };
    let same = stored.is_some() && stored == rebuilt;
    (!same).then(|| Column::of("sketch", cell(&stored), cell(&rebuilt)))
}

#[cfg(test)]
mod tests;
