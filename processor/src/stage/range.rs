//! Reads a finished stretch of one partition again, to rebuild what was in memory.

use super::{REQUEST_TIMEOUT, StageError, client::tell};
use millrace_log::{LogSettings, NextOffset};
use rdkafka::{
    ClientContext, Message, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    message::BorrowedMessage,
};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The end of the partition is how a read ends, not an error to log.
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        tell(&error, reason);
    }
}

impl ConsumerContext for Quiet {}

/// How soon a shutdown is seen.
const STEP: Duration = Duration::from_millis(100);

/// What comes next, if the brokers say anything in time.
pub(super) fn poll<'c>(
    consumer: &'c BaseConsumer<Quiet>,
    shutdown: &CancellationToken,
) -> Result<Option<KafkaResult<BorrowedMessage<'c>>>, StageError> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    loop {
        // A part must not be taken for the whole.
        if shutdown.is_cancelled() {
            return Err(StageError::Stopped);
        }
        let polled = consumer.poll(STEP);
        if polled.is_some() || Instant::now() >= deadline {
            return Ok(polled);
        }
    }
}

/// A stretch of one partition: `from` inclusive, `to` exclusive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub from: NextOffset,
    pub to: NextOffset,
}

/// [`scan`], and a word in the log about it.
pub(super) fn read(
    log: &LogSettings,
    range: Range<'_>,
    shutdown: &CancellationToken,
    take: impl FnMut(&BorrowedMessage<'_>) -> Result<(), StageError>,
) -> Result<(), StageError> {
    if range.from >= range.to {
        return Ok(());
    }
    let started = Instant::now();
    let read = scan(log, range, shutdown, take)?;
    let Range { topic, partition, from, to } = range;
    tracing::info!(topic, partition, %from, %to, records = read, took_ms = started.elapsed().as_millis(), "rebuilt from the log");
    Ok(())
}

/// Calls `take` for every committed record of the range, in order; how many. What retention has removed is skipped.
pub(crate) fn scan<E: From<StageError>>(
    log: &LogSettings,
    range: Range<'_>,
    shutdown: &CancellationToken,
    mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<(), E>,
) -> Result<u64, E> {
    let mut read = 0_u64;
    if range.from >= range.to {
        return Ok(read);
    }
    let consumer: BaseConsumer<Quiet> = log
        .consumer("rebuild")
        .set("enable.partition.eof", "true")
        .create_with_context(Quiet)
        .map_err(StageError::kafka("making a consumer"))?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(range.topic, range.partition, range.from.to_kafka())
        .map_err(StageError::kafka("naming a partition"))?;
    consumer.assign(&list).map_err(StageError::kafka("assigning a partition"))?;
    loop {
        match poll(&consumer, shutdown)? {
            Some(Ok(message)) if message.offset() < range.to.get() => {
                take(&message)?;
                read += 1;
                if NextOffset::after(message.offset()) >= range.to {
                    break;
                }
            }
            Some(Ok(_)) => break,
            Some(Err(KafkaError::PartitionEOF(_))) => {
                require_end(&consumer, range)?;
                break;
            }
            Some(Err(source)) => return Err(trouble(source).into()),
            None => return Err(trouble(KafkaError::NoMessageReceived).into()),
        }
    }
    Ok(read)
}

/// A broker that has just become the leader can know of less than there is: a part must not be taken for the whole.
fn require_end(consumer: &BaseConsumer<Quiet>, range: Range<'_>) -> Result<(), StageError> {
    let bounds = consumer.fetch_watermarks(range.topic, range.partition, REQUEST_TIMEOUT);
    let (_, end) = bounds.map_err(trouble)?;
    if end < range.to.get() { Err(trouble(KafkaError::PartitionEOF(range.partition))) } else { Ok(()) }
}

pub(super) fn trouble(source: KafkaError) -> StageError {
    StageError::Kafka { what: "reading the log again", source }
}
