use super::*;
use crate::{admission::Identity, record::Measured, sketch::PerMille};
use millrace_schemas::{EventTime, RecordId, ServiceId, Status, WorkspaceId};
use proptest::prelude::*;
use std::collections::BTreeMap;
use uuid::Uuid;

/// (seconds, workspace, service, outcome, rows, duration)
type Event = (i64, u128, u128, Status, Option<i64>, Option<f64>);

fn event() -> impl Strategy<Value = Event> {
    let status = prop::sample::select(
        &[Status::Success, Status::Failed, Status::Timeout, Status::Cancelled, Status::Running][..],
    );
    let duration = prop::option::of((0_u32..100_000).prop_map(|us| f64::from(us) / 1000.0));
    (0_i64..15, 0_u128..2, 0_u128..3, status, prop::option::of(0_i64..9), duration)
}

fn raw(events: &[Event]) -> Raw {
    let mut raw = Raw::default();
    for (second, workspace, service, status, rows_affected, duration_ms) in events {
        let identity = Identity {
            workspace: WorkspaceId(Uuid::from_u128(*workspace)),
            id: RecordId(Uuid::nil()),
            completed_at: EventTime(second * 1_000_000),
            running: *status == Status::Running,
        };
        let service = ServiceId(Uuid::from_u128(*service));
        raw.push(
            &identity,
            &Measured { service, status: *status, duration_ms: *duration_ms, rows_affected: *rows_affected },
        );
    }
    raw
}

fn by_key(results: &RecordBatch) -> BTreeMap<(EventTime, Key), Totals> {
    totals(results).expect("readable").into_iter().map(|row| ((row.bucket, row.key), row)).collect()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// (records, timeouts, rows, durations)
type Expected = (i64, i64, Option<i64>, Vec<f64>);

/// The same counts, by hand.
fn brute_force(events: &[Event]) -> BTreeMap<(i64, u128, u128), Expected> {
    let mut expected = BTreeMap::<_, Expected>::new();
    for (second, workspace, service, status, rows, duration) in events {
        if *status == Status::Running {
            continue;
        }
        let entry = expected.entry((second / 5 * 5_000_000, *workspace, *service)).or_default();
        entry.0 += 1;
        entry.1 += i64::from(*status == Status::Timeout);
        entry.2 = entry.2.or(rows.map(|_| 0)).map(|sum| sum + rows.unwrap_or(0));
        entry.3.extend(duration);
    }
    expected
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_split_and_merge_gives_the_brute_force_totals(
        events in prop::collection::vec(event(), 1..80), cuts in prop::collection::vec(0_usize..80, 3),
    ) {
        let plan = block_on(Plan::declare()).expect("plans");
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(events.len())).chain([0, events.len()]).collect();
        cuts.sort_unstable();
        let states: Vec<_> = cuts
            .windows(2)
            .map(|cut| plan.partial(&mut raw(&events[cut[0]..cut[1]])).expect("partial"))
            .collect();
        let merged = block_on(plan.merge(&states[1..])).expect("merge");
        let results = block_on(plan.finish(&[states[0].clone(), merged])).expect("finish");
        let found = by_key(&results);
        let expected = brute_force(&events);
        prop_assert_eq!(found.len(), expected.len());
        for (((bucket, key), row), (id, (count, timeouts, rows, mut durations))) in found.into_iter().zip(expected) {
            prop_assert_eq!((bucket.0, key.workspace.0.as_u128(), key.service.0.as_u128()), id);
            prop_assert_eq!((row.query_count, row.timeout_count, row.total_rows_affected), (count, timeouts, rows));
            durations.sort_by(f64::total_cmp);
            prop_assert_eq!((row.min_duration_ms, row.max_duration_ms), (durations.first().copied(), durations.last().copied()));
            prop_assert_eq!(row.duration_count, i64::try_from(durations.len()).expect("small"));
            prop_assert!((row.sum_duration_ms.unwrap_or(0.0) - durations.iter().sum::<f64>()).abs() < 1e-6);
            if let Some(median) = row.sketch.quantile(PerMille(500)) {
                let exact = durations[durations.len().div_ceil(2) - 1];
                prop_assert!((median - exact).abs() <= 0.01 * exact);
            }
        }
    }
}

/// The layout of partial states is a storage format: if DataFusion changes it, old states must be refused, not misread.
#[test]
fn the_layout_of_states_is_the_known_one() {
    let plan = block_on(Plan::declare()).expect("plans");
    let types: Vec<_> =
        plan.state_schema().fields().iter().map(|field| field.data_type().to_string()).collect();
    let expected = [
        "Int64",
        "FixedSizeBinary(16)",
        "FixedSizeBinary(16)",
        "Int64",
        "Int64",
        "Int64",
        "Int64",
        "Int64",
        "Int64",
        "Int64",
        "Float64",
        "Float64",
        "Float64",
        "Binary",
    ];
    assert_eq!(types, expected);
    assert!(plan.check_layout(plan.state_schema()).is_ok());
    assert!(matches!(plan.check_layout(&Schema::empty()), Err(PlanError::Layout { .. })));
}
