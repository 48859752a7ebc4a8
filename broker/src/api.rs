//! One file per API: what a request asks, answered from `topics` and `coordinator`.
//!
//! Here: what they share, and the way from a frame to an answer. A request is checked by `guard` before it is decoded.

mod call;
mod cluster;
mod configs;
mod counters;
mod create_topics;
mod dispatch;
mod fetch;
pub mod guard;
mod inspect;
pub mod layout;
mod list_offsets;
mod metadata;
mod produce;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
mod topics;
mod unsupported;
mod versions;

pub use counters::Counters;

use crate::{
    coordinator::Coordinator,
    log::PartitionLog,
    net::{Close, Peer, Pending, Service},
    topics::Topics,
};
use bytes::Bytes;
use call::Call;
use kafka_protocol::{ResponseError, protocol::StrBytes};
use std::sync::{Arc, atomic::AtomicUsize};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The only node, which leads and coordinates all.
pub const NODE: i32 = 0;
/// Nothing is replicated, so leadership never changes.
pub const LEADER_EPOCH: i32 = 0;
/// Kafka's answer where the operations that are authorized were not asked for.
const NO_OPERATIONS: i32 = i32::MIN;

/// What the APIs answer from.
pub struct Api {
    pub topics: Arc<Topics>,
    pub coordinator: Arc<Coordinator>,
    pub cluster_id: String,
    /// What clients are told to connect to; None: the address that they have reached.
    pub advertised: Option<(String, u16)>,
    /// Of topics that are made without saying how many.
    pub partitions_default: i32,
    pub data_folder: String,
    pub counters: Arc<Counters>,
    /// Bytes of records that may be held in answers, of all connections together.
    pub answers: Arc<Semaphore>,
    /// Which partition a fetch begins with, so that none starves.
    pub turn: AtomicUsize,
    /// Long polls end with it.
    pub stop: CancellationToken,
}

impl Service for Arc<Api> {
    fn begin(&self, peer: &Peer, frame: Bytes) -> Result<Pending, Close> {
        let call = Call::read(Arc::clone(self), *peer, frame).inspect_err(|_| self.counters.malformed())?;
        self.counters.request(call.key);
        dispatch::begin(call).inspect_err(|_| self.counters.malformed())
    }
}

impl Api {
    /// The log of a partition; UNKNOWN_TOPIC_OR_PARTITION.
    fn partition(&self, topic: &str, index: i32) -> Result<Arc<PartitionLog>, ResponseError> {
        let topic = self.topics.get(topic).ok_or(ResponseError::UnknownTopicOrPartition)?;
        nth(&topic.partitions, index).ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// Waits until clients may be told of what they were acknowledged.
    async fn settled(&self, topic: &str, index: i32) {
        if let Ok(log) = self.partition(topic, index) {
            log.settled().await;
        }
    }
}

fn nth(partitions: &[Arc<PartitionLog>], index: i32) -> Option<Arc<PartitionLog>> {
    partitions.get(usize::try_from(index).ok()?).cloned()
}

/// Whether the epoch that a client believes in is the partition's.
fn check_epoch(current: i32) -> Result<(), ResponseError> {
    match current {
        -1 | LEADER_EPOCH => Ok(()),
        later if later > LEADER_EPOCH => Err(ResponseError::UnknownLeaderEpoch),
        _ => Err(ResponseError::FencedLeaderEpoch),
    }
}

/// What Kafka allows as a topic's name.
fn valid_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(allowed)
}

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// Runs what waits for the disk without holding up other connections.
fn on_disk<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}
