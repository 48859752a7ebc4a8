//! On an embedded log, with the transaction of another producer open.

use super::*;
use crate::stage::embedded::{Embedded, PATIENCE};
use rdkafka::producer::Producer as _;

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
