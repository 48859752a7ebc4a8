use super::*;
use millrace_schemas::{EventTime, ServiceId, Window, WorkspaceId, aggregate::Kind};
use uuid::Uuid;

/// A row over successful records with these durations.
fn row(durations: &[f64]) -> AggregateRow {
    let mut sketch = Sketch::default();
    durations.iter().for_each(|ms| sketch.add(*ms));
    let count = i64::try_from(durations.len()).expect("small");
    let mut row = AggregateRow {
        version: millrace_schemas::aggregate::VERSION,
        kind: Kind::Row,
        workspace_id: WorkspaceId(Uuid::nil()),
        service_id: ServiceId(Uuid::nil()),
        window: Window::FiveSeconds,
        window_start: EventTime(0),
        query_count: count,
        success_count: count,
        failed_count: 0,
        timeout_count: 0,
        cancelled_count: 0,
        error_rate: 0.0,
        total_rows_affected: None,
        duration_count: count,
        sum_duration_ms: durations.iter().copied().reduce(|a, b| a + b),
        avg_duration_ms: None,
        min_duration_ms: durations.iter().copied().reduce(f64::min),
        max_duration_ms: durations.iter().copied().reduce(f64::max),
        p50_duration_ms: None,
        p95_duration_ms: None,
        p99_duration_ms: None,
        revision: 1,
        is_final: false,
        late_count: 0,
        position: 10,
        sketch: encode_sketch(&sketch.to_bytes()),
    };
    derive(&mut row, &sketch);
    row
}

#[test]
fn a_delta_gives_the_row_of_all_records_with_the_next_revision() {
    let mut merged = row(&[1.0, 2.0]);
    merge(
        &mut merged,
        &AggregateRow { total_rows_affected: Some(3), late_count: 1, position: 12, ..row(&[9.0]) },
    )
    .expect("own sketches");
    let expected = AggregateRow {
        revision: 2,
        is_final: true,
        late_count: 1,
        position: 12,
        total_rows_affected: Some(3),
        ..row(&[1.0, 2.0, 9.0])
    };
    assert_eq!(merged, expected);
}

#[test]
fn without_durations_everything_about_them_is_null() {
    let mut empty =
        AggregateRow { query_count: 4, success_count: 1, failed_count: 2, timeout_count: 1, ..row(&[]) };
    derive(&mut empty, &Sketch::default());
    assert_eq!((empty.avg_duration_ms, empty.p50_duration_ms), (None, None));
    assert!((empty.error_rate - 0.75).abs() < 1e-12);
}

#[test]
fn percentiles_lie_between_min_and_max() {
    let constant = row(&[42.0, 42.0]);
    assert_eq!((constant.p50_duration_ms, constant.p99_duration_ms), (Some(42.0), Some(42.0)));
}
