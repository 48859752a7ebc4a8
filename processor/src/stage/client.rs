//! A group consumer whose callbacks become events, a transactional producer, and the transaction that ties them.

use super::{REQUEST_TIMEOUT, StageError};
use millrace_log::{LogSettings, NextOffset};
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance},
    error::{KafkaError, RDKafkaErrorCode},
    message::Message as _,
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext},
};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

const SESSION_TIMEOUT_MS: &str = "10000";
const TRANSACTION_TIMEOUT_MS: &str = "30000";
/// A dead letter may be as large as the dead-letter topic allows.
const MESSAGE_BYTES_MAX: &str = "8388608";
/// Fetched ahead per consumer.
const FETCH_AHEAD_KBYTES: &str = "32768";

/// A change of the partitions that this consumer owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Assignment {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
}

/// Keeps the callbacks' news until the loop asks.
#[derive(Default)]
pub(crate) struct Events(Mutex<Vec<Assignment>>);

impl ClientContext for Events {
    fn error(&self, error: KafkaError, reason: &str) {
        tell(&error, reason);
    }
}

/// The end of a partition is no error; of the others the client recovers by itself, and those it can't recover from
/// come back from its calls.
pub(super) fn tell(error: &KafkaError, reason: &str) {
    if !matches!(error, KafkaError::PartitionEOF(_))
        && error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF)
    {
        tracing::debug!(%error, reason, "the Kafka client has trouble");
    }
}

impl ConsumerContext for Events {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let partitions =
            |list: &TopicPartitionList| list.elements().iter().map(|element| element.partition()).collect();
        let event = match rebalance {
            Rebalance::Assign(list) => Assignment::Assigned(partitions(list)),
            Rebalance::Revoke(list) => Assignment::Revoked(partitions(list)),
            Rebalance::Error(error) => {
                tracing::warn!(%error, "the group could not be rebalanced");
                return;
            }
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

impl Events {
    pub(crate) fn take(&self) -> Vec<Assignment> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Keeps the highest offset that the log has given a record since it was asked last.
pub(crate) struct Delivered(AtomicI64);

/// No record was delivered.
const NOWHERE: i64 = -1;
/// The log has a record, but could not say where (a retry that it had taken before).
const UNKNOWN: i64 = i64::MAX;

impl Default for Delivered {
    fn default() -> Self {
        Self(AtomicI64::new(NOWHERE))
    }
}

impl ClientContext for Delivered {
    fn error(&self, error: KafkaError, reason: &str) {
        tell(&error, reason);
    }
}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        // What failed makes the transaction fail.
        if let Ok(record) = result {
            let offset = record.offset();
            self.0.fetch_max(if offset < 0 { UNKNOWN } else { offset }, Ordering::Relaxed);
        }
    }
}

/// One member of a stage's group, and its producer.
pub(crate) struct Client {
    pub consumer: BaseConsumer<Events>,
    pub producer: BaseProducer<Delivered>,
    pub topic: String,
}

impl Client {
    /// `group` and `member` name it; a restarted member takes its own partitions back at once, and its producer puts an
    /// end to what its forerunner left open.
    pub(crate) fn connect(
        log: &LogSettings,
        topic: &str,
        group: &str,
        member: &str,
    ) -> Result<Self, StageError> {
        let consumer: BaseConsumer<Events> = log
            .consumer(group)
            .set("group.instance.id", log.name(member))
            .set("session.timeout.ms", SESSION_TIMEOUT_MS)
            .set("heartbeat.interval.ms", "2000")
            // Not cooperative: there a member that begins again between the two rounds of a rebalance is, being static,
            // given its old partitions without another round, and those that it had given up have no owner any more.
            .set("partition.assignment.strategy", "range")
            .set("enable.partition.eof", "true")
            .set("queued.max.messages.kbytes", FETCH_AHEAD_KBYTES)
            .create_with_context(Events::default())
            .map_err(StageError::kafka("making a consumer"))?;
        let producer: BaseProducer<Delivered> = log
            .producer(REQUEST_TIMEOUT)
            .set("transactional.id", log.name(member))
            .set("message.max.bytes", MESSAGE_BYTES_MAX)
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
            .create_with_context(Delivered::default())
            .map_err(StageError::kafka("making a producer"))?;
        producer.init_transactions(REQUEST_TIMEOUT).map_err(StageError::kafka("starting transactions"))?;
        consumer.subscribe(&[topic]).map_err(StageError::kafka("subscribing"))?;
        Ok(Self { consumer, producer, topic: topic.to_owned() })
    }

