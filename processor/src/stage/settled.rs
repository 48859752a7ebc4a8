//! Which records of a raw partition have become dead letters, by what the log says: the rules may be others today (a new
//! build, another `--future-skew`), but what was a dead letter was not counted, and its replay must not be a repeat.

use super::{
    REQUEST_TIMEOUT, StageError,
    positions::Ends,
    range::{self, Quiet},
};
use hashbrown::HashSet;
use millrace_log::{LogSettings, NextOffset, partition_count};
use millrace_schemas::dead_letter::{SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{BorrowedMessage, Headers},
};
use std::{collections::BTreeMap, time::Duration};
use tokio_util::sync::CancellationToken;

/// A dead letter is written after its record was. But the clocks of two brokers may differ, so older ones are read too.
const CLOCKS_DIFFER_MS_MAX: i64 = 600_000;
const READING: &str = "reading which records are dead letters";

/// A stretch of a raw partition: `from` inclusive, `to` exclusive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub partition: i32,
    pub from: NextOffset,
    pub to: NextOffset,
}

/// The offsets of the stretch that are dead letters, as far as retention has left them. Waits no longer than `patience` for
/// each transaction that is open.
pub(crate) fn dead_letters(
    log: &LogSettings,
    stretch: Stretch,
    patience: Duration,
    shutdown: &CancellationToken,
) -> Result<HashSet<i64>, StageError> {
    let mut dead = HashSet::new();
    if stretch.from >= stretch.to {
        return Ok(dead);
    }
    let topics = log.topics();
    let consumer: BaseConsumer<Quiet> = log
        .consumer("rebuild")
        .set("enable.partition.eof", "true")
        .create_with_context(Quiet)
        .map_err(StageError::kafka("making a consumer"))?;
    let search = Search { consumer: &consumer, shutdown };
    let Some(since_ms) = search.first_time(&topics.metrics, stretch)? else { return Ok(dead) };
    let ends = search.assign_since(
        &Ends::connect(log, patience)?,
        &topics.dead_letters,
        since_ms - CLOCKS_DIFFER_MS_MAX,
    )?;
    search.read(ends, |letter| {
        if text(letter, SOURCE_TOPIC) == Some(&topics.metrics)
            && text(letter, SOURCE_PARTITION).and_then(|text| text.parse().ok()) == Some(stretch.partition)
            && let Some(offset) = text(letter, SOURCE_OFFSET).and_then(|text| text.parse().ok())
            && (stretch.from.get()..stretch.to.get()).contains(&offset)
        {
            dead.insert(offset);
        }
    })?;
    Ok(dead)
}

pub(crate) fn text<'m>(letter: &'m BorrowedMessage<'_>, name: &str) -> Option<&'m str> {
    let value = letter.headers()?.iter().find(|header| header.key == name)?.value?;
    std::str::from_utf8(value).ok()
}

struct Search<'a> {
    consumer: &'a BaseConsumer<Quiet>,
    shutdown: &'a CancellationToken,
}

impl Search<'_> {
    /// When the log got the first record of the stretch, in milliseconds; `None` if retention has left nothing of it.
    fn first_time(&self, topic: &str, stretch: Stretch) -> Result<Option<i64>, StageError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, stretch.partition, stretch.from.to_kafka())
            .and_then(|()| self.consumer.assign(&list))
            .map_err(StageError::kafka(READING))?;
        match range::poll(self.consumer, self.shutdown)? {
            Some(Ok(record)) if record.offset() < stretch.to.get() => {
                Ok(Some(record.timestamp().to_millis().unwrap_or(0)))
            }
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => Ok(None),
            Some(Err(source)) => Err(StageError::Kafka { what: READING, source }),
            None => Err(StageError::Kafka { what: READING, source: KafkaError::NoMessageReceived }),
        }
    }

    /// Begins to read the letters of that time and later; returns where they end, of each partition that has any.
    fn assign_since(
        &self,
        ends: &Ends,
        topic: &str,
        since_ms: i64,
    ) -> Result<BTreeMap<i32, NextOffset>, StageError> {
        let (mut times, mut settled) = (TopicPartitionList::new(), BTreeMap::new());
        for partition in 0..partition_count(self.consumer, topic)? {
            let (_, end) = ends.settled(self.consumer, (topic, partition), self.shutdown)?;
            settled.insert(partition, end);
            times
                .add_partition_offset(topic, partition, Offset::Offset(since_ms.max(0)))
                .map_err(StageError::kafka(READING))?;
        }
        let found =
            self.consumer.offsets_for_times(times, REQUEST_TIMEOUT).map_err(StageError::kafka(READING))?;
        let mut list = TopicPartitionList::new();
        for element in found.elements() {
            let (partition, from) = (element.partition(), element.offset());
            if matches!(from, Offset::Offset(_)) {
                list.add_partition_offset(topic, partition, from).map_err(StageError::kafka(READING))?;
            } else {
                settled.remove(&partition);
            }
        }
        self.consumer.assign(&list).map_err(StageError::kafka(READING))?;
        Ok(settled)
    }

    fn read(
        &self,
        mut ends: BTreeMap<i32, NextOffset>,
        mut take: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), StageError> {
        while !ends.is_empty() {
            match range::poll(self.consumer, self.shutdown)? {
                Some(Ok(letter)) => {
                    take(&letter);
                    let next = NextOffset::after(letter.offset());
                    if ends.get(&letter.partition()).is_some_and(|end| next >= *end) {
                        ends.remove(&letter.partition());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ends.remove(&partition);
                }
                Some(Err(source)) => return Err(StageError::Kafka { what: READING, source }),
                None => {
                    return Err(StageError::Kafka { what: READING, source: KafkaError::NoMessageReceived });
                }
            }
        }
        Ok(())
    }
}
