//! Who gets which event.

use super::*;
use futures::FutureExt;
use millrace_schemas::ServiceId;
use prometheus::Registry;
use uuid::Uuid;

const ALL: Options = Options { format: Format::V2, metrics: true, aggregates: true, service: None };

fn hub() -> Arc<Hub> {
    let meters = Meters::register(&Registry::new()).expect("a new registry");
    Arc::new(Hub::new(Limits { events: 8, bytes: 10_000 }, meters))
}

fn workspace(number: u128) -> WorkspaceId {
    WorkspaceId(Uuid::from_u128(number))
}

fn metric(partition: i32, offset: i64) -> Option<Event> {
    Some(Event::new(Kind::Metric, ServiceId(Uuid::nil()), (partition, offset), "{}".into()))
}

fn received(subscription: &Subscription) -> Vec<(i32, i64)> {
    let batch = subscription.queue().take(100).now_or_never().unwrap_or_default();
    batch.events.iter().map(|event| (event.partition, event.offset)).collect()
}

#[test]
fn only_the_workspaces_listeners_get_it() {
    let hub = hub();
    let (first, second) =
        (hub.subscribe(workspace(1), ALL, |_| vec![]), hub.subscribe(workspace(1), ALL, |_| vec![]));
    let other = hub.subscribe(workspace(2), ALL, |_| vec![]);
    hub.publish(workspace(1), || metric(0, 7));
    hub.publish(workspace(1), || None);
    assert_eq!((received(&first), received(&second), received(&other)), (vec![(0, 7)], vec![(0, 7)], vec![]));
    assert_eq!(hub.meters.live_events.get(), 2);
}

#[test]
fn what_came_before_the_listener_is_not_sent() {
    let hub = hub();
    let floors = |kind| if kind == Kind::Metric { vec![10, 20] } else { vec![] };
    let listener = hub.subscribe(workspace(1), ALL, floors);
    for (partition, offset) in [(0, 9), (0, 10), (1, 19), (1, 21), (2, 0)] {
        hub.publish(workspace(1), || metric(partition, offset));
    }
    assert_eq!(received(&listener), [(0, 10), (1, 21), (2, 0)]);
}

#[test]
fn nothing_is_made_where_nobody_listens() {
    let hub = hub();
    drop(hub.subscribe(workspace(1), ALL, |_| vec![]));
    hub.publish(workspace(1), || panic!("nobody listens any more"));
    assert!(hub.read().is_empty());
}

#[test]
fn dropped_events_are_counted() {
    let hub = hub();
    let listener = hub.subscribe(workspace(1), ALL, |_| vec![]);
    for offset in 0..9 {
        hub.publish(workspace(1), || metric(0, offset));
    }
    assert_eq!(hub.meters.live_dropped.get(), 2);
    assert_eq!(received(&listener).len(), 7);
}
