//! The one place where our offset becomes the client's.

use crate::NextOffset;
use rdkafka::Offset;

impl NextOffset {
    /// For a partition list that is committed or assigned.
    pub fn to_kafka(self) -> Offset {
        Offset::Offset(self.get())
    }
}
