//! One row of one window as clients see it, by REST and over the live feed.

mod select;

pub use select::{Page, Selection, select};

use millrace_schemas::{AggregateRow, EventTime, ServiceId, WorkspaceId};
use serde::Serialize;

/// Counts and latencies of one service in one window. Durations are milliseconds and may have fractions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bucket {
    pub workspace_id: WorkspaceId,
    pub service_id: ServiceId,
    /// The window's start.
    pub bucket: EventTime,
    pub query_count: i64,
    pub avg_duration_ms: Option<f64>,
    pub min_duration_ms: Option<f64>,
    pub max_duration_ms: Option<f64>,
    pub p50_duration_ms: Option<f64>,
    pub p95_duration_ms: Option<f64>,
    pub p99_duration_ms: Option<f64>,
    pub sum_duration_ms: Option<f64>,
    /// Records that have a duration: those that the durations are of.
    pub duration_count: i64,
    pub success_count: i64,
    pub failed_count: i64,
    pub timeout_count: i64,
    pub cancelled_count: i64,
    /// Share of the records that did not succeed, 0 to 1.
    pub error_rate: f64,
    pub total_rows_affected: Option<i64>,
    pub revision: i64,
    pub is_final: bool,
    pub late_count: i64,
}

impl From<&AggregateRow> for Bucket {
    fn from(row: &AggregateRow) -> Self {
        Self {
            workspace_id: row.workspace_id,
            service_id: row.service_id,
            bucket: row.window_start,
            query_count: row.query_count,
            avg_duration_ms: row.avg_duration_ms,
            min_duration_ms: row.min_duration_ms,
            max_duration_ms: row.max_duration_ms,
            p50_duration_ms: row.p50_duration_ms,
            p95_duration_ms: row.p95_duration_ms,
            p99_duration_ms: row.p99_duration_ms,
            sum_duration_ms: row.sum_duration_ms,
            duration_count: row.duration_count,
            success_count: row.success_count,
            failed_count: row.failed_count,
            timeout_count: row.timeout_count,
            cancelled_count: row.cancelled_count,
            error_rate: row.error_rate,
            total_rows_affected: row.total_rows_affected,
            revision: row.revision,
            is_final: row.is_final,
            late_count: row.late_count,
        }
    }
}

impl Bucket {
    /// Fills in what is not stored because it follows from what is.
    fn derive(mut self) -> Self {
        self.avg_duration_ms = self.sum_duration_ms.and_then(|sum| ratio(sum, self.duration_count));
        let errors = self.failed_count + self.timeout_count + self.cancelled_count;
        self.error_rate = ratio(to_f64(errors), self.query_count).unwrap_or(0.0);
        self
    }
}

fn ratio(part: f64, count: i64) -> Option<f64> {
    (count > 0).then(|| part / to_f64(count))
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^53 are exact")]
fn to_f64(count: i64) -> f64 {
    count as f64
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use uuid::Uuid;

    pub fn bucket() -> Bucket {
        Bucket {
            workspace_id: WorkspaceId(Uuid::from_u128(1)),
            service_id: ServiceId(Uuid::from_u128(2)),
            bucket: EventTime::from_millis(60_000),
            query_count: 8,
            avg_duration_ms: None,
            min_duration_ms: Some(0.25),
            max_duration_ms: Some(4.0),
            p50_duration_ms: Some(1.0),
            p95_duration_ms: Some(4.0),
            p99_duration_ms: Some(4.0),
            sum_duration_ms: Some(10.0),
            duration_count: 4,
            success_count: 4,
            failed_count: 2,
            timeout_count: 1,
            cancelled_count: 1,
            error_rate: 0.0,
            total_rows_affected: None,
            revision: 3,
            is_final: true,
            late_count: 0,
        }
    }

    #[test]
    fn averages_and_rates_follow_from_the_stored_sums() {
        let full = bucket().derive();
        assert_eq!((full.avg_duration_ms, full.error_rate), (Some(2.5), 0.5));
        let empty = Bucket { query_count: 0, duration_count: 0, sum_duration_ms: None, ..bucket() }.derive();
        assert_eq!((empty.avg_duration_ms, empty.error_rate), (None, 0.0));
    }

    #[test]
    fn has_the_contracts_fields_and_ours() {
        insta::assert_snapshot!(serde_json::to_string(&bucket().derive()).expect("serializes"), @r#"{"workspace_id":"00000000-0000-0000-0000-000000000001","service_id":"00000000-0000-0000-0000-000000000002","bucket":"1970-01-01T00:01:00Z","query_count":8,"avg_duration_ms":2.5,"min_duration_ms":0.25,"max_duration_ms":4.0,"p50_duration_ms":1.0,"p95_duration_ms":4.0,"p99_duration_ms":4.0,"sum_duration_ms":10.0,"duration_count":4,"success_count":4,"failed_count":2,"timeout_count":1,"cancelled_count":1,"error_rate":0.5,"total_rows_affected":null,"revision":3,"is_final":true,"late_count":0}"#);
    }
}
