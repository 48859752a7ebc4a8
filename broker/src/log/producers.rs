//! What a partition knows of its idempotent and transactional producers: Kafka's ProducerStateManager as a pure core.
//!
//! Decides whether a batch is new, a duplicate or out of order, and which transactions are open. It writes nothing.

use super::{ActiveProducer, Outcome, Refused, batch::Header, batch::TRANSACTIONAL};
use kafka_protocol::ResponseError;
use std::collections::{BTreeMap, HashMap, VecDeque};

pub mod snapshot;

/// Kafka remembers as many batches of a producer, since a client has at most five requests under way.
const BATCHES: usize = 5;
/// The most producers that a partition remembers; at it those that were idle the longest are forgotten.
const PRODUCERS_MAX: usize = 10_000;
/// Idle producers are forgotten after a day, as in Kafka (producer.id.expiration.ms).
const EXPIRATION_MS: i64 = 24 * 60 * 60 * 1000;

/// A batch that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: i64,
    pub last_offset: i64,
    pub timestamp: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    last_timestamp: i64,
    /// When it last wrote, by our clock.
    seen_ms: i64,
    transaction_start: Option<i64>,
    batches: VecDeque<Batch>,
}

/// A transaction that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    pub producer_id: i64,
    pub first_offset: i64,
    /// Of its marker.
    pub last_offset: i64,
    pub outcome: Outcome,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    New,
    Duplicate(Batch),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    known: HashMap<i64, Producer>,
    /// First offset of each open transaction, and whose it is.
    open: BTreeMap<i64, i64>,
}

impl Producers {
    /// Whether a produced batch may be appended; changes nothing.
    pub fn check(&self, header: &Header) -> Result<Verdict, Refused> {
        if !header.has_producer() {
            return Ok(Verdict::New);
        }
        let Some(producer) = self.known.get(&header.producer_id) else {
            return self.check_room(header).map(|()| Verdict::New);
        };
        if let Some(duplicate) = producer.duplicate(header) {
            return Ok(Verdict::Duplicate(duplicate));
        }
        producer.check_epoch(header.producer_id, header.producer_epoch)?;
        producer.check_sequence(header)?;
        if producer.transaction_start.is_some() && !header.is(TRANSACTIONAL) {
            let message =
                format!("producer {} has a transaction open and wrote outside of it", header.producer_id);
            return Err(Refused::new(ResponseError::InvalidTxnState, message));
        }
        Ok(Verdict::New)
    }

    /// Forgetting a producer in a transaction would lose the transaction: then a new one is refused instead.
    fn check_room(&self, header: &Header) -> Result<(), Refused> {
        if header.is(TRANSACTIONAL) && self.open.len() >= PRODUCERS_MAX {
            let message = format!("{PRODUCERS_MAX} producers have transactions open in this partition");
            return Err(Refused::new(ResponseError::KafkaStorageError, message));
        }
        Ok(())
    }

