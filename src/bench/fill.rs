//! Fills the raw topic with records like those of real services.

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use millrace_log::LogSettings;
use millrace_schemas::{
    EventTime, QueryMetric, RecordId, ServiceId, Status, Window, WorkspaceId, key::record_key,
};
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde::{Deserialize, Serialize};
use std::{collections::HashSet, time::Duration};
use uuid::Uuid;

const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long before now the last record was: the windows of all of them have ended.
const AGE_US: i64 = 6 * 60 * 1_000_000;
/// Event time between two records: the whole of them spans some windows of every size.
const STEP_US: i64 = 150;
/// The size that the peers were measured with.
pub(super) const RECORD_BYTES: usize = 387;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Fill {
    /// Each service belongs to one of them.
    pub workspaces: Vec<WorkspaceId>,
    pub records: u32,
    pub keys: u32,
}

/// The event time of the first record.
pub(super) fn send_all(log: &LogSettings, fill: &Fill) -> anyhow::Result<EventTime> {
    let producer: BaseProducer = log
        .producer(DELIVERY_TIMEOUT)
        .set("linger.ms", "20")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "1000000")
        .create()?;
    let bar = ProgressBar::new(u64::from(fill.records)).with_message("filling the topic");
    bar.set_style(ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec}")?);
    let last = EventTime::from(chrono::Utc::now()).as_micros() - AGE_US;
    let first = EventTime(last - i64::from(fill.records) * STEP_US);
    let topic = log.topics().metrics;
    for number in 0..fill.records {
        let partition = fill.partition(number, log.topic_partitions);
        send(&producer, &topic, partition, &fill.record(number, first))?;
        if number % 10_000 == 0 {
            bar.set_position(u64::from(number));
        }
    }
    producer.flush(DELIVERY_TIMEOUT).context("waiting until the broker has all records")?;
    bar.finish_and_clear();
    Ok(first)
}

impl Fill {
    fn record(&self, number: u32, first: EventTime) -> QueryMetric {
        let service = index(self.keys, number) as usize;
        let workspace = self.workspaces[service % self.workspaces.len()];
        record(workspace, self.keys, number, at(number, first))
    }

    /// The services of each workspace go to all partitions, to each as many as whole ones can: chance would give some
    /// partitions half as many again as others, and in each run others.
    fn partition(&self, number: u32, partitions: i32) -> i32 {
        let (service, workspaces) = (index(self.keys, number) as usize, self.workspaces.len());
        let partition = (service / workspaces + service % workspaces) % partitions.unsigned_abs() as usize;
        i32::try_from(partition).expect("less than an i32")
    }

    /// How many rows the windows of all sizes have together, where the first record is of that time.
    pub fn rows(&self, first: EventTime) -> u64 {
        let rows = Window::ALL.map(|window| {
            let row = |number| (index(self.keys, number), window.start_of(at(number, first)));
            let rows: HashSet<_> = (0..self.records).map(row).collect();
            rows.len() as u64
        });
        rows.iter().sum()
    }
}

fn at(number: u32, first: EventTime) -> EventTime {
    EventTime(first.as_micros() + i64::from(number) * STEP_US)
}

fn send(producer: &BaseProducer, topic: &str, partition: i32, record: &QueryMetric) -> anyhow::Result<()> {
    let key = record_key(record.workspace_id, record.service_id);
    let payload = serde_json::to_vec(record)?;
    let mut message = BaseRecord::to(topic).partition(partition).key(&key).payload(&payload);
    loop {
        match producer.send(message) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.poll(Duration::from_millis(50));
                message = back;
            }
            Err((error, _)) => return Err(error).context("filling the topic"),
        }
    }
}

/// Record `number`: which service, how it ended and how long it took follow from the number.
pub(super) fn record(workspace: WorkspaceId, keys: u32, number: u32, completed_at: EventTime) -> QueryMetric {
    let mixed = mix(number);
    let duration_ms = f64::from(mixed % 100_000) / 1000.0;
    let mut metric = QueryMetric {
        id: RecordId(Uuid::new_v4()),
        workspace_id: workspace,
        service_id: service(keys, number),
        query_text: "SELECT id, total FROM orders WHERE customer = $1".to_owned(),
        status: if mixed.is_multiple_of(50) { Status::Failed } else { Status::Success },
        duration_ms: Some(duration_ms),
        rows_affected: Some(i64::from(mixed % 20)),
        error_message: None,
        started_at: EventTime(completed_at.as_micros() - i64::from(mixed % 100_000)),
        completed_at,
        tags: vec!["read".to_owned()],
    };
    pad(&mut metric);
    metric
}

/// The service of record `number`, one of so many.
pub(super) fn service(keys: u32, number: u32) -> ServiceId {
    ServiceId(Uuid::from_u128(u128::from(index(keys, number)) + 1))
}

fn index(keys: u32, number: u32) -> u32 {
    mix(number) % keys
}

fn mix(number: u32) -> u32 {
    number.wrapping_mul(2_654_435_761).rotate_left(13)
}

fn pad(metric: &mut QueryMetric) {
    let bytes = serde_json::to_vec(metric).map_or(0, |bytes| bytes.len());
    metric.query_text.extend(std::iter::repeat_n('x', RECORD_BYTES.saturating_sub(bytes)));
}
