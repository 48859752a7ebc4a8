//! Where the stages put their entries of the ledger: the same partition for all of one partition that they read.

use super::{StageError, client::Client};
use millrace_log::partition_count;
use rdkafka::producer::BaseRecord;

pub(super) struct Ledger {
    topic: String,
    partitions: i32,
}

impl Ledger {
    pub(super) fn new(client: &Client, topic: String) -> Result<Self, StageError> {
        Ok(Self { partitions: partition_count(&client.consumer, &topic)?, topic })
    }

    /// An entry of this partition of the stage's input.
    pub(super) fn record<'a>(&'a self, partition: i32, entry: &'a [u8]) -> BaseRecord<'a, [u8], [u8]> {
        BaseRecord::to(&self.topic).partition(told_in(partition, self.partitions)).payload(entry)
    }
}

/// The partition of the ledger that has all entries of one that is read.
pub(super) fn told_in(read: i32, partitions: i32) -> i32 {
    read % partitions
}
