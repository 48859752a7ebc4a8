use super::*;
use crate::sketch::Sketch;
use proptest::prelude::*;
use std::collections::BTreeSet;
use uuid::Uuid;

/// A row of service `service` with one query of `revision` milliseconds.
pub fn row(service: u128, revision: i64) -> AggregateRow {
    let duration_ms = f64::from(i32::try_from(revision).expect("small"));
    let mut sketch = Sketch::default();
    sketch.add(duration_ms);
    let mut row = AggregateRow {
        version: millrace_schemas::aggregate::VERSION,
        kind: Kind::Row,
        workspace_id: WorkspaceId(Uuid::from_u128(7)),
        service_id: ServiceId(Uuid::from_u128(service)),
        window: Window::FiveSeconds,
        window_start: EventTime(5_000_000),
        query_count: 1,
        success_count: 1,
        failed_count: 0,
        timeout_count: 0,
        cancelled_count: 0,
        error_rate: 0.0,
        total_rows_affected: None,
        duration_count: 1,
        sum_duration_ms: Some(duration_ms),
        avg_duration_ms: None,
        min_duration_ms: Some(duration_ms),
        max_duration_ms: Some(duration_ms),
        p50_duration_ms: None,
        p95_duration_ms: None,
        p99_duration_ms: None,
        revision,
        is_final: false,
        late_count: 0,
        position: 0,
        sketch: aggregate::encode_sketch(&sketch.to_bytes()),
    };
    aggregate::derive(&mut row, &sketch);
    row
}

pub fn delta(service: u128) -> AggregateRow {
    AggregateRow { kind: Kind::Delta, late_count: 1, ..row(service, 1) }
}

fn batch(rows: impl IntoIterator<Item = AggregateRow>) -> Batch {
    let mut batch = Batch::default();
    for (offset, row) in (0..).zip(rows) {
        let partition = i32::from(row.service_id.0.as_u128() > 2);
        batch.push(NextOffset::START, Entry { partition, offset, row: Some(row) });
    }
    batch
}

type Table = BTreeMap<Identity, AggregateRow>;

/// What the transaction does, on a map.
fn store(table: &mut Table, batch: &Batch) {
    let plan = Plan::of(batch);
    let mut upserts: Vec<AggregateRow> = plan.rows.values().map(|row| (*row).clone()).collect();
    for (identity, changes) in &plan.merges {
        upserts.extend(merged(table.get(identity).cloned(), changes).expect("own sketches"));
    }
    for row in upserts {
        let stored = table.entry(Identity::from(&row)).or_insert_with(|| row.clone());
        if row.revision > stored.revision {
            *stored = row;
        }
    }
}

#[test]
fn the_newest_revision_of_each_row_is_stored() {
    let mut table = Table::new();
    store(&mut table, &batch([row(1, 2), row(2, 1), row(1, 3), row(1, 1)]));
    let revisions: Vec<i64> = table.values().map(|row| row.revision).collect();
    assert_eq!(revisions, [3, 1]);
    store(&mut table, &batch([row(1, 2)]));
    assert_eq!(table.values().next().map(|row| row.revision), Some(3));
}

#[test]
fn a_delta_is_added_and_gives_the_next_revision() {
    let mut table = Table::new();
    store(&mut table, &batch([row(1, 4)]));
    store(&mut table, &batch([delta(1), delta(1)]));
    let stored = table.values().next().expect("one row");
    assert_eq!((stored.query_count, stored.late_count, stored.revision, stored.is_final), (3, 2, 6, true));
}

#[test]
fn a_delta_without_a_stored_row_is_the_row() {
    let mut table = Table::new();
    store(&mut table, &batch([delta(1)]));
    let stored = table.values().next().expect("one row");
    assert_eq!((stored.kind, stored.query_count, stored.revision), (Kind::Row, 1, 1));
}

#[test]
fn a_batch_of_one_splits_into_its_offset() {
    let halves = batch([row(1, 1)]).split();
    assert_eq!(halves.len(), 1);
    assert_eq!(halves[0].rows().count(), 0);
    assert_eq!(halves[0].to(), BTreeMap::from([(0, NextOffset::after(0))]));
}

fn changes() -> impl Strategy<Value = Vec<AggregateRow>> {
    let change =
        (1_u128..5, 0_i64..8).prop_map(|(service, n)| if n < 3 { delta(service) } else { row(service, n) });
    prop::collection::vec(change, 1..40)
}

proptest! {
    /// However the log is cut into transactions, and whether or not one is searched for a refused row, the rows are
    /// those of storing each record by itself.
    #[test]
    fn batching_changes_nothing(changes in changes(), cuts in prop::collection::vec(0_usize..40, 0..6), halve in any::<bool>()) {
        let mut one_by_one = Table::new();
        for change in &changes {
            store(&mut one_by_one, &batch([change.clone()]));
        }
        let cuts: BTreeSet<usize> = cuts.into_iter().map(|cut| cut.min(changes.len())).chain([0, changes.len()]).collect();
        let cuts: Vec<usize> = cuts.into_iter().collect();
        let mut batched = Table::new();
        for cut in cuts.windows(2) {
            let batch = batch(changes[cut[0]..cut[1]].to_vec());
            let parts = if halve && batch.entries.len() > 1 { batch.split() } else { vec![batch] };
            parts.iter().for_each(|part| store(&mut batched, part));
        }
        prop_assert_eq!(batched, one_by_one);
    }

    /// The halves continue each other: together they cover the same offsets and rows.
    #[test]
    fn halves_join_up(changes in changes()) {
        let whole = batch(changes);
        let parts = whole.clone().split();
        let mut at = whole.from.clone();
        for part in &parts {
            for (partition, from) in &part.from {
                prop_assert_eq!(at[partition], *from);
            }
            at.extend(part.to());
        }
        prop_assert_eq!(at, whole.to());
        if whole.entries.len() > 1 {
            let rows: usize = parts.iter().map(|part| part.rows().count()).sum();
            prop_assert_eq!(rows, whole.rows().count());
        }
    }
}
