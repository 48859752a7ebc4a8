//! Ending a consumer that its group may have said something to.

use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use std::time::{Duration, Instant};

/// For what is on its way.
const STEP: Duration = Duration::from_millis(10);
/// Records are passed over meanwhile.
const LIMIT: Duration = Duration::from_millis(500);

/// Has the consumer's context answer what the group has said so far: to be called just before the consumer is dropped.
/// librdkafka (2.12) asks for the answer to a second change of the partitions when it closes; if the one before is only then
/// answered, it waits for ever.
pub fn hear_out<C: ConsumerContext>(consumer: &BaseConsumer<C>) {
    let deadline = Instant::now() + LIMIT;
    let mut is_quiet = false;
    while !is_quiet && Instant::now() < deadline {
        let began = Instant::now();
        // After a change of the partitions it comes back empty, and sooner.
        is_quiet = consumer.poll(STEP).is_none() && began.elapsed() >= STEP;
    }
}
