//! Reads the topic of dead letters, stretch by stretch, with a consumer of its own for one request. Blocks.

use super::{
    Entry, Letter, LetterId,
    page::{Filter, Found, Read, SCAN_BYTES_MAX, SCAN_LIMIT, Stretch},
};
use millrace_log::{LogSettings, NextOffset, is_closing};
use millrace_schemas::EventTime;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::BorrowedMessage,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How long one question to the brokers, or the wait for one record, may take.
const ASK_LIMIT: Duration = Duration::from_secs(3);
/// Fetched ahead: stretches are short.
const FETCH_AHEAD_KBYTES: &str = "1024";
/// Letters that lie this close together are read in one go.
const GAP_MAX: i64 = 64;

#[derive(Debug, thiserror::Error)]
#[error("{doing} the topic {topic}")]
pub struct Error {
    doing: &'static str,
    topic: String,
    #[source]
    source: KafkaError,
}

pub struct Reader {
    consumer: BaseConsumer,
    topic: String,
    until: Instant,
}

impl Reader {
    /// Its time begins now.
    pub fn new(log: &LogSettings) -> Result<Self, Error> {
        let topic = log.topics().dead_letters;
        let consumer = log
            .consumer("query")
            .set("enable.partition.eof", "true")
            .set("queued.max.messages.kbytes", FETCH_AHEAD_KBYTES)
            .create();
        match consumer {
            Ok(consumer) => Ok(Self { consumer, topic, until: Instant::now() + SCAN_LIMIT }),
            Err(source) => Err(Error { doing: "making a reader of", topic, source }),
        }
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// What each partition has now, as far as the times of `filter` allow.
    pub fn bounds(&self, filter: &Filter) -> Result<Vec<Stretch>, Error> {
        let metadata =
            self.consumer.fetch_metadata(Some(&self.topic), ASK_LIMIT).map_err(self.failed("looking at"))?;
        let count = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        let first = self.offsets_at(filter.from, count)?;
        let last = self.offsets_at(filter.to, count)?;
        let bounds = |partition| {
            let (low, high) = self
                .consumer
                .fetch_watermarks(&self.topic, partition, ASK_LIMIT)
                .map_err(self.failed("asking where it begins and ends"))?;
            let at = |offsets: &Option<BTreeMap<i32, i64>>, default: i64| {
                offsets.as_ref().map_or(default, |offsets| offsets.get(&partition).copied().unwrap_or(high))
            };
            let (from, to) = (at(&first, low).max(low), at(&last, high).min(high));
            Ok(Stretch { partition, from, to: to.max(from) })
        };
        (0..count).map(bounds).collect()
    }

    /// By partition, the first offset of a letter of `time` or later; nothing where there is none.
    fn offsets_at(&self, time: Option<EventTime>, count: i32) -> Result<Option<BTreeMap<i32, i64>>, Error> {
        let Some(time) = time else { return Ok(None) };
        let mut times = TopicPartitionList::new();
        let failed = || self.failed("asking which letters are of a time in");
        for partition in 0..count {
            let at = Offset::Offset(time.as_millis().max(0));
            times.add_partition_offset(&self.topic, partition, at).map_err(failed())?;
        }
        let offsets = self.consumer.offsets_for_times(times, ASK_LIMIT).map_err(failed())?;
        let elements = offsets.elements();
        let found = elements.iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        });
        Ok(Some(found.collect()))
    }

    /// The letters with these ids (ascending) that there are, up to `bytes_max` bytes but at least one; and the ids that
    /// were not come to.
    pub fn letters(&self, ids: &[LetterId], bytes_max: usize) -> Result<(Vec<Letter>, Vec<LetterId>), Error> {
        let (mut letters, mut bytes, mut done) = (Vec::<Letter>::new(), 0, 0);
        for near in ids.chunk_by(|one, next| {
            one.partition == next.partition && next.offset.saturating_sub(one.offset) <= GAP_MAX
        }) {
            let (Some(first), Some(last)) = (near.first(), near.last()) else { continue };
            let stretch =
                Stretch { partition: first.partition, from: first.offset, to: last.offset.saturating_add(1) };
            let mut full = None;
            self.read(&[stretch], |message| {
                let id = LetterId { partition: message.partition(), offset: message.offset() };
                if near.binary_search(&id).is_err() {
                    return true;
                }
                let size = message.payload_len() + message.key_len();
                if !letters.is_empty() && bytes + size > bytes_max {
                    full = Some(id);
                    return false;
                }
                bytes += size;
                letters.push(Letter::of(message));
                true
            })?;
            if let Some(id) = full {
                let rest = ids.iter().skip_while(|next| **next < id).copied().collect();
                return Ok((letters, rest));
            }
            done += near.len();
        }
        Ok((letters, ids[done..].to_vec()))
    }

    /// Calls `take` for each record of the stretches until it returns false.
    fn read(
        &self,
        stretches: &[Stretch],
        mut take: impl FnMut(&BorrowedMessage<'_>) -> bool,
    ) -> Result<(), Error> {
        let mut list = TopicPartitionList::new();
        let mut left: BTreeMap<i32, i64> = BTreeMap::new();
        for stretch in stretches.iter().filter(|stretch| stretch.from < stretch.to) {
            left.insert(stretch.partition, stretch.to);
            list.add_partition_offset(
                &self.topic,
                stretch.partition,
                NextOffset::exclusive(stretch.from).to_kafka(),
            )
            .map_err(self.failed("naming a partition of"))?;
        }
        self.consumer.assign(&list).map_err(self.failed("choosing partitions of"))?;
        while !left.is_empty() {
            match self.consumer.poll(ASK_LIMIT) {
                Some(Ok(message)) => {
                    let Some(to) = left.get(&message.partition()).copied() else { continue };
                    let is_letter = !is_closing(&message);
                    if message.offset() < to && is_letter && !take(&message) {
                        break;
                    }
                    if message.offset() + 1 >= to {
                        left.remove(&message.partition());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    left.remove(&partition);
                }
                Some(Err(source)) => return Err(self.failed("reading")(source)),
                None => return Err(self.failed("reading")(KafkaError::NoMessageReceived)),
            }
        }
        self.consumer.unassign().map_err(self.failed("leaving partitions of"))
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(KafkaError) -> Error + use<> {
        let topic = self.topic.clone();
        move |source| Error { doing, topic, source }
    }
}

impl Read for Reader {
    type Error = Error;

    fn entries(&mut self, stretches: &[Stretch]) -> Result<Found, Error> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let alone = stretches.len() == 1 && stretches[0].to - stretches[0].from <= 1;
        self.read(stretches, |message| {
            let entry = Entry::of(message);
            bytes += entry.bytes;
            entries.push(entry);
            alone || bytes <= SCAN_BYTES_MAX
        })?;
        Ok(if bytes > SCAN_BYTES_MAX && !alone { Found::TooMuch } else { Found::Entries(entries) })
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }
}
