//! On an embedded log, with the transaction of another producer open.

use super::*;
use crate::stage::{
    embedded::{Embedded, PATIENCE, send},
    settled::{Stretch, dead_letters},
};
use millrace_schemas::dead_letter::{SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC};
use rdkafka::{
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _},
};

#[test]
fn an_offset_in_an_open_transaction_is_told_when_it_is_committed() {
    let site = Embedded::start();
    let topic = site.log.topics().metrics;
    let positions = Positions::connect(&site.log, "combine", &topic).expect("connected");
    let producer = site.transaction();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&topic, 0, Offset::Offset(7)).expect("an offset");
    let group = positions.consumer.group_metadata().expect("it names the group");
    producer.send_offsets_to_transaction(&offsets, &group, PATIENCE).expect("sent");
    let error = positions.committed(0).expect_err("nobody knows");
    assert!(matches!(error, StageError::Unsettled { partition: 0, .. }), "{error}");
    assert_eq!(positions.committed(1).expect("none"), (NextOffset::START, String::new()));
    producer.commit_transaction(PATIENCE).expect("committed");
    assert_eq!(positions.committed(0).expect("told").0, NextOffset::exclusive(7));
}

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
    let read = |patience| {
        let stretch = Stretch { partition: 0, from: NextOffset::START, to: NextOffset::exclusive(1) };
        dead_letters(&site.log, stretch, patience, &CancellationToken::new())
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
    let committed = site.log.consumer("rebuild").create_with_context(Quiet).expect("a consumer");
    let ends = Ends::connect(&site.log, PATIENCE).expect("connected");
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let error = ends.settled(&committed, (&topic, 0), &shutdown).expect_err("it is open");
    assert!(matches!(error, StageError::Stopped), "{error}");
}
