//! What topics hold: the raw one read by librdkafka alone, which is the limit, and how much is in others.

use super::{
    progress::{ends, everywhere},
    site::usage::{Spent, Usage},
    stall::Watch,
};
use millrace_log::{Batches, LogSettings, partition_count};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use std::{
    collections::HashSet,
    ops::ControlFlow,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const THREADS: i32 = 2;
const BATCH_RECORDS: usize = 10_000;
const WAIT: Duration = Duration::from_millis(20);

pub(super) fn drain_all(log: &LogSettings, records: u64) -> anyhow::Result<Spent> {
    let topic = log.topics().metrics;
    let seen = AtomicU64::new(0);
    let usage = Usage::start()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (topic, seen) = (&topic, &seen);
                scope.spawn(move || drain(log, topic, thread, seen, records))
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a drain panicked"))?)
    })?;
    usage.spent()
}

fn drain(log: &LogSettings, topic: &str, thread: i32, seen: &AtomicU64, records: u64) -> anyhow::Result<()> {
    let consumer: BaseConsumer = log.consumer("bench-drain").create()?;
    let mut list = TopicPartitionList::new();
    let mut batches = Batches::new(&consumer);
    for partition in (thread..partition_count(&consumer, topic)?).step_by(THREADS.unsigned_abs() as usize) {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
        batches.add(topic, partition)?;
    }
    consumer.assign(&list)?;
    let mut watch = Watch::new();
    while seen.load(Ordering::Relaxed) < records {
        let taken = batches.skip(BATCH_RECORDS, WAIT) as u64;
        let all = seen.fetch_add(taken, Ordering::Relaxed);
        watch.look(all, || format!("the drain is stuck at {all} of {records} records"))?;
    }
    Ok(())
}

/// The bytes of all values that the processor has written: partial states, rows, progress, dead letters and the ledger's.
pub(super) async fn bytes_written(log: &LogSettings) -> anyhow::Result<u64> {
    let log = log.clone();
    tokio::task::spawn_blocking(move || {
        let topics = log.topics();
        let written =
            [topics.partials, topics.aggregates, topics.progress, topics.dead_letters, topics.ledger];
        let bytes = |topic: &String| {
            let consumer = reader(&log)?;
            Ok(values(&consumer, &everywhere(&consumer, topic, Offset::Beginning)?)?.bytes)
        };
        written.iter().map(bytes).sum()
    })
    .await?
}

/// Where the raw topic ends by now.
pub(super) async fn raw_ends(log: &LogSettings) -> anyhow::Result<TopicPartitionList> {
    let log = log.clone();
    tokio::task::spawn_blocking(move || ends(&reader(&log)?, &log.topics().metrics)).await?
}

/// The values of the raw topic from there on.
pub(super) async fn raw_values(log: &LogSettings, from: TopicPartitionList) -> anyhow::Result<Values> {
    let log = log.clone();
    tokio::task::spawn_blocking(move || values(&reader(&log)?, &from)).await?
}

#[derive(Default)]
pub(super) struct Values {
    pub records: u64,
    pub bytes: u64,
}

/// It is told of the ends of partitions.
fn reader(log: &LogSettings) -> anyhow::Result<BaseConsumer> {
    Ok(log.consumer("bench-written").set("enable.partition.eof", "true").create()?)
}

/// Those of these partitions, from there to their ends.
fn values(consumer: &BaseConsumer, from: &TopicPartitionList) -> anyhow::Result<Values> {
    // Past rdkafka, which logs the end of a partition as an error.
    let mut batches = Batches::new(consumer);
    let mut left = HashSet::new();
    for element in from.elements() {
        batches.add(element.topic(), element.partition())?;
        left.insert(element.partition());
    }
    consumer.assign(from)?;
    let (mut all, mut watch) = (Values::default(), Watch::new());
    while !left.is_empty() {
        batches.take(WAIT, |taken| {
            match taken {
                Ok(message) => {
                    all.records += 1;
                    all.bytes += message.payload_len() as u64;
                }
                Err(KafkaError::PartitionEOF(partition)) => {
                    left.remove(&partition);
                }
                Err(error) => return Err(error),
            }
            Ok(ControlFlow::Continue(()))
        })?;
        watch.look((all.bytes, left.len()), || format!("stuck reading what was written: {from:?}"))?;
    }
    Ok(all)
}