    /// Takes note of a data batch that was appended; `header` has its final offset.
    pub fn appended(&mut self, header: &Header, now_ms: i64) {
        if !header.has_producer() {
            return;
        }
        self.make_room(header.producer_id);
        let producer =
            self.known.entry(header.producer_id).or_insert_with(|| Producer::new(header.producer_epoch));
        producer.take_epoch(header.producer_epoch);
        producer.last_timestamp = header.max_timestamp;
        producer.seen_ms = now_ms;
        if producer.batches.len() == BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Batch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            timestamp: header.max_timestamp,
        });
        if header.is(TRANSACTIONAL) && producer.transaction_start.is_none() {
            producer.transaction_start = Some(header.base_offset);
            self.open.insert(header.base_offset, header.producer_id);
        }
    }

    /// Whether a marker may be written, and whether there is anything for it to end.
    pub fn check_marker(&self, producer_id: i64, epoch: i16) -> Result<bool, Refused> {
        let Some(producer) = self.known.get(&producer_id) else { return Ok(false) };
        producer.check_epoch(producer_id, epoch)?;
        Ok(producer.transaction_start.is_some())
    }

    /// Takes note of a marker; what it ended.
    pub fn ended(&mut self, header: &Header, outcome: Outcome, now_ms: i64) -> Option<Completed> {
        self.remember_epoch(header.producer_id, header.producer_epoch, now_ms);
        let producer = self.known.get_mut(&header.producer_id)?;
        producer.last_timestamp = header.max_timestamp;
        let first_offset = producer.transaction_start.take()?;
        self.open.remove(&first_offset);
        let last_offset = header.last_offset();
        Some(Completed { producer_id: header.producer_id, first_offset, last_offset, outcome })
    }

    /// A new epoch fences the older ones even where the producer has nothing open.
    pub fn remember_epoch(&mut self, producer_id: i64, epoch: i16, now_ms: i64) {
        self.make_room(producer_id);
        let producer = self.known.entry(producer_id).or_insert_with(|| Producer::new(epoch));
        producer.take_epoch(epoch);
        producer.seen_ms = now_ms;
    }

    /// The first offset of the oldest open transaction.
    pub fn first_open(&self) -> Option<i64> {
        self.open.first_key_value().map(|(offset, _)| *offset)
    }

    pub fn expire(&mut self, now_ms: i64) {
        let lives = |producer: &Producer| {
            producer.transaction_start.is_some() || now_ms.saturating_sub(producer.seen_ms) < EXPIRATION_MS
        };
        self.known.retain(|_, producer| lives(producer));
    }

    pub fn list(&self) -> Vec<ActiveProducer> {
        self.known.iter().map(|(id, producer)| producer.show(*id)).collect()
    }

    /// The offset of each producer's last data batch, or None where its last word was a marker of that epoch.
    /// Compaction keeps those batches, so that a scan of the log gives the same sequences.
    pub fn last_words(&self) -> HashMap<i64, (Option<i64>, i16)> {
        let word =
            |producer: &Producer| (producer.batches.back().map(|batch| batch.last_offset), producer.epoch);
        self.known.iter().map(|(id, producer)| (*id, word(producer))).collect()
    }

    /// Forgets a tenth at once, so that a stream of new producers does not search each time.
    fn make_room(&mut self, for_id: i64) {
        if self.known.len() < PRODUCERS_MAX || self.known.contains_key(&for_id) {
            return;
        }
        let idle = self.known.iter().filter(|(_, producer)| producer.transaction_start.is_none());
        let mut idle: Vec<(i64, i64)> = idle.map(|(id, producer)| (producer.seen_ms, *id)).collect();
        idle.sort_unstable();
        for (_, id) in idle.into_iter().take(PRODUCERS_MAX / 10) {
            self.known.remove(&id);
        }
    }
}

impl Producer {
    fn new(epoch: i16) -> Self {
        let batches = VecDeque::new();
        Self { epoch, last_timestamp: -1, seen_ms: 0, transaction_start: None, batches }
    }

    fn duplicate(&self, header: &Header) -> Option<Batch> {
        let same = |batch: &&Batch| {
            batch.first_sequence == header.base_sequence && batch.last_sequence == header.last_sequence()
        };
        self.batches.iter().find(same).filter(|_| self.epoch == header.producer_epoch).copied()
    }

    fn check_epoch(&self, producer_id: i64, epoch: i16) -> Result<(), Refused> {
        if epoch >= self.epoch {
            return Ok(());
        }
        let message =
            format!("producer {producer_id} comes with epoch {epoch}; its last one is {}", self.epoch);
        Err(Refused::new(ResponseError::InvalidProducerEpoch, message))
    }

    /// The next sequence; a new epoch starts at 0.
    fn check_sequence(&self, header: &Header) -> Result<(), Refused> {
        let last = self.batches.back().filter(|_| self.epoch == header.producer_epoch);
        let expected = last.map_or(0, |batch| super::batch::sequence_after(batch.last_sequence, 1));
        if header.base_sequence == expected {
            return Ok(());
        }
        let (id, epoch, sequence) = (header.producer_id, header.producer_epoch, header.base_sequence);
        let message =
            format!("producer {id} with epoch {epoch} comes with sequence {sequence}, not {expected}");
        Err(Refused::new(ResponseError::OutOfOrderSequenceNumber, message))
    }

    fn take_epoch(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.batches.clear();
            self.epoch = epoch;
        }
    }

    fn show(&self, producer_id: i64) -> ActiveProducer {
        ActiveProducer {
            producer_id,
            epoch: self.epoch,
            last_sequence: self.batches.back().map_or(-1, |batch| batch.last_sequence),
            last_timestamp: self.last_timestamp,
            transaction_start: self.transaction_start,
        }
    }
}

#[cfg(test)]
mod tests;
