//! DescribeLogDirs and DescribeProducers: what lies on the disk, and who writes.

use super::{Api, call::Call, text};
use crate::{log::ActiveProducer, topics::Topic};
use kafka_protocol::messages::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeProducersRequest, DescribeProducersResponse,
    ProducerId, TopicName,
    describe_log_dirs_request::DescribableLogDirTopic,
    describe_log_dirs_response::{DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic},
    describe_producers_response::{PartitionResponse, ProducerState, TopicResponse},
};
use std::{collections::BTreeSet, sync::Arc};

/// The sizes of all partitions, or of those that are named and exist.
pub async fn log_dirs(call: Call, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let topics = match request.topics {
        None => call.api.topics.all().iter().map(|topic| sizes(topic, |_| true)).collect(),
        Some(asked) => asked.iter().filter_map(|asked| named_sizes(&call.api, asked)).collect(),
    };
    let result = DescribeLogDirsResult::default()
        .with_log_dir(text(call.api.data_folder.as_str()))
        .with_topics(topics)
        .with_total_bytes(-1)
        .with_usable_bytes(-1);
    DescribeLogDirsResponse::default().with_results(vec![result])
}

fn named_sizes(api: &Api, asked: &DescribableLogDirTopic) -> Option<DescribeLogDirsTopic> {
    let topic: Arc<Topic> = api.topics.get(&asked.topic)?;
    let indexes: BTreeSet<i32> = asked.partitions.iter().copied().collect();
    Some(sizes(&topic, |index| indexes.contains(&index)))
}

fn sizes(topic: &Topic, asked: impl Fn(i32) -> bool) -> DescribeLogDirsTopic {
    let partitions = topic.partitions.iter().zip(0..).filter(|(_, index)| asked(*index));
    let partitions = partitions.map(|(log, index)| {
        let size = i64::try_from(log.size_bytes()).unwrap_or(i64::MAX);
        DescribeLogDirsPartition::default().with_partition_index(index).with_partition_size(size)
    });
    let partitions = partitions.collect();
    DescribeLogDirsTopic::default()
        .with_name(TopicName(text(topic.name.as_str())))
        .with_partitions(partitions)
}

pub async fn producers(call: Call, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let answer = PartitionResponse::default().with_partition_index(*index).with_error_message(None);
            match call.api.partition(&topic.name, *index) {
                Ok(log) => answer.with_active_producers(log.producers().into_iter().map(state).collect()),
                Err(error) => answer.with_error_code(error.code()),
            }
        });
        let partitions = partitions.collect();
        TopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn state(producer: ActiveProducer) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(producer.producer_id))
        .with_producer_epoch(i32::from(producer.epoch))
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp)
        .with_coordinator_epoch(-1)
        .with_current_txn_start_offset(producer.transaction_start.unwrap_or(-1))
}
