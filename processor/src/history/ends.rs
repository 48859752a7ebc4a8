//! Which offsets the partitions of a topic have.

use super::History;
use crate::stage::{REQUEST_TIMEOUT, StageError};
use millrace_log::{NextOffset, partition_count};
use millrace_schemas::EventTime;
use rdkafka::{Offset, TopicPartitionList, consumer::Consumer as _};

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

    /// By partition, the first record that came at `time` or later; the end where there is none.
    pub(crate) fn offsets_at(&self, topic: &str, time: EventTime) -> Result<Vec<NextOffset>, StageError> {
        let doing = "asking for offsets by time";
        let (consumer, bounds) = (self.consumer()?, self.bounds(topic)?);
        let mut times = TopicPartitionList::new();
        for (partition, _) in (0..).zip(&bounds) {
            times
                .add_partition_offset(topic, partition, Offset::Offset(time.as_millis().max(0)))
                .map_err(StageError::kafka(doing))?;
        }
        let found = consumer.offsets_for_times(times, REQUEST_TIMEOUT).map_err(StageError::kafka(doing))?;
        let offset = |(partition, bounds): (i32, &Bounds)| match found
            .find_partition(topic, partition)
            .map(|element| element.offset())
        {
            Some(Offset::Offset(offset)) => NextOffset::exclusive(offset),
            _ => bounds.end,
        };
        Ok((0..).zip(&bounds).map(offset).collect())
    }
}
