//! Which records of a raw partition have become dead letters, by what the log says: the rules may be others today (a new
//! build, another `--future-skew`), but what was a dead letter was not counted, and its replay must not be a repeat.

use super::{
    StageError,
    past::{Past, Patience},
};
use hashbrown::HashSet;
use millrace_log::NextOffset;
use millrace_schemas::{
    dead_letter::{SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC},
    topic::Topics,
};
use rdkafka::{
    Message,
    error::KafkaError,
    message::{BorrowedMessage, Headers},
};
use std::collections::BTreeMap;
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

/// The offsets of the stretch that are dead letters, as far as retention has left them.
pub(crate) fn dead_letters(
    past: &mut Past,
    topics: &Topics,
    stretch: Stretch,
    patience: Patience<'_>,
) -> Result<HashSet<i64>, StageError> {
    let mut dead = HashSet::new();
    if stretch.from >= stretch.to {
        return Ok(dead);
    }
    let Some(since_ms) = first_time(past, &topics.metrics, stretch, patience.shutdown)? else {
        return Ok(dead);
    };
    let ends = past.settled(&topics.dead_letters, patience)?;
    let since = past.since(&topics.dead_letters, since_ms - CLOCKS_DIFFER_MS_MAX)?;
    read(past, &topics.dead_letters, (since, ends), patience.shutdown, |letter| {
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

/// When the log got the first record of the stretch, in milliseconds; `None` if retention has left nothing of it.
fn first_time(
    past: &mut Past,
    topic: &str,
    Stretch { partition, from, to }: Stretch,
    shutdown: &CancellationToken,
) -> Result<Option<i64>, StageError> {
    match past.assign(topic, [(partition, from)])?.poll(shutdown)? {
        Some(Ok(record)) if record.offset() < to.get() => {
            Ok(Some(record.timestamp().to_millis().unwrap_or(0)))
        }
        Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => Ok(None),
        Some(Err(source)) => Err(StageError::Kafka { what: READING, source }),
        None => Err(StageError::Kafka { what: READING, source: KafkaError::NoMessageReceived }),
    }
}

/// Reads partitions from where they begin to where they end, each that has a beginning.
fn read(
    past: &mut Past,
    topic: &str,
    (from, mut to): (BTreeMap<i32, NextOffset>, BTreeMap<i32, NextOffset>),
    shutdown: &CancellationToken,
    mut take: impl FnMut(&BorrowedMessage<'_>),
) -> Result<(), StageError> {
    to.retain(|partition, end| from.get(partition).is_some_and(|from| from < end));
    let reading = past.assign(topic, from.into_iter().filter(|(partition, _)| to.contains_key(partition)))?;
    while !to.is_empty() {
        match reading.poll(shutdown)? {
            Some(Ok(letter)) => {
                take(&letter);
                let next = NextOffset::after(letter.offset());
                if to.get(&letter.partition()).is_some_and(|end| next >= *end) {
                    to.remove(&letter.partition());
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                to.remove(&partition);
            }
            Some(Err(source)) => return Err(StageError::Kafka { what: READING, source }),
            None => return Err(StageError::Kafka { what: READING, source: KafkaError::NoMessageReceived }),
        }
    }
    Ok(())
}
