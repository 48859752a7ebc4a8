//! Which offsets the partitions of a topic have.

use super::History;
use crate::stage::{REQUEST_TIMEOUT, StageError};
use millrace_log::{NextOffset, partition_count};
use rdkafka::consumer::Consumer as _;

/// `low` is the first offset that retention has left, `end` one past the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub low: NextOffset,
    pub end: NextOffset,
}

impl History {
    /// By partition, from 0 on.
    pub(crate) fn bounds(&self, topic: &str) -> Result<Vec<Bounds>, StageError> {
        let consumer = self.consumer()?;
        let bounds = |partition| {
            let (low, end) = consumer
                .fetch_watermarks(topic, partition, REQUEST_TIMEOUT)
                .map_err(StageError::kafka("asking which offsets there are"))?;
            Ok(Bounds { low: NextOffset::exclusive(low), end: NextOffset::exclusive(end) })
        };
        (0..partition_count(&consumer, topic)?).map(bounds).collect()
    }
}
