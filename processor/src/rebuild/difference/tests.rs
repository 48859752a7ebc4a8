use super::*;
use crate::{aggregate::encode_sketch, sketch::Sketch};
use millrace_schemas::aggregate::{Kind as RowKind, VERSION};
use uuid::Uuid;

fn row(minute: i64, query_count: i64) -> AggregateRow {
    let mut sketch = Sketch::default();
    (0..query_count).for_each(|_| sketch.add(2.0));
    let mut row = AggregateRow {
        version: VERSION,
        kind: RowKind::Row,
        workspace_id: WorkspaceId(Uuid::from_u128(1)),
        service_id: ServiceId(Uuid::from_u128(2)),
        window: Window::OneMinute,
        window_start: EventTime(minute * 60_000_000),
        query_count,
        success_count: query_count,
        failed_count: 0,
        timeout_count: 0,
        cancelled_count: 0,
        error_rate: 0.0,
        total_rows_affected: None,
        duration_count: query_count,
        sum_duration_ms: Some(2.0),
        avg_duration_ms: None,
        min_duration_ms: Some(2.0),
        max_duration_ms: Some(2.0),
        p50_duration_ms: None,
        p95_duration_ms: None,
        p99_duration_ms: None,
        revision: 4,
        is_final: true,
        late_count: 3,
        position: 0,
        sketch: encode_sketch(&sketch.to_bytes()),
    };
    aggregate::derive(&mut row, &sketch);
    row
}

fn only(mut changes: Vec<Change>) -> Change {
    assert_eq!(changes.len(), 1, "{changes:?}");
    changes.remove(0)
}

#[test]
fn equal_rows_are_no_difference_whatever_their_history() {
    let rebuilt = AggregateRow {
        revision: 9,
        late_count: 0,
        position: 70,
        sum_duration_ms: Some(2.000_000_000_000_4),
        ..row(1, 5)
    };
    assert_eq!(compare(vec![row(1, 5), row(2, 1)], vec![row(2, 1), rebuilt]), []);
}

#[test]
fn a_changed_row_is_replaced_with_the_next_revision_and_keeps_its_late_count() {
    let stored = AggregateRow { query_count: 8, failed_count: 3, max_duration_ms: Some(4.0), ..row(1, 5) };
    let change = only(compare(vec![stored], vec![AggregateRow { revision: 1, ..row(1, 5) }]));
    let names: Vec<_> = change.difference.columns.iter().map(|column| column.name).collect();
    assert_eq!(names, ["query_count", "failed_count", "max_duration_ms"]);
    assert_eq!(change.difference.columns[0].relative, Some(0.375));
    assert_eq!((change.difference.kind, change.difference.base_revision), (Kind::Different, 4));
    assert_eq!((change.row.revision, change.row.query_count, change.row.late_count), (5, 5, 3));
}

#[test]
fn no_more_records_were_late_than_there_are() {
    let change = only(compare(vec![row(1, 5)], vec![row(1, 2)]));
    assert_eq!(change.row.late_count, 2);
}

#[test]
fn a_row_on_one_side_is_added_or_emptied() {
    let changes = compare(vec![row(1, 5)], vec![row(2, 6)]);
    let [stored, rebuilt] = changes.as_slice() else { panic!("two: {changes:?}") };
    assert_eq!((stored.difference.kind, stored.difference.base_revision), (Kind::OnlyStored, 4));
    assert_eq!((stored.row.query_count, stored.row.revision), (0, 5));
    assert_eq!((rebuilt.difference.kind, rebuilt.difference.base_revision), (Kind::OnlyRebuilt, 0));
    assert_eq!((rebuilt.row.query_count, rebuilt.row.revision, rebuilt.row.late_count), (6, 1, 0));
}

#[test]
fn a_row_that_is_not_final_or_whose_sketch_is_broken_is_different() {
    let open = AggregateRow { is_final: false, ..row(1, 5) };
    let change = only(compare(vec![open], vec![row(1, 5)]));
    assert_eq!(change.difference.columns[0].name, "is_final");
    assert!(change.row.is_final);
    let broken = AggregateRow { sketch: "AAAA".to_owned(), ..row(1, 5) };
    let change = only(compare(vec![broken], vec![row(1, 5)]));
    assert_eq!(
        (change.difference.columns[0].name, change.difference.columns[0].stored),
        ("sketch", Cell::Null)
    );
}

#[test]
fn what_follows_from_a_change_is_gone_after_it() {
    let stored = vec![AggregateRow { query_count: 8, ..row(1, 5) }, row(3, 1)];
    let rebuilt = vec![row(1, 5), row(2, 6)];
    let changes = compare(stored, rebuilt.clone());
    let after = changes.into_iter().map(|change| change.row).filter(|row| row.query_count > 0).collect();
    assert_eq!(compare(after, rebuilt), []);
}
