//! The log as anybody with a Kafka client sees it.

use super::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use millrace_schemas::topic::Topics;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    message::{Header, OwnedHeaders, OwnedMessage},
    producer::{FutureProducer, FutureRecord},
};
use std::time::Duration;
use tokio::{runtime::Handle, task::block_in_place};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

pub struct Log {
    pub brokers: String,
    topics: Topics,
    shared: bool,
}

impl Log {
    /// `shared`: others use the brokers too, so the topics are deleted in the end.
    pub fn new(brokers: &str, prefix: &str, shared: bool) -> Self {
        Self { brokers: brokers.to_owned(), topics: Topics::with_prefix(prefix), shared }
    }

    /// Produces to the metrics topic, in this order.
    pub async fn produce(&self, key: &str, payloads: impl IntoIterator<Item = &[u8]>) -> Result<()> {
        let producer = self.producer()?;
        for payload in payloads {
            send(&producer, FutureRecord::to(&self.topics.metrics).key(key).payload(payload)).await?;
        }
        Ok(())
    }

    /// Produces a record with headers to any topic.
    pub async fn produce_to(&self, topic: &str, payload: &[u8], headers: &[(&str, &str)]) -> Result<()> {
        let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(*value) })
        });
        let record = FutureRecord::<str, [u8]>::to(topic).payload(payload).headers(headers);
        send(&self.producer()?, record).await
    }

    /// Produces `payload(partition)` to each partition of the metrics topic.
    pub async fn produce_to_each(&self, payload: impl Fn(i32) -> Vec<u8>) -> Result<i32> {
        let producer = self.producer()?;
        let partitions = self.partitions()?;
        for partition in 0..partitions {
            let payload = payload(partition);
            let record =
                FutureRecord::<str, [u8]>::to(&self.topics.metrics).payload(&payload).partition(partition);
            send(&producer, record).await?;
        }
        Ok(partitions)
    }

    /// Removes all records of the metrics topic, as retention does one day; where it begins then, by partition.
    pub async fn remove_metrics(&self) -> Result<Vec<i64>> {
        let consumer: BaseConsumer = self.client().create()?;
        let topic = &self.topics.metrics;
        let (mut removed, mut ends) = (TopicPartitionList::new(), Vec::new());
        for partition in 0..self.partitions()? {
            let (_, end) = block_in_place(|| consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT))?;
            removed.add_partition_offset(topic, partition, Offset::Offset(end))?;
            ends.push(end);
        }
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
        admin.delete_records(&removed, &options).await.context("delete records")?;
        for (partition, end) in (0..).zip(&ends) {
            let (low, _) = block_in_place(|| consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT))?;
            ensure!(low == *end, "partition {partition} begins at {low}, not at {end}");
        }
        Ok(ends)
    }

    /// Waits until `topic` holds `count` committed records, and returns all that it holds.
    pub async fn wait_for(&self, topic: &str, count: usize) -> Result<Vec<OwnedMessage>> {
        let consumer = self.consumer_from_the_beginning(topic)?;
        let mut messages = Vec::new();
        until(&format!("{count} records in {topic}"), PATIENCE, async || {
            messages.extend(drain(&consumer)?);
            ensure!(messages.len() >= count, "there are {}", messages.len());
            Ok(())
        })
        .await?;
        Ok(messages)
    }

    pub fn metrics(&self) -> &str {
        &self.topics.metrics
    }

    /// Those of the metrics topic.
    pub fn partitions(&self) -> Result<i32> {
        self.partitions_of(&self.topics.metrics)
    }

    fn partitions_of(&self, topic: &str) -> Result<i32> {
        let consumer: BaseConsumer = self.client().create()?;
        let metadata = block_in_place(|| consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT));
        let topics = metadata.with_context(|| format!("describe {topic}"))?;
        let partitions = topics.topics().first().map_or(0, |topic| topic.partitions().len());
        Ok(i32::try_from(partitions)?)
    }

    fn consumer_from_the_beginning(&self, topic: &str) -> Result<BaseConsumer> {
        let consumer: BaseConsumer =
            self.client().set("group.id", "it").set("enable.auto.commit", "false").create()?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..self.partitions_of(topic)? {
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        Ok(consumer)
    }

    pub(super) fn producer(&self) -> Result<FutureProducer> {
        self.client().create().context("create a producer")
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    async fn delete_topics(&self) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let Topics { metrics, partials, aggregates, progress, dead_letters, ledger } = &self.topics;
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
        // Those that a test never created are answered one by one; that is no failure.
        admin
            .delete_topics(
                &[metrics, partials, aggregates, progress, dead_letters, ledger].map(String::as_str),
                &options,
            )
            .await?;
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if !self.shared {
            return;
        }
        if let Err(error) = block_in_place(|| Handle::current().block_on(self.delete_topics())) {
            eprintln!("the topics {}… stay: {error:#}", self.topics.metrics);
        }
    }
}

pub(super) async fn send(producer: &FutureProducer, record: FutureRecord<'_, str, [u8]>) -> Result<()> {
    let sent = producer.send(record, REQUEST_TIMEOUT).await;
    sent.map(|_| ()).map_err(|(error, _)| error).context("produce a record")
}

/// What has arrived, waiting a little for more.
fn drain(consumer: &BaseConsumer) -> Result<Vec<OwnedMessage>> {
    let mut messages = Vec::new();
    while let Some(message) = block_in_place(|| consumer.poll(Duration::from_millis(200))) {
        messages.push(message.context("consume a record")?.detach());
    }
    Ok(messages)
}

/// A header's text.
pub fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    use rdkafka::message::Headers as _;
    let headers = message.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    Some(String::from_utf8_lossy(found.value?).into_owned())
}
