//! Records straight to the log: idempotent, acknowledged by all replicas, keyed by workspace and service as the edge does.

use super::{Counts, SinkError};
use millrace_log::{LogSettings, partition_count};
use millrace_schemas::{QueryMetric, key::record_key};
use rdkafka::{
    ClientContext,
    consumer::BaseConsumer,
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A record that is not acknowledged within this time ends the replay.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to wait for room in the producer's queue before trying again.
const QUEUE_PAUSE: Duration = Duration::from_millis(5);

pub struct LogSink {
    producer: Arc<ThreadedProducer<Deliveries>>,
    topic: String,
}

/// Told by librdkafka's thread of each record's end.
#[derive(Default)]
struct Deliveries {
    accepted: AtomicU64,
    rejected: AtomicU64,
    error: Mutex<Option<KafkaError>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.accepted.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                let mut first = self.error.lock().expect("no code panics while it holds the error");
                first.get_or_insert_with(|| error.clone());
            }
        }
    }
}

impl LogSink {
    /// The topic must exist: a broker that makes it up would give it other settings.
    pub async fn new(settings: &LogSettings, topic: String) -> Result<Self, SinkError> {
        settings.validate().map_err(SinkError::LogSettings)?;
        require_topic(settings, &topic).await?;
        let producer = settings.producer(DELIVERY_TIMEOUT).create_with_context(Deliveries::default());
        let producer = producer.map_err(|source| SinkError::Log { topic: topic.clone(), source })?;
        Ok(Self { producer: Arc::new(producer), topic })
    }

    pub async fn send(&mut self, batch: &[QueryMetric]) -> Result<(), SinkError> {
        for metric in batch {
            let payload = serde_json::to_vec(metric).map_err(SinkError::Encode)?;
            let key = record_key(metric.workspace_id, metric.service_id);
            self.produce(&key, &payload).await?;
        }
        self.check()
    }

    /// Waits for room in the producer's queue, which librdkafka bounds.
    async fn produce(&self, key: &str, payload: &[u8]) -> Result<(), SinkError> {
        let mut record = BaseRecord::to(&self.topic).key(key).payload(payload);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => record = again,
                Err((error, _)) => return Err(self.failed(error)),
            }
            self.check()?;
            tokio::time::sleep(QUEUE_PAUSE).await;
        }
    }

    pub async fn finish(&mut self) -> Result<(), SinkError> {
        let producer = Arc::clone(&self.producer);
        let flushed = tokio::task::spawn_blocking(move || producer.flush(DELIVERY_TIMEOUT)).await?;
        self.check()?;
        flushed.map_err(|error| self.failed(error))
    }

    pub fn counts(&self) -> Counts {
        let deliveries = self.producer.context();
        Counts {
            accepted: deliveries.accepted.load(Ordering::Relaxed),
            rejected: deliveries.rejected.load(Ordering::Relaxed),
            first_rejection: None,
        }
    }

    fn check(&self) -> Result<(), SinkError> {
        let error =
            self.producer.context().error.lock().expect("no code panics while it holds the error").clone();
        error.map_or(Ok(()), |error| Err(self.failed(error)))
    }

    fn failed(&self, source: KafkaError) -> SinkError {
        SinkError::Log { topic: self.topic.clone(), source }
    }
}

async fn require_topic(settings: &LogSettings, topic: &str) -> Result<(), SinkError> {
    let failed = |source| SinkError::Log { topic: topic.to_owned(), source };
    let consumer: BaseConsumer = settings.consumer("replay").create().map_err(failed)?;
    let name = topic.to_owned();
    let count = tokio::task::spawn_blocking(move || partition_count(&consumer, &name)).await?;
    count.map(|_| ()).map_err(|source| SinkError::Topic { topic: topic.to_owned(), source: Box::new(source) })
}
