//! Fills the raw topic with records like those of real services.

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use millrace_log::LogSettings;
use millrace_schemas::{EventTime, QueryMetric, RecordId, ServiceId, Status, WorkspaceId, key::record_key};
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer},
};
use std::time::Duration;
use uuid::Uuid;

const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Event time between two records: the whole of them spans some windows of every size.
const STEP_US: i64 = 150;
/// The size that the peers were measured with.
const RECORD_BYTES: usize = 387;

#[derive(Clone, Copy)]
pub(super) struct Fill {
    pub workspace: WorkspaceId,
    pub records: u32,
    pub keys: u32,
}

pub(super) fn run(log: &LogSettings, fill: Fill) -> anyhow::Result<()> {
    let producer: BaseProducer = log
        .producer(DELIVERY_TIMEOUT)
        .set("linger.ms", "20")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "1000000")
        .create()?;
    let bar = ProgressBar::new(u64::from(fill.records)).with_message("filling the topic");
    bar.set_style(ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec}")?);
    let first = EventTime::from(chrono::Utc::now()).as_micros() - i64::from(fill.records) * STEP_US;
    let topic = log.topics().metrics;
    for number in 0..fill.records {
        let completed_at = EventTime(first + i64::from(number) * STEP_US);
        let record = record(fill.workspace, fill.keys, number, completed_at);
        send(&producer, &topic, &record)?;
        if number % 10_000 == 0 {
            bar.set_position(u64::from(number));
        }
    }
    producer.flush(DELIVERY_TIMEOUT).context("waiting until the broker has all records")?;
    bar.finish_and_clear();
    Ok(())
}

fn send(producer: &BaseProducer, topic: &str, record: &QueryMetric) -> anyhow::Result<()> {
    let key = record_key(record.workspace_id, record.service_id);
    let payload = serde_json::to_vec(record)?;
    let mut message = BaseRecord::to(topic).key(&key).payload(&payload);
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
    ServiceId(Uuid::from_u128(u128::from(mix(number) % keys) + 1))
}

fn mix(number: u32) -> u32 {
    number.wrapping_mul(2_654_435_761).rotate_left(13)
}

fn pad(metric: &mut QueryMetric) {
    let bytes = serde_json::to_vec(metric).map_or(0, |bytes| bytes.len());
    metric.query_text.extend(std::iter::repeat_n('x', RECORD_BYTES.saturating_sub(bytes)));
}
