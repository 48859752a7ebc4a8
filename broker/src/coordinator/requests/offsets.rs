//! OffsetCommit, TxnOffsetCommit, OffsetFetch, OffsetDelete.

mod committing;
mod fetching;

use super::code;
use crate::coordinator::{
    Coordinator, Shared,
    event::{Event, Partition},
};
use kafka_protocol::{
    ResponseError,
    messages::{
        OffsetDeleteRequest, OffsetDeleteResponse,
        offset_delete_request::OffsetDeleteRequestTopic,
        offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic},
    },
};

impl Coordinator {
    pub async fn offset_delete(&self, _version: i16, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
        match self.delete_offsets(&request.group_id, request.topics).await {
            Ok(topics) => OffsetDeleteResponse::default().with_topics(topics),
            Err(error) => OffsetDeleteResponse::default().with_error_code(error.code()),
        }
    }

    async fn delete_offsets(
        &self,
        id: &str,
        topics: Vec<OffsetDeleteRequestTopic>,
    ) -> Result<Vec<OffsetDeleteResponseTopic>, ResponseError> {
        if id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        let (answers, written) = {
            let mut state = self.shared.state();
            let group = state.groups.get(id).ok_or(ResponseError::GroupIdNotFound)?;
            let in_use = group.topics_in_use()?;
            let check = |topic: &str, partition: i32| match in_use.contains(topic) {
                _ if !self.shared.exists(topic, partition) => Err(ResponseError::UnknownTopicOrPartition),
                true => Err(ResponseError::GroupSubscribedToTopic),
                false => Ok(()),
            };
            let mut partitions = Vec::new();
            let answers =
                topics.into_iter().map(|topic| delete_of_topic(topic, check, &mut partitions)).collect();
            if !partitions.is_empty() {
                state.record(Event::OffsetsDeleted { group: id.to_owned(), partitions })?;
            }
            (answers, state.ledger.written())
        };
        written.wait().await.map(|()| answers)
    }
}

fn delete_of_topic(
    topic: OffsetDeleteRequestTopic,
    check: impl Fn(&str, i32) -> Result<(), ResponseError>,
    to_delete: &mut Vec<Partition>,
) -> OffsetDeleteResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| {
        let index = partition.partition_index;
        let checked = check(&topic.name, index);
        if checked.is_ok() {
            to_delete.push((topic.name.to_string(), index));
        }
        OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(code(&checked))
    });
    let partitions = partitions.collect();
    OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions)
}

impl Shared {
    pub(super) fn exists(&self, topic: &str, partition: i32) -> bool {
        let index = usize::try_from(partition).ok();
        let topic = self.topics.get(topic);
        topic.is_some_and(|topic| index.is_some_and(|index| index < topic.partitions.len()))
    }
}
