//! Appends a few records to a topic now and then, and waits until the log has them all.

use crate::{LogSettings, flush};
use rdkafka::{
    ClientConfig, ClientContext,
    error::KafkaError,
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext},
};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// The log takes the records within this time, or it failed, unless the caller has less.
const LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("making a producer for {topic}")]
    Connect {
        topic: String,
        #[source]
        source: KafkaError,
    },
    #[error("appending to {topic}")]
    Append {
        topic: String,
        #[source]
        source: KafkaError,
    },
    #[error("the topic {0} does not exist")]
    Missing(String),
}

/// Blocks while it works. After an error the same records may be published again: the log may have some of them twice.
pub struct Publisher {
    config: ClientConfig,
    topic: String,
    /// With the number of partitions. Made when it is needed, and anew after an error.
    producer: Option<(BaseProducer<Reports>, i32)>,
}

/// Keeps the first failure that was reported.
#[derive(Default)]
struct Reports(Mutex<Option<KafkaError>>);

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the Kafka client has trouble");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
        }
    }
}

impl Publisher {
    pub fn new(settings: &LogSettings, topic: &str) -> Self {
        Self { config: settings.producer(LIMIT), topic: topic.to_owned(), producer: None }
    }

    /// Appends records: those of one number to one partition, in this order.
    pub fn publish(&mut self, records: &[(i32, Vec<u8>)]) -> Result<(), Error> {
        self.publish_within(LIMIT, records)
    }

    /// The same with a limit of the caller's.
    pub fn publish_within(&mut self, limit: Duration, records: &[(i32, Vec<u8>)]) -> Result<(), Error> {
        let (producer, partitions) = match self.producer.take() {
            Some(connected) => connected,
            None => self.connect(limit)?,
        };
        for (number, payload) in records {
            let record = BaseRecord::<[u8], [u8]>::to(&self.topic).partition(number.rem_euclid(partitions));
            producer.send(record.payload(payload)).map_err(|(source, _)| self.failed(source))?;
        }
        flush(&producer, limit).map_err(|source| self.failed(source))?;
        let failure = producer.context().0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(source) = failure {
            return Err(self.failed(source));
        }
        self.producer = Some((producer, partitions));
        Ok(())
    }

    fn connect(&self, limit: Duration) -> Result<(BaseProducer<Reports>, i32), Error> {
        let connect = |source| Error::Connect { topic: self.topic.clone(), source };
        let producer: BaseProducer<Reports> =
            self.config.create_with_context(Reports::default()).map_err(connect)?;
        let metadata = producer.client().fetch_metadata(Some(&self.topic), limit).map_err(connect)?;
        let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        match i32::try_from(partitions) {
            Ok(partitions) if partitions > 0 => Ok((producer, partitions)),
            _ => Err(Error::Missing(self.topic.clone())),
        }
    }

    fn failed(&self, source: KafkaError) -> Error {
        Error::Append { topic: self.topic.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::{
        mocking::MockCluster,
        producer::DefaultProducerContext,
        types::{RDKafkaApiKey, RDKafkaRespErr},
    };

    #[test]
    fn a_record_that_the_log_has_not_taken_is_an_error_and_the_next_try_begins_anew() {
        let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).expect("a mock cluster");
        cluster.create_topic("test.ledger", 3, 1).expect("a topic");
        let settings = LogSettings {
            brokers: cluster.bootstrap_servers(),
            topic_prefix: "test.".to_owned(),
            topic_partitions: 3,
            topic_replication: 1,
            properties: Vec::new(),
        };
        let mut publisher = Publisher::new(&settings, &settings.topics().ledger);
        let records = [(4, b"one".to_vec()), (4, b"two".to_vec())];
        publisher.publish(&records).expect("the mock takes them");
        let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
        cluster.request_errors(RDKafkaApiKey::Produce, &[refusal]);
        assert!(matches!(publisher.publish(&records), Err(Error::Append { .. })));
        publisher.publish(&records).expect("the mock takes them again");
    }
}
