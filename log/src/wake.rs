//! Going on with paused partitions, without librdkafka's second of silence.

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer, ConsumerContext},
    error::KafkaResult,
};
use std::time::Duration;

/// A broker answers sooner, unless it hangs; a request that times out costs the connection.
const WAKE_LIMIT: Duration = Duration::from_secs(3);

/// Makes the threads that fetch look at partitions that were resumed. librdkafka (2.12) tells them nothing of it, and where
/// they have nothing else to fetch they look again only after a second; a request to the same brokers wakes them. It is
/// answered after a fetch that is under way (`fetch.wait.max.ms`).
pub fn wake<X: ConsumerContext, C: Consumer<X>>(consumer: &C, partitions: &TopicPartitionList) {
    let woken = || -> KafkaResult<()> {
        let mut ends = partitions.clone();
        ends.set_all_offsets(Offset::End)?;
        consumer.offsets_for_times(ends, WAKE_LIMIT).map(drop)
    };
    if partitions.count() > 0
        && let Err(error) = woken()
    {
        tracing::debug!(%error, "partitions that were resumed may take a second to come");
    }
}