    /// The committed offset of a partition with its metadata; from the start where there is none.
    pub(crate) fn committed(&self, partition: i32) -> Result<(NextOffset, String), StageError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        let committed = self
            .consumer
            .committed_offsets(list, REQUEST_TIMEOUT)
            .map_err(StageError::kafka("asking for the committed offsets"))?;
        let element = committed.find_partition(&self.topic, partition);
        Ok(match element.as_ref().map(|element| (element.offset(), element.metadata())) {
            Some((Offset::Offset(next), metadata)) => (NextOffset::exclusive(next), metadata.to_owned()),
            _ => (NextOffset::START, String::new()),
        })
    }

    /// The first offset of a partition that retention has left.
    pub(crate) fn low(&self, partition: i32) -> Result<NextOffset, StageError> {
        let bounds = self.consumer.fetch_watermarks(&self.topic, partition, REQUEST_TIMEOUT);
        let (low, _) = bounds.map_err(StageError::kafka("asking where a partition begins"))?;
        Ok(NextOffset::exclusive(low))
    }

    /// Writes `records` and commits `offsets` in one transaction.
    pub(crate) fn transact<'a>(
        &self,
        records: impl IntoIterator<Item = BaseRecord<'a, [u8], [u8]>>,
        offsets: &TopicPartitionList,
    ) -> Result<(), StageError> {
        self.begin(records)?;
        self.commit(offsets)
    }

    /// Begins a transaction with `records`; [`Self::commit`] ends it.
    pub(crate) fn begin<'a>(
        &self,
        records: impl IntoIterator<Item = BaseRecord<'a, [u8], [u8]>>,
    ) -> Result<(), StageError> {
        self.producer.begin_transaction().map_err(StageError::kafka("beginning a transaction"))?;
        records.into_iter().try_for_each(|record| self.send(record))
    }

    /// Waits until the log has all `records`, which go to one partition, and returns the offset after the last of them.
    pub(crate) fn append<'a>(
        &self,
        records: impl IntoIterator<Item = BaseRecord<'a, [u8], [u8]>>,
    ) -> Result<NextOffset, StageError> {
        let what = "waiting until the log has the rows";
        let delivered = &self.producer.context().0;
        delivered.store(NOWHERE, Ordering::Relaxed);
        records.into_iter().try_for_each(|record| self.send(record))?;
        self.producer.flush(REQUEST_TIMEOUT).map_err(StageError::kafka(what))?;
        match delivered.load(Ordering::Relaxed) {
            offset if offset > NOWHERE && offset < UNKNOWN => Ok(NextOffset::after(offset)),
            _ => Err(StageError::Kafka { what, source: KafkaError::NoMessageReceived }),
        }
    }

    /// Commits the open transaction, with `offsets` in it.
    pub(crate) fn commit(&self, offsets: &TopicPartitionList) -> Result<(), StageError> {
        if offsets.count() > 0 {
            // Fresh each time: a rebalance since makes the commit fail instead of overwriting the new owner's.
            let group = self.consumer.group_metadata().ok_or(StageError::Kafka {
                what: "asking for the group's metadata",
                source: KafkaError::NoMessageReceived,
            })?;
            self.producer
                .send_offsets_to_transaction(offsets, &group, REQUEST_TIMEOUT)
                .map_err(StageError::kafka("adding offsets to a transaction"))?;
        }
        self.producer
            .commit_transaction(REQUEST_TIMEOUT)
            .map_err(StageError::kafka("committing a transaction"))
    }

    /// Waits while the producer's queue is full: it empties by itself.
    pub(crate) fn send(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<(), StageError> {
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(10));
                    record = back;
                }
                Err((source, _)) => return Err(StageError::Kafka { what: "sending a record", source }),
            }
        }
    }
}
