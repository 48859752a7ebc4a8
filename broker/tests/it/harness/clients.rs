//! librdkafka's producer, consumer and admin client, set up as the checks want them.

use super::{Backend, PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance},
    error::{KafkaError, RDKafkaErrorCode},
    message::OwnedMessage,
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
};
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const REQUEST: Duration = Duration::from_secs(30);

/// What became of one record.
#[derive(Debug)]
pub struct Delivery {
    pub partition: i32,
    pub offset: i64,
    pub payload: Vec<u8>,
    pub error: Option<KafkaError>,
}

/// Collects what became of the records.
#[derive(Default)]
pub struct Deliveries(Mutex<Vec<Delivery>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let (message, error) = match result {
            Ok(message) => (message, None),
            Err((error, message)) => (message, Some(error.clone())),
        };
        let delivery = Delivery {
            partition: message.partition(),
            offset: message.offset(),
            payload: message.payload().unwrap_or_default().to_vec(),
            error,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(delivery);
    }
}

pub struct Producer(pub ThreadedProducer<Deliveries>);

impl Producer {
    /// Queues a record; waits where the queue is full.
    pub fn queue(&self, record: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut record = record;
        loop {
            match self.0.send(record) {
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if Instant::now() < deadline =>
                {
                    record = back;
                    self.0.flush(Duration::from_millis(10)).or_else(timed_out)?;
                }
                sent => return sent.map_err(|(error, _)| error).context("queue a record"),
            }
        }
    }

    /// Queues `count` records with the keys k0… and the values v0….
    pub fn queue_numbered(&self, topic: &str, count: usize) -> Result<()> {
        for number in 0..count {
            let (key, value) = (format!("k{number}"), format!("v{number}"));
            self.queue(record(topic, key.as_bytes(), value.as_bytes()))?;
        }
        Ok(())
    }

    pub fn flush(&self) -> Result<()> {
        self.0.flush(PATIENCE).context("flush")
    }

    /// What became of the records so far, taken away.
    pub fn deliveries(&self) -> Vec<Delivery> {
        std::mem::take(&mut *self.0.context().0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until all are acknowledged; where each is.
    pub fn delivered(&self) -> Result<Vec<Delivery>> {
        self.flush()?;
        let deliveries = self.deliveries();
        let failed = deliveries.iter().find(|delivery| delivery.error.is_some());
        ensure!(failed.is_none(), "not delivered: {failed:?}");
        Ok(deliveries)
    }
}

fn timed_out(error: KafkaError) -> Result<(), KafkaError> {
    match error {
        KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut) => Ok(()),
        error => Err(error),
    }
}

/// Counts rebalances.
#[derive(Default)]
pub struct Rebalances {
    pub revoked: Mutex<u32>,
}

impl ClientContext for Rebalances {}

impl ConsumerContext for Rebalances {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance
            && partitions.count() > 0
        {
            *self.revoked.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        }
    }
}

pub type Consumer = BaseConsumer<Rebalances>;

