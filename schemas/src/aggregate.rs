//! One row of one window, as the `aggregates` topic holds it and the live feed sends it.

use crate::{EventTime, FieldError, ServiceId, Window, WorkspaceId, json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version that [`AggregateRow::version`] has today; a reader refuses a newer one.
pub const VERSION: u8 = 1;

/// Whether a row replaces what is stored or is to be added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The whole window: the higher revision replaces the lower.
    Row,
    /// Records that came after the window had left the processor's memory: to be merged into the stored row.
    Delta,
}

/// Rates, errors and latencies of one service in one window. Identity: (workspace, service, window, start).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AggregateRow {
    /// 1
    pub version: u8,
    pub kind: Kind,
    pub workspace_id: WorkspaceId,
    pub service_id: ServiceId,
    pub window: Window,
    /// Inclusive; the end, start + window, is exclusive.
    pub window_start: EventTime,
    /// All outcomes together.
    pub query_count: i64,
    pub success_count: i64,
    pub failed_count: i64,
    pub timeout_count: i64,
    pub cancelled_count: i64,
    /// (failed + timeout + cancelled) / all, 0 to 1.
    pub error_rate: f64,
    /// Null where no record said how many rows it touched.
    pub total_rows_affected: Option<i64>,
    /// Records that have a duration; the following are over these, and null where there are none.
    pub duration_count: i64,
    pub sum_duration_ms: Option<f64>,
    pub avg_duration_ms: Option<f64>,
    pub min_duration_ms: Option<f64>,
    pub max_duration_ms: Option<f64>,
    /// Within 1 % of an exact quantile (nearest rank), as p95 and p99 are.
    pub p50_duration_ms: Option<f64>,
    pub p95_duration_ms: Option<f64>,
    pub p99_duration_ms: Option<f64>,
    /// Counts the times that this row was emitted, from 1; of two rows the higher is the newer.
    pub revision: i64,
    /// The watermark has passed the window's end. Late records may still raise the revision.
    pub is_final: bool,
    /// Of `query_count`, those that came when the watermark had already passed the window's end.
    pub late_count: i64,
    /// Next offset of the `partials` partition when the row was made: all before it is contained.
    pub position: i64,
    /// The mergeable latency sketch, base64.
    pub sketch: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A newer Millrace writes here: to pass over its rows would lose them.
    #[error("an aggregate row of version {0}; this build reads up to {VERSION}: upgrade it first")]
    Newer(u64),
    #[error("not an aggregate row")]
    Json(#[source] FieldError),
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

impl AggregateRow {
    /// Reads what anybody who may write to the topic wrote.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        match json::read_object::<Self>(bytes) {
            Ok(row) if row.version > VERSION => Err(Error::Newer(row.version.into())),
            Ok(row) => Ok(row),
            // A newer row may have any shape but its version.
            Err(error) => match serde_json::from_slice::<Versioned>(bytes) {
                Ok(Versioned { version }) if version > VERSION.into() => Err(Error::Newer(version)),
                _ => Err(Error::Json(error)),
            },
        }
    }

    pub fn window_end(&self) -> EventTime {
        self.window.end_of(self.window_start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOLDEN: &[u8] = include_bytes!("../golden/aggregate-row-1.json");

    proptest! {
        /// serde_json would be off by the last bit of some.
        #[test]
        fn numbers_are_read_as_they_were_written(sum in 0.0..1e12_f64, min in 0.0..1.0_f64, max in any::<f64>()) {
            let row = AggregateRow::read(GOLDEN).expect("a row");
            let max = Some(max).filter(|max| max.is_finite());
            let row =
                AggregateRow { sum_duration_ms: Some(sum), min_duration_ms: Some(min), max_duration_ms: max, ..row };
            let written = serde_json::to_vec(&row).expect("plain data");
            prop_assert_eq!(AggregateRow::read(&written).expect("our own"), row);
        }
    }
}
