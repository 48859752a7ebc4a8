//! Reads the rows that [`super::Plan::finish`] gives, and the keys of partial states.

use super::PlanError;
use crate::{aggregate::encode_sketch, sketch::Sketch};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Float64Type, Int64Type},
};
use millrace_schemas::{EventTime, ServiceId, WorkspaceId};
use uuid::Uuid;

/// Columns of the group keys, in results and in partial states.
pub const BUCKET: usize = 0;
const WORKSPACE: usize = 1;
const SERVICE: usize = 2;
/// First column of the results proper.
const FIRST: usize = 3;

/// Whose window a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub workspace: WorkspaceId,
    pub service: ServiceId,
}

/// The results of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Totals {
    pub key: Key,
    pub bucket: EventTime,
    pub query_count: i64,
    pub success_count: i64,
    pub failed_count: i64,
    pub timeout_count: i64,
    pub cancelled_count: i64,
    pub total_rows_affected: Option<i64>,
    pub duration_count: i64,
    pub sum_duration_ms: Option<f64>,
    pub min_duration_ms: Option<f64>,
    pub max_duration_ms: Option<f64>,
    pub sketch: Sketch,
    /// As rows hold it.
    pub sketch_text: String,
}

/// The key of a row of results or of partial states.
pub fn key_at(batch: &RecordBatch, row: usize) -> Key {
    let id = |column: usize| {
        let bytes = batch.column(column).as_fixed_size_binary().value(row);
        Uuid::from_slice(bytes).expect("a column of 16 bytes")
    };
    Key { workspace: WorkspaceId(id(WORKSPACE)), service: ServiceId(id(SERVICE)) }
}

/// The rows of a batch of results.
pub fn totals(results: &RecordBatch) -> Result<Vec<Totals>, PlanError> {
    (0..results.num_rows()).map(|row| totals_at(results, row)).collect()
}

fn totals_at(batch: &RecordBatch, row: usize) -> Result<Totals, PlanError> {
    let integer = |column: usize| {
        let values = batch.column(FIRST + column).as_primitive::<Int64Type>();
        values.is_valid(row).then(|| values.value(row))
    };
    let float = |column: usize| {
        let values = batch.column(FIRST + column).as_primitive::<Float64Type>();
        values.is_valid(row).then(|| values.value(row))
    };
    let count = |column: usize| integer(column).unwrap_or(0);
    let sketch = batch.column(FIRST + 10).as_binary::<i32>().value(row);
    Ok(Totals {
        key: key_at(batch, row),
        bucket: EventTime(batch.column(BUCKET).as_primitive::<Int64Type>().value(row)),
        query_count: count(0),
        success_count: count(1),
        failed_count: count(2),
        timeout_count: count(3),
        cancelled_count: count(4),
        total_rows_affected: integer(5),
        duration_count: count(6),
        sum_duration_ms: float(7),
        min_duration_ms: float(8),
        max_duration_ms: float(9),
        sketch: Sketch::from_bytes(sketch)?,
        sketch_text: encode_sketch(sketch),
    })
}
