//! Metadata and DescribeTopicPartitions: which topics there are, and where. Metadata makes topics that are only named.

use super::{Api, LEADER_EPOCH, NO_OPERATIONS, NODE, call::Call, on_disk, valid_name};
use crate::{clock, net::Peer, topics::Topic};
use kafka_protocol::{
    ResponseError,
    messages::{
        BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, MetadataRequest,
        MetadataResponse, TopicName,
        describe_topic_partitions_response::{
            Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
        },
        metadata_request::MetadataRequestTopic,
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
    },
    protocol::StrBytes,
};
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

pub async fn metadata(call: Call, request: MetadataRequest) -> MetadataResponse {
    let api = &call.api;
    let create = request.allow_auto_topic_creation || call.version < 4;
    let all = |topics: &[MetadataRequestTopic]| call.version == 0 && topics.is_empty();
    let topics = match request.topics.filter(|topics| !all(topics)) {
        None => api.topics.all().iter().map(|topic| describe(topic)).collect(),
        Some(topics) => topics.into_iter().map(|topic| find(api, topic, create)).collect(),
    };
    let (host, port) = api.address(&call.peer);
    let node = MetadataResponseBroker::default().with_node_id(BrokerId(NODE)).with_host(host).with_port(port);
    MetadataResponse::default()
        .with_brokers(vec![node])
        .with_cluster_id(Some(super::text(api.cluster_id.as_str())))
        .with_controller_id(BrokerId(NODE))
        .with_topics(topics)
        .with_cluster_authorized_operations(NO_OPERATIONS)
}

impl Api {
    /// What a client is told to connect to: so that any name or address by which it has come works.
    pub(super) fn address(&self, peer: &Peer) -> (StrBytes, i32) {
        let reached = || (peer.local.ip().to_canonical().to_string(), peer.local.port());
        let (host, port) = self.advertised.clone().unwrap_or_else(reached);
        (super::text(host), i32::from(port))
    }
}

fn find(api: &Api, asked: MetadataRequestTopic, create: bool) -> MetadataResponseTopic {
    let by_id = !asked.topic_id.is_nil();
    let found = match &asked.name {
        _ if by_id => api.topics.by_id(asked.topic_id).ok_or(ResponseError::UnknownTopicId),
        Some(name) => named(api, name, create),
        None => Err(ResponseError::InvalidRequest),
    };
    match found {
        Ok(topic) => describe(&topic),
        Err(error) => MetadataResponseTopic::default()
            .with_error_code(error.code())
            .with_name(if by_id { None } else { Some(asked.name.unwrap_or_default()) })
            .with_topic_id(asked.topic_id)
            .with_topic_authorized_operations(NO_OPERATIONS),
    }
}

fn named(api: &Api, name: &str, create: bool) -> Result<Arc<Topic>, ResponseError> {
    if let Some(topic) = api.topics.get(name) {
        return Ok(topic);
    }
    if !valid_name(name) {
        return Err(ResponseError::InvalidTopicException);
    }
    if !create {
        return Err(ResponseError::UnknownTopicOrPartition);
    }
    let make = || api.topics.create(name, api.partitions_default, BTreeMap::new(), false, clock::now_ms());
    match on_disk(make) {
        Ok(topic) => Ok(topic),
        // Another connection was quicker.
        Err(refused) if refused.error == ResponseError::TopicAlreadyExists => {
            api.topics.get(name).ok_or(ResponseError::UnknownTopicOrPartition)
        }
        Err(refused) => {
            tracing::warn!(topic = name, reason = %refused, "a topic can't be made");
            Err(refused.error)
        }
    }
}

fn describe(topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0..topic.partitions.len()).map(|index| {
        MetadataResponsePartition::default()
            .with_partition_index(i32::try_from(index).unwrap_or(i32::MAX))
            .with_leader_id(BrokerId(NODE))
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![BrokerId(NODE)])
            .with_isr_nodes(vec![BrokerId(NODE)])
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(super::text(topic.name.as_str()))))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(NO_OPERATIONS)
}

/// The most partitions in one answer, as in Kafka (max.request.partition.size.limit).
const PAGE_MAX: usize = 2000;

/// By name, from the cursor on, up to a limit; the cursor says where to go on.
pub async fn describe_partitions(
    call: Call,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let api = &call.api;
    let mut names: Vec<String> = request.topics.iter().map(|topic| topic.name.to_string()).collect();
    if names.is_empty() {
        names = api.topics.all().iter().map(|topic| topic.name.clone()).collect();
    }
    names.sort_unstable();
    names.dedup();
    let start = request.cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index));
    let (start, mut from) = start.unwrap_or_default();
    let mut left = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, PAGE_MAX);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.into_iter().filter(|name| *name >= start) {
        let first = if name == start { usize::try_from(std::mem::take(&mut from)).unwrap_or(0) } else { 0 };
        let topic_name = TopicName(super::text(name.as_str()));
        if left == 0 {
            let first = i32::try_from(first).unwrap_or(0);
            let cursor = Cursor::default().with_topic_name(topic_name).with_partition_index(first);
            return response.with_next_cursor(Some(cursor));
        }
        let (topic, next) = page(api, &name, first, &mut left);
        response.topics.push(topic.with_name(Some(topic_name.clone())));
        if let Some(next) = next {
            let cursor = Cursor::default().with_topic_name(topic_name).with_partition_index(next);
            return response.with_next_cursor(Some(cursor));
        }
    }
    response
}

/// What everybody may do with a topic, as bits of AclOperation; Kafka without access control says the same.
const ALL_OPERATIONS: i32 = 3576;

/// A topic's partitions from `first` on, and where the next page of it begins.
fn page(
    api: &Api,
    name: &str,
    first: usize,
    left: &mut usize,
) -> (DescribeTopicPartitionsResponseTopic, Option<i32>) {
    let answer =
        DescribeTopicPartitionsResponseTopic::default().with_topic_authorized_operations(ALL_OPERATIONS);
    let Some(topic) = api.topics.get(name) else {
        let error = match valid_name(name) {
            true => ResponseError::UnknownTopicOrPartition,
            false => ResponseError::InvalidTopicException,
        };
        return (answer.with_error_code(error.code()).with_topic_id(Uuid::nil()), None);
    };
    let end = topic.partitions.len().min(first.saturating_add(*left));
    let partitions: Vec<_> = (first..end).map(one_partition).collect();
    *left -= partitions.len();
    let next = (end < topic.partitions.len()).then(|| i32::try_from(end).unwrap_or(i32::MAX));
    (answer.with_topic_id(topic.id).with_partitions(partitions), next)
}

fn one_partition(index: usize) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition::default()
        .with_partition_index(i32::try_from(index).unwrap_or(i32::MAX))
        .with_leader_id(BrokerId(NODE))
        .with_leader_epoch(LEADER_EPOCH)
        .with_replica_nodes(vec![BrokerId(NODE)])
        .with_isr_nodes(vec![BrokerId(NODE)])
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
}
