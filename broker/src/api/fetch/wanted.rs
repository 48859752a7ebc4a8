//! The partitions that a fetch names, found, read and watched.

use crate::api::{Api, check_epoch, nth};
use crate::log::{Bounds, Chunk, Isolation, PartitionLog};
use kafka_protocol::{
    ResponseError,
    messages::{TopicName, fetch_request::FetchPartition, fetch_request::FetchTopic},
};
use std::{future::Future, future::poll_fn, pin::Pin, sync::Arc, task::Poll};
use tokio::sync::watch;
use uuid::Uuid;

/// One topic of the request, named as the request names it.
pub struct Topic {
    pub name: TopicName,
    pub id: Uuid,
    pub partitions: Vec<Wanted>,
}

pub struct Wanted {
    pub index: i32,
    pub offset: i64,
    pub max_bytes: usize,
    log: Result<Arc<PartitionLog>, ResponseError>,
}

impl Wanted {
    pub fn log(&self) -> Option<&PartitionLog> {
        self.log.as_deref().ok()
    }

    pub fn read(
        &self,
        max_bytes: usize,
        at_least_one: bool,
        isolation: Isolation,
    ) -> Result<Chunk, ResponseError> {
        let log = self.log.as_ref().map_err(|error| *error)?;
        log.read(self.offset, max_bytes, at_least_one, isolation).map_err(|refused| refused.error)
    }

    /// Whether a read would give something else than nothing.
    fn has_more(&self, bounds: &Bounds, isolation: Isolation) -> bool {
        let end = match isolation {
            Isolation::ReadUncommitted => bounds.high_watermark,
            Isolation::ReadCommitted => bounds.last_stable,
        };
        end > self.offset || bounds.log_start > self.offset
    }
}

/// Finds the logs: by name, and from version 13 on by id.
pub fn resolve(api: &Api, version: i16, topics: Vec<FetchTopic>) -> Vec<Topic> {
    topics.into_iter().map(|topic| resolve_topic(api, version, topic)).collect()
}

fn resolve_topic(api: &Api, version: i16, asked: FetchTopic) -> Topic {
    let by_id = version >= 13;
    let missing = if by_id { ResponseError::UnknownTopicId } else { ResponseError::UnknownTopicOrPartition };
    let topic = if by_id { api.topics.by_id(asked.topic_id) } else { api.topics.get(&asked.topic) };
    let find = |partition: &FetchPartition| {
        let topic = topic.as_ref().ok_or(missing)?;
        let log =
            nth(&topic.partitions, partition.partition).ok_or(ResponseError::UnknownTopicOrPartition)?;
        check_epoch(partition.current_leader_epoch).map(|()| log)
    };
    let partitions = asked.partitions.iter().map(|partition| Wanted {
        index: partition.partition,
        offset: partition.fetch_offset,
        max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
        log: find(partition),
    });
    Topic { partitions: partitions.collect(), name: asked.topic, id: asked.topic_id }
}

/// Waits until one of the partitions has more for its reader. `changes` belong to those of `wanted` that have a log.
pub async fn changed(wanted: &[&Wanted], changes: &mut [watch::Receiver<Bounds>], isolation: Isolation) {
    let logs = wanted.iter().filter(|one| one.log.is_ok());
    let mut waits: Vec<_> =
        logs.zip(changes).map(|(one, change)| Box::pin(more(one, change, isolation))).collect();
    poll_fn(|context| {
        let ready = waits.iter_mut().any(|wait| Pin::as_mut(wait).poll(context).is_ready());
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn more(one: &Wanted, change: &mut watch::Receiver<Bounds>, isolation: Isolation) {
    while change.changed().await.is_ok() {
        if one.has_more(&change.borrow_and_update(), isolation) {
            return;
        }
    }
    std::future::pending().await // its log is closed: nothing comes any more
}
