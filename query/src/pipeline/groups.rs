//! What the processor's consumer groups have committed on the `metrics` topic.

use millrace_log::{LogSettings, NextOffset};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use std::{collections::BTreeMap, time::Duration};

const ASK_LIMIT: Duration = Duration::from_secs(2);

/// Partition to next offset; nothing of those that were never committed.
pub type Committed = BTreeMap<i32, i64>;

/// Asks for one group, as a stranger to it.
pub struct Group {
    consumer: BaseConsumer,
    topic: String,
}

impl Group {
    pub fn new(log: &LogSettings, role: &str) -> Result<Self, KafkaError> {
        Ok(Self { consumer: log.consumer(role).create()?, topic: log.topics().metrics })
    }

    /// Blocks for up to two seconds.
    pub fn committed(&self, partitions: i32) -> Result<Committed, KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topic, 0, partitions - 1);
        let list = self.consumer.committed_offsets(list, ASK_LIMIT)?;
        let elements = list.elements();
        let committed = elements.iter().filter_map(|element| match element.offset() {
            Offset::Offset(next) => Some((element.partition(), NextOffset::exclusive(next).get())),
            _ => None,
        });
        Ok(committed.collect())
    }
}
