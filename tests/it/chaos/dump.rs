//! Topics as files of JSON lines, for others to judge.

use crate::harness::{PATIENCE, header};
use anyhow::{Context as _, Result, ensure};
use millrace_log::is_closing;
use millrace_schemas::{
    dead_letter::{REASON, SOURCE_OFFSET, SOURCE_PARTITION},
    ledger::EDGE_END,
};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::OwnedMessage,
};
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    time::{Duration, Instant},
};
use tokio::task::block_in_place;

const ASK_LIMIT: Duration = Duration::from_secs(10);

/// The raw records.
pub fn raw(brokers: &str, topic: &str, to: &Path) -> Result<()> {
    dump(brokers, topic, to, |message| {
        let mut line = content(message);
        line["partition"] = message.partition().into();
        line["offset"] = message.offset().into();
        line["time_ms"] = message.timestamp().to_millis().into();
        line["edge"] = message.payload().is_some_and(|value| value.ends_with(EDGE_END)).into();
        Ok(line)
    })
}

/// The dead letters, with where they came from.
pub fn letters(brokers: &str, topic: &str, to: &Path) -> Result<()> {
    dump(brokers, topic, to, |message| {
        let text = |name| header(message, name).with_context(|| format!("a dead letter without {name}"));
        let mut line = content(message);
        line["letter"] = json!([message.partition(), message.offset(), message.timestamp().to_millis()]);
        line["reason"] = text(REASON)?.into();
        line["partition"] = text(SOURCE_PARTITION)?.parse::<i32>()?.into();
        line["offset"] = text(SOURCE_OFFSET)?.parse::<i64>()?.into();
        Ok(line)
    })
}

/// `bytes` is -1 where there is no value; what is not UTF-8 is in `hex`.
fn content(message: &OwnedMessage) -> Value {
    let payload = message.payload();
    let text = payload.and_then(|bytes| std::str::from_utf8(bytes).ok());
    let hex = payload.filter(|_| text.is_none());
    let hex = hex.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    json!({ "bytes": payload.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX)), "text": text, "hex": hex })
}

/// All committed records of a topic.
fn dump(brokers: &str, topic: &str, to: &Path, line: impl Fn(&OwnedMessage) -> Result<Value>) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "chaos")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()?;
    let metadata = block_in_place(|| consumer.fetch_metadata(Some(topic), ASK_LIMIT))?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    ensure!(partitions > 0, "{topic} has no partitions");
    let mut assignment = TopicPartitionList::new();
    for partition in 0..i32::try_from(partitions)? {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut file = BufWriter::new(File::create(to)?);
    let (mut at_end, deadline) = (0, Instant::now() + PATIENCE);
    while at_end < partitions {
        ensure!(Instant::now() < deadline, "{topic} could not be read in {PATIENCE:?}");
        match block_in_place(|| consumer.poll(Duration::from_secs(1))) {
            Some(Ok(message)) if is_closing(&message) => {}
            Some(Ok(message)) => {
                serde_json::to_writer(&mut file, &line(&message.detach())?)?;
                file.write_all(b"\n")?;
            }
            Some(Err(KafkaError::PartitionEOF(_))) => at_end += 1,
            Some(Err(error)) => return Err(error).with_context(|| format!("read {topic}")),
            None => {}
        }
    }
    Ok(file.flush()?)
}
