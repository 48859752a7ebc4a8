//! Records come back as they were sent, in order, with every codec.

use crate::harness::{Backend, drain, number, on_each_backend, record};
use anyhow::{Context as _, Result, ensure};
use millrace_broker::clock::now_ms;
use rdkafka::{
    Message as _, Offset, Timestamp,
    message::{Header, Headers as _, OwnedHeaders, OwnedMessage},
    producer::BaseRecord,
};
use std::{collections::BTreeMap, sync::LazyLock};

on_each_backend!(
    uncompressed,
    gzip,
    snappy,
    lz4,
    zstd,
    order_within_partitions,
    large,
    larger_than_a_fetch,
    times_of_the_broker,
);

const COUNT: usize = 500;
/// An hour ago: what is too old would not stay.
static FIRST_TIME: LazyLock<i64> = LazyLock::new(|| now_ms() - 3_600_000);

fn uncompressed(backend: &Backend) -> Result<()> {
    exactly_as_sent(backend, "none")
}

fn gzip(backend: &Backend) -> Result<()> {
    exactly_as_sent(backend, "gzip")
}

fn snappy(backend: &Backend) -> Result<()> {
    exactly_as_sent(backend, "snappy")
}

fn lz4(backend: &Backend) -> Result<()> {
    exactly_as_sent(backend, "lz4")
}

fn zstd(backend: &Backend) -> Result<()> {
    exactly_as_sent(backend, "zstd")
}

/// Keys, values, nulls, headers (doubled, null and empty ones too), times and offsets.
fn exactly_as_sent(backend: &Backend, codec: &str) -> Result<()> {
    let topic = backend.topic(1)?;
    let producer = backend.producer(&[("compression.type", codec)])?;
    for index in 0..COUNT {
        let (key, value) = (key_of(index), value_of(index));
        let mut record = BaseRecord::to(&topic).timestamp(time_of(index)).headers(headers_of(index));
        record.key = key.as_deref();
        record.payload = value.as_deref();
        producer.queue(record)?;
    }
    producer.delivered()?;
    let seen = backend.read(&topic, COUNT)?;
    ensure!(seen.len() == COUNT, "{} records", seen.len());
    for (index, message) in seen.iter().enumerate() {
        compare(index, message).with_context(|| format!("record {index}"))?;
    }
    Ok(())
}

fn key_of(index: usize) -> Option<Vec<u8>> {
    (!index.is_multiple_of(5)).then(|| format!("k{index}").into_bytes())
}

fn value_of(index: usize) -> Option<Vec<u8>> {
    (!index.is_multiple_of(7))
        .then(|| format!("{}{index}", "some words that compress well ".repeat(30)).into_bytes())
}

fn time_of(index: usize) -> i64 {
    *FIRST_TIME + i64::try_from(index).expect("it is small")
}

fn headers_of(index: usize) -> OwnedHeaders {
    let first = format!("x{index}");
    OwnedHeaders::new()
        .insert(Header { key: "h", value: Some(&first) })
        .insert(Header { key: "h", value: Some("again") })
        .insert(Header { key: "null", value: None::<&str> })
        .insert(Header { key: "empty", value: Some("") })
}

fn compare(index: usize, message: &OwnedMessage) -> Result<()> {
    ensure!(message.offset() == i64::try_from(index)?, "offset {}", message.offset());
    ensure!(message.key() == key_of(index).as_deref(), "key {:?}", message.key());
    ensure!(message.payload() == value_of(index).as_deref(), "value {:?}", message.payload());
    ensure!(message.timestamp() == Timestamp::CreateTime(time_of(index)), "{:?}", message.timestamp());
    let got: Vec<_> = message.headers().context("no headers")?.iter().map(pair).collect();
    let sent = headers_of(index);
    let sent: Vec<_> = sent.iter().map(pair).collect();
    ensure!(got == sent, "{got:?}");
    Ok(())
}

fn pair<'a>(header: Header<'a, &'a [u8]>) -> (&'a str, Option<&'a [u8]>) {
    (header.key, header.value)
}

fn order_within_partitions(backend: &Backend) -> Result<()> {
    let topic = backend.topic(4)?;
    let producer = backend.producer(&[])?;
    for index in 0..5000 {
        let (key, value) = (format!("k{}", index % 50), index.to_string());
        producer.queue(record(&topic, key.as_bytes(), value.as_bytes()))?;
    }
    producer.delivered()?;
    let all: Vec<_> = (0..4).map(|partition| (partition, Offset::Beginning)).collect();
    let seen = drain(&backend.reader(&topic, &all, &[])?, 5000)?;
    ensure!(seen.len() == 5000, "{} records", seen.len());
    let (mut next, mut last) = (BTreeMap::new(), BTreeMap::new());
    for message in &seen {
        let expected = next.entry(message.partition()).or_insert(0);
        ensure!(message.offset() == *expected, "{} and not {expected}", message.offset());
        *expected += 1;
        let value = number(message)?;
        let before = last.insert(message.key().map(<[u8]>::to_vec), value);
        ensure!(before < Some(value), "{value} after {before:?}");
    }
    Ok(())
}

fn large(backend: &Backend) -> Result<()> {
    let topic = backend.topic(1)?;
    let producer = backend.producer(&[])?;
    for index in 0..3 {
        producer.queue(record(&topic, b"k", &[index; 900_000]))?;
    }
    producer.delivered()?;
    let seen = backend.read(&topic, 3)?;
    for (index, message) in (0..3).zip(&seen) {
        ensure!(message.payload() == Some(&[index; 900_000][..]), "record {index}");
    }
    Ok(())
}

/// A consumer gets ahead even where one batch is larger than what it wants at once.
fn larger_than_a_fetch(backend: &Backend) -> Result<()> {
    let topic = backend.topic(1)?;
    let producer = backend.producer(&[])?;
    for _ in 0..4 {
        producer.queue(record(&topic, b"k", &[7; 300_000]))?;
    }
    producer.delivered()?;
    let small =
        [("fetch.message.max.bytes", "2000"), ("fetch.max.bytes", "4000"), ("message.max.bytes", "2000")];
    let seen = drain(&backend.reader(&topic, &[(0, Offset::Beginning)], &small)?, 4)?;
    ensure!(seen.len() == 4);
    Ok(())
}

fn times_of_the_broker(backend: &Backend) -> Result<()> {
    let topic = backend.topic_with(1, &[("message.timestamp.type", "LogAppendTime")])?;
    let producer = backend.producer(&[("compression.type", "lz4")])?;
    producer.queue(record(&topic, b"k", b"v").timestamp(*FIRST_TIME))?;
    producer.delivered()?;
    let seen = backend.read(&topic, 1)?;
    match seen[0].timestamp() {
        Timestamp::LogAppendTime(time) if time > *FIRST_TIME => Ok(()),
        other => anyhow::bail!("{other:?}"),
    }
}
