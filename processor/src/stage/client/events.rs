//! What librdkafka's callbacks say, kept until somebody asks.

use super::super::lock;
use rdkafka::{
    ClientContext, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::Message as _,
    producer::{DeliveryResult, ProducerContext},
    types::RDKafkaRespErr,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

/// A change of the partitions that this consumer owns: it comes about when the consumer agrees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Assignment {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
}

/// Keeps the group's news until the loop asks.
#[derive(Default)]
pub(crate) struct Events {
    /// Not answered yet; until it is, there are no more.
    news: Mutex<Option<Assignment>>,
    /// As of the last news: what the member owns, it owns in this generation.
    generation: Mutex<Option<Arc<ConsumerGroupMetadata>>>,
    /// Nobody asks any more.
    closing: AtomicBool,
}

impl Events {
    pub(crate) fn news(&self) -> Option<Assignment> {
        lock(&self.news).clone()
    }

    pub(super) fn answered(&self) {
        lock(&self.news).take();
    }

    pub(super) fn generation(&self) -> Option<Arc<ConsumerGroupMetadata>> {
        lock(&self.generation).clone()
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

impl ClientContext for Events {
    fn error(&self, error: KafkaError, reason: &str) {
        tell(&error, reason);
    }
}

/// The end of a partition is no error; of the others the client recovers by itself, and those it can't recover from
/// come back from its calls.
pub(crate) fn tell(error: &KafkaError, reason: &str) {
    if !matches!(error, KafkaError::PartitionEOF(_))
        && error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF)
    {
        tracing::debug!(%error, reason, "the Kafka client has trouble");
    }
}

impl ConsumerContext for Events {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigned = err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            // Whoever answers then waits for ever.
            if consumer.closed() {
                return;
            }
            answer_at_once(if assigned {
                consumer.incremental_assign(list)
            } else {
                consumer.incremental_unassign(list)
            });
            return;
        }
        let partitions = list.elements().iter().map(|element| element.partition()).collect();
        *lock(&self.generation) = consumer.group_metadata().map(Arc::new);
        let news = if assigned { Assignment::Assigned(partitions) } else { Assignment::Revoked(partitions) };
        *lock(&self.news) = Some(news);
    }
}

fn answer_at_once(answered: KafkaResult<()>) {
    if let Err(error) = answered {
        tracing::debug!(%error, "the group could not be answered at the end");
    }
}

/// Keeps, by partition, the highest offset that the log has given a record since it was asked last; and whether a broker
/// was lost.
#[derive(Default)]
pub(super) struct Delivered {
    newest: Mutex<BTreeMap<i32, i64>>,
    has_lost_a_broker: AtomicBool,
}

/// The log has a record, but could not say where (a retry that it had taken before).
const UNKNOWN: i64 = i64::MAX;

impl Delivered {
    pub(super) fn forget(&self) {
        lock(&self.newest).clear();
    }

    /// Whether a connection to a broker broke since it was asked last, as librdkafka tells when it is polled.
    pub(super) fn has_lost_a_broker(&self) -> bool {
        self.has_lost_a_broker.swap(false, Ordering::Relaxed)
    }

    /// The offset of the newest record of each partition since; `None` where the log could not say it.
    pub(super) fn newest(&self) -> BTreeMap<i32, Option<i64>> {
        let known = |offset: i64| (offset < UNKNOWN).then_some(offset);
        lock(&self.newest).iter().map(|(partition, offset)| (*partition, known(*offset))).collect()
    }
}

impl ClientContext for Delivered {
    fn error(&self, error: KafkaError, reason: &str) {
        use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure};
        tell(&error, reason);
        if matches!(error.rdkafka_error_code(), Some(AllBrokersDown | BrokerTransportFailure)) {
            self.has_lost_a_broker.store(true, Ordering::Relaxed);
        }
    }
}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        // What failed makes the transaction fail.
        if let Ok(record) = result {
            let offset = if record.offset() < 0 { UNKNOWN } else { record.offset() };
            let mut delivered = lock(&self.newest);
            let newest = delivered.entry(record.partition()).or_insert(offset);
            *newest = offset.max(*newest);
        }
    }
}
