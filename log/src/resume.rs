//! Resuming paused partitions, without librdkafka's second of silence.

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer, ConsumerContext},
    error::KafkaResult,
};
use std::time::Duration;

/// The brokers answer sooner, or nothing comes of them anyway.
const WAKE_LIMIT: Duration = Duration::from_millis(100);

/// Goes on with partitions that were paused, at once: librdkafka (2.12) tells the threads that fetch nothing of it, and
/// where they have nothing else to fetch they look again only after a second. A request to the same brokers wakes them.
pub fn resume<X: ConsumerContext, C: Consumer<X>>(
    consumer: &C,
    partitions: &TopicPartitionList,
) -> KafkaResult<()> {
    consumer.resume(partitions)?;
    if partitions.count() == 0 {
        return Ok(());
    }
    let mut ends = partitions.clone();
    ends.set_all_offsets(Offset::End)?;
    if let Err(error) = consumer.offsets_for_times(ends, WAKE_LIMIT) {
        tracing::debug!(%error, "partitions that were resumed may take a second to come");
    }
    Ok(())
}
