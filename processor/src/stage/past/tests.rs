//! On an embedded log, with the transaction of another producer open.

use super::*;
use crate::stage::{
    embedded::{Embedded, PARTITIONS, PATIENCE, send},
    positions::IN_THE_END,
    settled::{Stretch, dead_letters},
};
use millrace_schemas::dead_letter::{SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC};
use rdkafka::{
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _},
};

#[test]
fn a_dead_letter_in_an_open_transaction_is_not_passed_over() {
    let site = Embedded::start();
    let topics = site.log.topics();
    site.produce_to_each(b"garbage");
    let producer = site.transaction();
    let headers = [(SOURCE_TOPIC, topics.metrics.as_str()), (SOURCE_PARTITION, "0"), (SOURCE_OFFSET, "0")];
    let headers = headers.into_iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    });
    let letter = BaseRecord::<[u8], [u8]>::to(&topics.dead_letters).partition(0).payload(b"garbage");
    send(&producer, letter.headers(headers));
    let (mut past, shutdown) = (Past::connect(&site.log).expect("connected"), CancellationToken::new());
    let mut read = |limit| {
        let stretch = Stretch { partition: 0, from: NextOffset::START, to: NextOffset::exclusive(1) };
        dead_letters(&mut past, &topics, stretch, Patience { limit, shutdown: &shutdown })
    };
    let error = read(Duration::ZERO).expect_err("it may be committed");
    assert!(matches!(error, StageError::Unsettled { .. }), "{error}");
    producer.commit_transaction(PATIENCE).expect("committed");
    assert_eq!(read(IN_THE_END).expect("read"), [0].into());
}

#[test]
fn a_shutdown_does_not_wait_for_a_transaction() {
    let site = Embedded::start();
    let topic = site.log.topics().aggregates;
    let producer = site.transaction();
    send(&producer, BaseRecord::<[u8], [u8]>::to(&topic).partition(0).payload(b"a row"));
    let past = Past::connect(&site.log).expect("connected");
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let patience = Patience { limit: PATIENCE, shutdown: &shutdown };
    let error = past.settled_end(&topic, 0, patience).expect_err("it is open");
    assert!(past.settled_end(&topic, 1, patience).is_ok(), "of another partition it says nothing");
    assert!(matches!(error, StageError::Stopped), "{error}");
}

#[test]
fn one_after_the_other_with_the_same_clients() {
    let site = Embedded::start();
    let topic = site.log.topics().metrics;
    for payload in ["a", "b", "c", "d"] {
        site.produce_to_each(payload.as_bytes());
    }
    let (mut past, shutdown) = (Past::connect(&site.log).expect("connected"), CancellationToken::new());
    let mut read = |partition, from, to| {
        let (from, to) = (NextOffset::exclusive(from), NextOffset::exclusive(to));
        let mut seen = Vec::new();
        past.scan::<StageError>(Range { topic: &topic, partition, from, to }, &shutdown, |message| {
            seen.push((message.partition(), message.offset()));
            Ok(())
        })
        .expect("read");
        seen
    };
    for partition in (0..PARTITIONS).chain(0..PARTITIONS) {
        assert_eq!(
            read(partition, 1, 3),
            [(partition, 1), (partition, 2)],
            "what comes after it is not read"
        );
        assert_eq!(read(partition, 0, 4).len(), 4, "to the end");
        assert_eq!(read(partition, 0, 1), [(partition, 0)], "back again");
    }
    let ends = past.ends(&topic).expect("told");
    assert_eq!(ends, (0..PARTITIONS).map(|partition| (partition, NextOffset::exclusive(4))).collect());
    assert!(past.lows(&topic).expect("told").values().all(|low| *low == NextOffset::START));
    assert!(past.since(&topic, i64::MAX / 2).expect("told").is_empty(), "nothing is as new");
    assert_eq!(past.since(&topic, 0).expect("told"), past.lows(&topic).expect("told"));
}
