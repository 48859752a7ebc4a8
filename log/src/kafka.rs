//! The offset as librdkafka has it. Apart, so that what only reads and writes offsets needs no Kafka client.

use crate::NextOffset;
use rdkafka::Offset;

impl NextOffset {
    /// For a partition list that is committed or assigned.
    pub fn to_kafka(self) -> Offset {
        Offset::Offset(self.get())
    }
}
