use rdkafka::{
    error::KafkaResult,
    producer::{BaseProducer, Producer, ProducerContext},
};
use std::{
    thread,
    time::{Duration, Instant},
};

const STEP: Duration = Duration::from_micros(500);

/// Waits until the log has answered for all records that a producer was given. rdkafka's own way takes a tenth of a second
/// even where the answers are there after a millisecond: its poll takes all of its time, whatever comes.
pub fn flush<C: ProducerContext>(producer: &BaseProducer<C>, limit: Duration) -> KafkaResult<()> {
    let deadline = Instant::now() + limit;
    let mut left = producer.in_flight_count();
    while left > 0 && Instant::now() < deadline {
        producer.poll(Duration::ZERO);
        let before = std::mem::replace(&mut left, producer.in_flight_count());
        if left == before {
            thread::sleep(STEP);
        }
    }
    producer.flush(deadline.saturating_duration_since(Instant::now()))
}
