//! Being where one wants to be in a partition.

use crate::NextOffset;
use rdkafka::{
    consumer::{Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// A partition that was just assigned may not be there yet.
const LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// Reads a partition from `next` on. librdkafka (2.12) assigns in the background, and can lose an assignment if the partition
/// is paused or resumed meanwhile: it never reads it then, and says nothing (its issues 2190 and 5591). Once this has come
/// back it is there; an error says that it is not, and then only a new client helps: one that was put out of its group says so
/// at once.
pub fn seek<X: ConsumerContext, C: Consumer<X>>(
    consumer: &C,
    topic: &str,
    partition: i32,
    next: NextOffset,
) -> KafkaResult<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let sought = consumer.seek(topic, partition, next.to_kafka(), LIMIT);
        if sought.is_ok() {
            return sought;
        }
        if let Some((code, _)) = consumer.client().fatal_error() {
            return Err(KafkaError::MessageConsumptionFatal(code));
        }
        match sought {
            Err(KafkaError::Seek(_)) if Instant::now() < deadline => thread::sleep(PAUSE),
            _ => return sought,
        }
    }
}
