//! Overflow and exact gaps.

use super::*;
use futures::FutureExt;
use millrace_schemas::ServiceId;
use uuid::Uuid;

const SERVICE: ServiceId = ServiceId(Uuid::nil());

fn event(kind: Kind, partition: i32, offset: i64) -> Arc<Event> {
    Arc::new(Event::new(kind, SERVICE, (partition, offset), "0123456789".into()))
}

fn take(queue: &Queue, most: usize) -> Option<Batch> {
    queue.take(most).now_or_never()
}

fn offsets(batch: &Batch) -> Vec<i64> {
    batch.events.iter().map(|event| event.offset).collect()
}

#[test]
fn gives_back_what_was_put_in_in_order() {
    let queue = Queue::new(Limits { events: 4, bytes: 1000 });
    assert!(take(&queue, 9).is_none());
    for offset in 0..3 {
        assert_eq!(queue.push(event(Kind::Metric, 0, offset)), 0);
    }
    let first = take(&queue, 2).expect("two events");
    assert_eq!((offsets(&first), first.gap), (vec![0, 1], None));
    assert_eq!(offsets(&take(&queue, 2).expect("one event")), [2]);
    assert!(take(&queue, 2).is_none());
    assert_eq!(queue.waiting().bytes, 0);
}

#[test]
fn a_gap_comes_before_what_is_left_and_names_what_is_not() {
    let queue = Queue::new(Limits { events: 4, bytes: 1000 });
    for (partition, offset) in [(0, 10), (1, 70), (0, 13), (0, 14)] {
        queue.push(event(Kind::Metric, partition, offset));
    }
    assert_eq!(queue.push(event(Kind::Aggregate, 0, 5)), 1);
    assert_eq!(queue.push(event(Kind::Aggregate, 0, 6)), 1);
    assert_eq!(queue.push(event(Kind::Aggregate, 0, 7)), 1);
    let batch = take(&queue, 9).expect("four events");
    assert_eq!(offsets(&batch), [14, 5, 6, 7]);
    insta::assert_snapshot!(batch.gap.expect("a gap").frame(), @r#"{"type":"gap","dropped":3,"from":{"metric":{"0":10,"1":70}},"to":{"metric":{"0":13,"1":70}}}"#);
    queue.push(event(Kind::Metric, 0, 99));
    assert_eq!(take(&queue, 9).expect("one event").gap, None, "a gap is told once");
}

#[test]
fn every_event_is_taken_or_in_a_gap() {
    let queue = Queue::new(Limits { events: 16, bytes: 10_000 });
    let (mut taken, mut dropped, mut answered) = (0, 0, 0);
    for offset in 0..10_000 {
        answered += queue.push(event(Kind::Metric, 0, offset));
        if offset % 97 == 0 {
            let batch = take(&queue, 5).expect("some events");
            taken += u64::try_from(batch.events.len()).expect("few");
            dropped += batch.gap.map_or(0, |gap| gap.dropped);
        }
        assert!(queue.waiting().events.len() <= 16);
    }
    let rest = take(&queue, 100).expect("the rest");
    taken += u64::try_from(rest.events.len()).expect("few");
    dropped += rest.gap.map_or(0, |gap| gap.dropped);
    assert_eq!((taken + dropped, dropped), (10_000, answered));
}

#[test]
fn bytes_are_bounded_too() {
    let queue = Queue::new(Limits { events: 1000, bytes: 100 });
    for offset in 0..50 {
        queue.push(event(Kind::Metric, 0, offset));
        assert!(queue.waiting().bytes <= 100);
    }
    let huge = Arc::new(Event::new(Kind::Metric, SERVICE, (0, 50), "x".repeat(1000).into()));
    queue.push(huge);
    assert_eq!(offsets(&take(&queue, 9).expect("the huge one")), [50], "one event always fits");
}
