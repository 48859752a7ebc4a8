//! Asks the brokers about the `metrics` topic what its tail does not say, one question at a time.

use millrace_log::LogSettings;
use millrace_schemas::token::Origin;
use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{sync::Mutex, task::spawn_blocking};

/// How long a question may take.
const ASK_LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("asking the brokers about a topic")]
    Kafka(#[from] KafkaError),
    #[error("the brokers do not say which cluster they are")]
    NoCluster,
    #[error("asking the brokers panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

pub struct Brokers {
    consumer: Mutex<Arc<BaseConsumer>>,
    topic: String,
    origin: OnceLock<Origin>,
}

impl Brokers {
    pub fn new(log: &LogSettings) -> Result<Self, KafkaError> {
        // What is acknowledged may stand behind a transaction that is still open: its end is not the end.
        let consumer = log.consumer("query").set("isolation.level", "read_uncommitted").create()?;
        Ok(Self {
            consumer: Mutex::new(Arc::new(consumer)),
            topic: log.topics().metrics,
            origin: OnceLock::new(),
        })
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Which topic of which cluster this installation reads.
    pub async fn origin(&self) -> Result<Origin, Error> {
        if let Some(origin) = self.origin.get() {
            return Ok(*origin);
        }
        let topic = self.topic.clone();
        let cluster = self
            .ask(move |consumer| {
                consumer.fetch_metadata(Some(&topic), ASK_LIMIT)?;
                Ok(consumer.client().fetch_cluster_id(ASK_LIMIT))
            })
            .await?;
        let cluster = cluster.ok_or(Error::NoCluster)?;
        Ok(*self.origin.get_or_init(|| Origin::of(&cluster, &self.topic)))
    }

    /// One past the last record of a partition, committed or not; `None` if there is no such partition.
    pub async fn end(&self, partition: i32) -> Result<Option<i64>, Error> {
        let topic = self.topic.clone();
        self.ask(move |consumer| match consumer.fetch_watermarks(&topic, partition, ASK_LIMIT) {
            Ok((_, end)) => Ok(Some(end)),
            Err(error) if is_unknown(&error) => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, Error> {
        let consumer = self.consumer.lock().await;
        let client = Arc::clone(&consumer);
        Ok(spawn_blocking(move || question(&client)).await??)
    }
}

fn is_unknown(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopicOrPartition)
    )
}
