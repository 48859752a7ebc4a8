//! From the bytes of a record to what a listener gets.

use super::*;
use crate::{
    feed::{Format, Limits, Options, Subscription},
    recent,
    record::tests::payload,
};
use futures::FutureExt;
use millrace_schemas::ServiceId;
use prometheus::Registry;
use serde_json::json;
use uuid::Uuid;

const WORKSPACE: WorkspaceId = WorkspaceId(Uuid::from_u128(7));

struct World {
    meters: Meters,
    hub: Arc<Hub>,
    recent: Arc<Recent>,
    listener: Subscription,
}

fn world() -> World {
    let meters = Meters::register(&Registry::new()).expect("a new registry");
    let hub = Arc::new(Hub::new(Limits { events: 100, bytes: 1_000_000 }, meters.clone()));
    let recent = Arc::new(Recent::new(recent::Limits { records_per_workspace: 10, bytes: 1_000_000 }));
    let options = Options { format: Format::V2, metrics: true, aggregates: true, service: None };
    let listener = hub.subscribe(WORKSPACE, options, |_| vec![]);
    World { meters, hub, recent, listener }
}

fn incoming(offset: i64, payload: &[u8]) -> Incoming<'_> {
    Incoming { partition: 1, offset, log_time: EventTime::from_millis(offset), live: true, payload }
}

fn frames(world: &World) -> Vec<String> {
    let batch = world.listener.queue().take(100).now_or_never().unwrap_or_default();
    batch.events.iter().map(|event| event.frame(Format::V2).to_string()).collect()
}

fn row(changes: &[(&str, serde_json::Value)]) -> Vec<u8> {
    let mut row = json!({
        "version": 1, "kind": "row", "workspace_id": WORKSPACE, "service_id": ServiceId(Uuid::from_u128(9)),
        "window": "1m", "window_start": "2026-01-10T00:00:00Z", "query_count": 4, "success_count": 3, "failed_count": 1,
        "timeout_count": 0, "cancelled_count": 0, "error_rate": 0.25, "total_rows_affected": 5, "duration_count": 4,
        "sum_duration_ms": 10.0, "avg_duration_ms": 2.5, "min_duration_ms": 1.0, "max_duration_ms": 4.0,
        "p50_duration_ms": 2.0, "p95_duration_ms": 4.0, "p99_duration_ms": 4.0, "revision": 1, "is_final": false,
        "late_count": 0, "position": 12, "sketch": "AA=="
    });
    for (field, value) in changes {
        row[*field] = value.clone();
    }
    row.to_string().into_bytes()
}

#[test]
fn valid_records_are_told_and_all_with_ids_are_held() {
    let world = world();
    let sink = MetricsSink::new(Arc::clone(&world.recent), Arc::clone(&world.hub), &world.meters);
    let invalid = String::from_utf8(payload(7, 2)).expect("UTF-8").replace("1.5", "-1");
    sink.take(incoming(0, &payload(7, 1)));
    sink.take(incoming(1, invalid.as_bytes()));
    sink.take(incoming(2, b"not JSON"));
    sink.take(incoming(3, &payload(8, 1)));
    sink.take(Incoming { live: false, ..incoming(4, &payload(7, 3)) });
    let frames = frames(&world);
    assert_eq!(frames.len(), 1);
    assert!(
        frames[0].starts_with(r#"{"type":"metric","partition":1,"offset":0,"data":{"id":"#),
        "{}",
        frames[0]
    );
    let held = world.recent.newest(WORKSPACE).records;
    assert_eq!(held.iter().map(|record| record.json().is_some()).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(sink.unreadable.get(), 1);
}

#[test]
fn rows_are_told_and_deltas_only_counted() {
    let world = world();
    let sink = AggregatesSink::new(Arc::clone(&world.hub), &world.meters);
    sink.take(incoming(5, &row(&[])));
    sink.take(incoming(6, &row(&[("kind", json!("delta"))])));
    sink.take(incoming(7, &row(&[("version", json!(2))])));
    sink.take(incoming(8, &row(&[("query_count", json!("four"))])));
    sink.take(incoming(9, b"[]"));
    insta::assert_snapshot!(frames(&world).join("\n"), @r#"{"type":"aggregate","partition":1,"offset":5,"data":{"window":"1m","workspace_id":"00000000-0000-0000-0000-000000000007","service_id":"00000000-0000-0000-0000-000000000009","bucket":"2026-01-10T00:00:00Z","query_count":4,"avg_duration_ms":2.5,"min_duration_ms":1.0,"max_duration_ms":4.0,"p50_duration_ms":2.0,"p95_duration_ms":4.0,"p99_duration_ms":4.0,"sum_duration_ms":10.0,"duration_count":4,"success_count":3,"failed_count":1,"timeout_count":0,"cancelled_count":0,"error_rate":0.25,"total_rows_affected":5,"revision":1,"is_final":false,"late_count":0}}"#);
    assert_eq!((sink.rows.get(), sink.deltas.get(), sink.unreadable.get()), (2, 1, 3));
}