impl Backend {
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("reconnect.backoff.ms", "10")
            .set("reconnect.backoff.max.ms", "200");
        config
    }

    pub fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        self.client().create().context("create an admin client")
    }

    pub fn options(&self) -> AdminOptions {
        AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST))
    }

    /// A new topic with this many partitions; its name.
    pub fn topic(&self, partitions: i32) -> Result<String> {
        self.topic_with(partitions, &[])
    }

    pub fn topic_with(&self, partitions: i32, settings: &[(&str, &str)]) -> Result<String> {
        let name = self.unique("t");
        self.create(&name, partitions, settings)?;
        Ok(name)
    }

    pub fn create(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let results = self.block_on(self.admin()?.create_topics([&topic], &self.options()))?;
        let result = results.into_iter().next().context("no answer to create a topic")?;
        result.map(drop).map_err(|(_, code)| KafkaError::AdminOp(code)).context("create a topic")
    }

    /// An idempotent producer that waits for all acknowledgements, with these settings on top.
    pub fn producer(&self, settings: &[(&str, &str)]) -> Result<Producer> {
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "5")
            .set("message.timeout.ms", "60000");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        config.create_with_context(Deliveries::default()).map(Producer).context("create a producer")
    }

    /// Produces `count` numbered records.
    pub fn produce(&self, topic: &str, count: usize) -> Result<Vec<Delivery>> {
        let producer = self.producer(&[])?;
        producer.queue_numbered(topic, count)?;
        producer.delivered()
    }

    pub fn transactional(&self, id: &str, timeout_ms: u32) -> Result<Producer> {
        let timeout = timeout_ms.to_string();
        let settings = [("transactional.id", id), ("transaction.timeout.ms", timeout.as_str())];
        let settings = settings.into_iter().chain([("message.timeout.ms", timeout.as_str())]);
        let producer = self.producer(&settings.collect::<Vec<_>>())?;
        producer.0.init_transactions(PATIENCE).context("init transactions")?;
        Ok(producer)
    }

    /// A consumer of a group, from the beginning, committing only when told to.
    pub fn consumer(&self, group: &str, settings: &[(&str, &str)]) -> Result<Consumer> {
        let mut config = self.client();
        config
            .set("group.id", group)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "500");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        config.create_with_context(Rebalances::default()).context("create a consumer")
    }

    /// A consumer in no group, on these partitions from these offsets.
    pub fn reader(&self, topic: &str, from: &[(i32, Offset)], settings: &[(&str, &str)]) -> Result<Consumer> {
        let consumer = self.consumer(&self.unique("reader"), settings)?;
        consumer.assign(&list(topic, from)?)?;
        Ok(consumer)
    }

    /// All that partition 0 shows from its beginning, waiting for `count` records.
    pub fn read(&self, topic: &str, count: usize) -> Result<Vec<OwnedMessage>> {
        drain(&self.reader(topic, &[(0, Offset::Beginning)], &[])?, count)
    }

    /// Waits until all that was acknowledged is shown: the embedded broker shows what is on the disk, and tells the ends
    /// of its partitions only when that is so.
    pub fn settled(&self, topic: &str, partitions: usize) -> Result<()> {
        (0..i32::try_from(partitions)?).try_for_each(|partition| self.watermarks(topic, partition).map(drop))
    }

    pub fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        let consumer = self.consumer("watermarks", &[])?;
        consumer.fetch_watermarks(topic, partition, REQUEST).context("watermarks")
    }
}

pub fn record<'a>(topic: &'a str, key: &'a [u8], value: &'a [u8]) -> BaseRecord<'a, [u8], [u8]> {
    BaseRecord::to(topic).key(key).payload(value)
}

pub fn list(topic: &str, partitions: &[(i32, Offset)]) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in partitions {
        list.add_partition_offset(topic, *partition, *offset)?;
    }
    Ok(list)
}

/// The offset of a partition in a list; None where there is none.
pub fn offset_of(list: &TopicPartitionList, topic: &str, partition: i32) -> Option<i64> {
    match list.find_partition(topic, partition)?.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

/// Waits for `count` records; more than that may come where they arrive together.
pub fn drain<C: ConsumerContext>(consumer: &BaseConsumer<C>, count: usize) -> Result<Vec<OwnedMessage>> {
    let mut messages = Vec::new();
    until(&format!("{count} records"), PATIENCE, || {
        while messages.len() < count
            && let Some(message) = consumer.poll(Duration::from_millis(100))
        {
            messages.push(message.context("consume")?.detach());
        }
        ensure!(messages.len() >= count, "there are {}", messages.len());
        Ok(())
    })?;
    Ok(messages)
}

/// The number in a value such as `v12`.
pub fn number(message: &OwnedMessage) -> Result<u64> {
    let payload = std::str::from_utf8(message.payload().context("no value")?)?;
    payload.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().with_context(|| payload.to_owned())
}
