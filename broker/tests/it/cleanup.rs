//! Records that go: deleted by hand, too old, too many, superseded.

use crate::harness::{Backend, Kind, PATIENCE, drain, on_each_backend, record, say_skipped, until};
use anyhow::{Context as _, Result, ensure};
use rdkafka::{Message as _, Offset, message::OwnedMessage, producer::BaseRecord};
use std::{collections::BTreeMap, time::Duration};

on_each_backend!(records_deleted, too_old, too_many, superseded, compacted_without_a_key);

/// Kafka's cleaner rests 15 s between its rounds.
const CLEANED: Duration = Duration::from_secs(110);

fn records_deleted(backend: &Backend) -> Result<()> {
    let topic = backend.topic(1)?;
    backend.produce(&topic, 100)?;
    let before = crate::harness::list(&topic, &[(0, Offset::Offset(40))])?;
    let deleted = backend.block_on(backend.admin()?.delete_records(&before, &backend.options()))?;
    ensure!(deleted.find_partition(&topic, 0).is_some_and(|found| found.error().is_ok()), "{deleted:?}");
    ensure!(backend.watermarks(&topic, 0)? == (40, 100));
    let seen = backend.read(&topic, 60)?;
    ensure!(seen.iter().map(|message| message.offset()).eq(40..100));
    let consumer = backend.reader(&topic, &[(0, Offset::Offset(7))], &[])?;
    ensure!(drain(&consumer, 1)?[0].offset() == 40, "what is deleted is out of range");
    Ok(())
}

fn too_old(backend: &Backend) -> Result<()> {
    if backend.kind == Kind::Kafka {
        say_skipped("cleanup::too_old on Kafka", "it looks every five minutes only");
        return Ok(());
    }
    let topic = backend.topic_with(1, &[("retention.ms", "500"), ("segment.ms", "100")])?;
    backend.produce(&topic, 100)?;
    until("all is gone", PATIENCE, || {
        let watermarks = backend.watermarks(&topic, 0)?;
        ensure!(watermarks == (100, 100), "{watermarks:?}");
        Ok(())
    })?;
    let delivered = backend.produce(&topic, 1)?;
    ensure!(delivered[0].offset == 100, "{delivered:?}");
    Ok(())
}

fn too_many(backend: &Backend) -> Result<()> {
    if backend.kind == Kind::Kafka {
        say_skipped("cleanup::too_many on Kafka", "it looks every five minutes only");
        return Ok(());
    }
    let sizes = [("retention.bytes", "2097152"), ("segment.bytes", "1048576")];
    let topic = backend.topic_with(1, &sizes)?;
    let producer = backend.producer(&[])?;
    for _ in 0..100 {
        producer.queue(record(&topic, b"k", &[7; 100_000]))?;
    }
    producer.delivered()?;
    until("it is no larger than wanted", PATIENCE, || {
        let (low, high) = backend.watermarks(&topic, 0)?;
        ensure!(high == 100 && (60..90).contains(&low), "{low}..{high}");
        Ok(())
    })?;
    let (low, _) = backend.watermarks(&topic, 0)?;
    let seen = backend.read(&topic, usize::try_from(100 - low)?)?;
    ensure!(seen.last().is_some_and(|message| message.offset() == 99));
    Ok(())
}

/// Of each key the last value stays, at its offset; the end stays where it was.
fn superseded(backend: &Backend) -> Result<()> {
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", "0"),
    ];
    let topic = backend.topic_with(1, &settings)?;
    for round in 0..3 {
        let producer = backend.producer(&[("compression.type", "lz4")])?;
        for index in 0..100 {
            let (key, value) = (format!("k{}", index % 10), format!("{round}-{index}"));
            producer.queue(record(&topic, key.as_bytes(), value.as_bytes()))?;
        }
        producer.delivered()?;
    }
    let latest = latest_values(&all(backend, &topic)?);
    // The segment written last is not compacted: something must come after what is to be.
    until("what is superseded is gone", CLEANED, || {
        backend.produce(&topic, 1)?;
        let seen = all(backend, &topic)?;
        let old = seen.iter().filter(|message| message.offset() < 290).count();
        ensure!(old == 0, "{old} superseded records");
        Ok(())
    })?;
    let seen = all(backend, &topic)?;
    let mut after = latest_values(&seen);
    after.insert(b"k0".to_vec(), latest[&b"k0".to_vec()].clone()); // written again above
    ensure!(after == latest, "{after:?}");
    ensure!(seen.is_sorted_by_key(|message| message.offset()));
    Ok(())
}

/// All records before the end.
fn all(backend: &Backend, topic: &str) -> Result<Vec<OwnedMessage>> {
    let end = backend.watermarks(topic, 0)?.1;
    let consumer = backend.reader(topic, &[(0, Offset::Beginning)], &[])?;
    let mut messages = drain(&consumer, 1)?;
    while messages.last().is_some_and(|message| message.offset() + 1 < end) {
        messages.extend(drain(&consumer, 1)?);
    }
    Ok(messages)
}

fn latest_values(messages: &[OwnedMessage]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let pair = |message: &OwnedMessage| Some((message.key()?.to_vec(), message.payload()?.to_vec()));
    messages.iter().filter_map(pair).collect()
}

fn compacted_without_a_key(backend: &Backend) -> Result<()> {
    let topic = backend.topic_with(1, &[("cleanup.policy", "compact")])?;
    let producer = backend.producer(&[])?;
    producer.queue(BaseRecord::to(&topic).payload(b"no key"))?;
    producer.flush()?;
    let deliveries = producer.deliveries();
    let error = deliveries.first().and_then(|delivery| delivery.error.clone());
    let code = error.context("it was accepted")?.rdkafka_error_code();
    ensure!(code == Some(rdkafka::error::RDKafkaErrorCode::InvalidRecord), "{code:?}");
    ensure!(backend.watermarks(&topic, 0)? == (0, 0));
    Ok(())
}
