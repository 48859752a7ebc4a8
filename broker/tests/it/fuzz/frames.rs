//! Mutated requests to a broker that is a process of its own, so that a panic is seen in what it says.

use super::mutate;
use crate::harness::{Batch, Process, Random, Wire, frame, free_port, rounds, seed, text, topic_name};
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, ApiVersionsRequest, CreateTopicsRequest, DescribeConfigsRequest, FetchRequest,
    FindCoordinatorRequest, GroupId, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest,
    ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest, ProduceRequest,
    SyncGroupRequest, TransactionalId,
    add_partitions_to_txn_request::AddPartitionsToTxnTopic,
    create_topics_request::{CreatableTopic, CreatableTopicConfig},
    describe_configs_request::DescribeConfigsResource,
    fetch_request::{FetchPartition, FetchTopic},
    join_group_request::JoinGroupRequestProtocol,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    metadata_request::MetadataRequestTopic,
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_fetch_request::OffsetFetchRequestTopic,
    produce_request::{PartitionProduceData, TopicProduceData},
};
use std::{fs, time::Duration};

const TOPIC: &str = "fuzz";
const FRAMES: u32 = 1500;
const ANSWERED: Duration = Duration::from_millis(5);
const STOPPED: Duration = Duration::from_secs(20);

#[test]
fn broker_survives() -> Result<()> {
    let (folder, port, seed) = (tempfile::tempdir()?, free_port()?, seed());
    eprintln!("MILLRACE_TEST_SEED={seed}");
    let (mut random, log) = (Random::new(seed), folder.path().join("stderr"));
    let process = Process::start(&folder.path().join("data"), port, "os", &log)?;
    let bootstrap = format!("127.0.0.1:{port}");
    let mut good = Wire::connect(&bootstrap)?;
    let frames = valid()?;
    for frame in &frames {
        Wire::connect(&bootstrap)?.write(frame)?;
    }
    for number in 0..rounds(1) * FRAMES {
        let mut wire = Wire::connect(&bootstrap)?;
        let frame = frames[random.below(frames.len())].clone();
        let frame = mutated(&frame, &mut random);
        // It may close at once, before all is sent.
        if wire.write(&frame).is_ok() {
            wire.arrived(ANSWERED)?;
        }
        if number.is_multiple_of(50) {
            good.ask(0, &ApiVersionsRequest::default()).context("another connection is not served")?;
        }
    }
    good.ask(1, &MetadataRequest::default()).context("it does not answer any more")?;
    process.terminate(STOPPED)?;
    let said = fs::read_to_string(&log)?;
    ensure!(!said.contains("panicked"), "{said}");
    Ok(())
}

/// Mostly the body only: with a right length it gets further.
fn mutated(frame: &[u8], random: &mut Random) -> Vec<u8> {
    if random.one_in(10) {
        return mutate(frame, random);
    }
    let body = mutate(&frame[4..], random);
    let length = i32::try_from(body.len()).expect("it is small");
    [&length.to_be_bytes()[..], &body].concat()
}

/// One frame of many APIs, in a version of each kind of encoding.
fn valid() -> Result<Vec<Bytes>> {
    let mut frames = records()?;
    frames.extend(groups()?);
    let topic = CreatableTopic::default()
        .with_name(topic_name(TOPIC))
        .with_num_partitions(1)
        .with_replication_factor(1);
    let config =
        CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("100000")));
    let create = CreateTopicsRequest::default()
        .with_topics(vec![topic.with_configs(vec![config])])
        .with_timeout_ms(100);
    let named = MetadataRequestTopic::default().with_name(Some(topic_name(TOPIC)));
    let metadata = MetadataRequest::default().with_topics(Some(vec![named]));
    let resource = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text(TOPIC));
    let configs = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let id = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(text("x"))))
        .with_transaction_timeout_ms(60_000);
    let partitions = AddPartitionsToTxnTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![0]);
    let add = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(TransactionalId(text("x")))
        .with_v3_and_below_topics(vec![partitions]);
    for version in [2, 5] {
        frames.push(frame(1, version, &create)?);
        frames.push(frame(1, version + 4, &metadata)?);
        frames.push(frame(1, version - 1, &configs)?);
        frames.push(frame(1, version - 1, &id)?);
        frames.push(frame(1, version.min(3), &add)?);
    }
    frames.push(frame(1, 3, &ApiVersionsRequest::default())?);
    frames.push(frame(1, 1, &FindCoordinatorRequest::default().with_key(text("x")))?);
    Ok(frames)
}

fn records() -> Result<Vec<Bytes>> {
    let batch = Batch::of(3, "v", millrace_broker::clock::now_ms()).encode()?;
    let data = PartitionProduceData::default().with_records(Some(batch));
    let data = TopicProduceData::default().with_name(topic_name(TOPIC)).with_partition_data(vec![data]);
    let produce = ProduceRequest::default().with_acks(-1).with_timeout_ms(100).with_topic_data(vec![data]);
    let partition = FetchPartition::default().with_partition_max_bytes(1000);
    let topic = FetchTopic::default().with_topic(topic_name(TOPIC)).with_partitions(vec![partition]);
    let fetch = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_bytes(1000)
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    let partition = ListOffsetsPartition::default().with_timestamp(-1);
    let topic = ListOffsetsTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![partition]);
    let offsets = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    Ok(vec![
        frame(1, 3, &produce)?,
        frame(1, 9, &produce)?,
        frame(1, 7, &fetch)?,
        frame(1, 12, &fetch)?,
        frame(1, 2, &offsets)?,
        frame(1, 6, &offsets)?,
    ])
}

fn groups() -> Result<Vec<Bytes>> {
    let group = || GroupId(text("g"));
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(&[0; 8]));
    let join = JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(6000)
        .with_rebalance_timeout_ms(6000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(3);
    let topic =
        OffsetCommitRequestTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![partition]);
    let commit = OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let topic =
        OffsetFetchRequestTopic::default().with_name(topic_name(TOPIC)).with_partition_indexes(vec![0]);
    let fetch = OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![topic]));
    let sync =
        SyncGroupRequest::default().with_group_id(group()).with_generation_id(1).with_member_id(text("m"));
    let leave = LeaveGroupRequest::default().with_group_id(group()).with_member_id(text("m"));
    Ok(vec![
        frame(1, 2, &join)?,
        frame(1, 6, &join)?,
        frame(1, 3, &commit)?,
        frame(1, 8, &commit)?,
        frame(1, 5, &fetch)?,
        frame(1, 6, &fetch)?,
        frame(1, 1, &sync)?,
        frame(1, 4, &sync)?,
        frame(1, 1, &leave)?,
    ])
}
