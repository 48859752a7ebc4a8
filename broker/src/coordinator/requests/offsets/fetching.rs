//! OffsetFetch: of one group up to version 7, of many from version 8 on.

use super::super::text;
use crate::coordinator::{Coordinator, event::Partition, offsets::Offsets};
use kafka_protocol::{
    ResponseError,
    messages::{
        OffsetFetchRequest, OffsetFetchResponse, TopicName,
        offset_fetch_request::OffsetFetchRequestGroup,
        offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
            OffsetFetchResponseTopic, OffsetFetchResponseTopics,
        },
    },
};
use std::collections::BTreeMap;

/// (partition, offset, leader epoch, metadata, error)
type Found = (i32, i64, i32, String, i16);

impl Coordinator {
    pub async fn offset_fetch(&self, version: i16, request: OffsetFetchRequest) -> OffsetFetchResponse {
        if version >= 8 {
            let groups =
                request.groups.into_iter().map(|group| self.fetch_of_group(group, request.require_stable));
            return OffsetFetchResponse::default().with_groups(groups.collect());
        }
        let asked = request.topics.map(|topics| {
            let topics = topics.into_iter();
            topics.map(|topic| (topic.name, topic.partition_indexes)).collect()
        });
        let topics =
            self.fetch(&request.group_id, asked, request.require_stable).into_iter().map(|(name, found)| {
                let partitions =
                    found.into_iter().map(|(partition, offset, leader_epoch, metadata, error)| {
                        OffsetFetchResponsePartition::default()
                            .with_partition_index(partition)
                            .with_committed_offset(offset)
                            .with_committed_leader_epoch(leader_epoch)
                            .with_metadata(Some(text(metadata)))
                            .with_error_code(error)
                    });
                OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
            });
        OffsetFetchResponse::default().with_topics(topics.collect())
    }

    fn fetch_of_group(
        &self,
        group: OffsetFetchRequestGroup,
        require_stable: bool,
    ) -> OffsetFetchResponseGroup {
        let asked = group.topics.map(|topics| {
            let topics = topics.into_iter();
            topics.map(|topic| (topic.name, topic.partition_indexes)).collect()
        });
        let topics = self.fetch(&group.group_id, asked, require_stable).into_iter().map(|(name, found)| {
            let partitions = found.into_iter().map(|(partition, offset, leader_epoch, metadata, error)| {
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(partition)
                    .with_committed_offset(offset)
                    .with_committed_leader_epoch(leader_epoch)
                    .with_metadata(Some(text(metadata)))
                    .with_error_code(error)
            });
            OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
        });
        OffsetFetchResponseGroup::default().with_topics(topics.collect()).with_group_id(group.group_id)
    }

    fn fetch(
        &self,
        group: &str,
        asked: Option<Vec<(TopicName, Vec<i32>)>>,
        require_stable: bool,
    ) -> Vec<(TopicName, Vec<Found>)> {
        let state = self.shared.state();
        let offsets = &state.ledger.offsets;
        let asked = asked.unwrap_or_else(|| all(offsets, group));
        let of_topic = |(topic, partitions): (TopicName, Vec<i32>)| {
            let partitions = partitions.into_iter();
            let found =
                partitions.map(|index| find(offsets, group, (topic.to_string(), index), require_stable));
            let found = found.collect();
            (topic, found)
        };
        asked.into_iter().map(of_topic).collect()
    }
}

fn all(offsets: &Offsets, group: &str) -> Vec<(TopicName, Vec<i32>)> {
    let mut topics = BTreeMap::<String, Vec<i32>>::new();
    for (topic, partition) in offsets.partitions(group) {
        topics.entry(topic.clone()).or_default().push(*partition);
    }
    topics.into_iter().map(|(topic, partitions)| (text(topic).into(), partitions)).collect()
}

fn find(offsets: &Offsets, group: &str, partition: Partition, require_stable: bool) -> Found {
    if require_stable && offsets.is_unstable(group, &partition) {
        return (partition.1, -1, -1, String::new(), ResponseError::UnstableOffsetCommit.code());
    }
    match offsets.get(group, &partition) {
        Some(known) => (partition.1, known.offset, known.leader_epoch, known.metadata.clone(), 0),
        None => (partition.1, -1, -1, String::new(), 0),
    }
}
