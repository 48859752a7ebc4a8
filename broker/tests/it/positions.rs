//! Where a consumer stands: watermarks, seeking, offsets of times, waiting at the end.

use crate::harness::{Backend, drain, list, offset_of, on_each_backend, record};
use anyhow::{Context as _, Result, ensure};
use rdkafka::{Message as _, Offset, consumer::Consumer as _};
use std::time::Duration;

on_each_backend!(
    watermarks,
    from_the_end,
    seeking,
    out_of_range,
    amid_a_batch,
    offsets_of_times,
    waits_at_the_end,
);

const REQUEST: Duration = Duration::from_secs(30);

fn watermarks(backend: &Backend) -> Result<()> {
    let topic = backend.topic(1)?;
    ensure!(backend.watermarks(&topic, 0)? == (0, 0));
    backend.produce(&topic, 100)?;
    ensure!(backend.watermarks(&topic, 0)? == (0, 100));
    Ok(())
}

fn from_the_end(backend: &Backend) -> Result<()> {
    let topic = backend.topic(1)?;
    backend.produce(&topic, 100)?;
    let consumer = backend.reader(&topic, &[(0, Offset::End)], &[("enable.partition.eof", "true")])?;
    let end = consumer.poll(REQUEST).context("nothing")?;
    ensure!(matches!(end, Err(rdkafka::error::KafkaError::PartitionEOF(0))), "not the end first");
    backend.produce(&topic, 1)?;
    ensure!(drain(&consumer, 1)?[0].offset() == 100);
    Ok(())
}

fn seeking(backend: &Backend) -> Result<()> {
    let topic = backend.topic(1)?;
    backend.produce(&topic, 100)?;
    let consumer = backend.reader(&topic, &[(0, Offset::Offset(99))], &[])?;
    ensure!(drain(&consumer, 1)?[0].offset() == 99);
    for (to, expected) in [(Offset::Beginning, 0), (Offset::Offset(57), 57), (Offset::OffsetTail(10), 90)] {
        consumer.seek(&topic, 0, to, REQUEST)?;
        let seen = drain(&consumer, 1)?[0].offset();
        ensure!(seen == expected, "{to:?}: {seen}");
    }
    Ok(())
}

fn out_of_range(backend: &Backend) -> Result<()> {
    let topic = backend.topic(1)?;
    backend.produce(&topic, 100)?;
    let consumer = backend.reader(&topic, &[(0, Offset::Offset(5000))], &[])?;
    ensure!(drain(&consumer, 1)?[0].offset() == 0);
    Ok(())
}

fn amid_a_batch(backend: &Backend) -> Result<()> {
    let topic = backend.topic(1)?;
    let producer = backend.producer(&[("linger.ms", "500"), ("compression.type", "lz4")])?;
    producer.queue_numbered(&topic, 1000)?;
    producer.delivered()?;
    let seen = drain(&backend.reader(&topic, &[(0, Offset::Offset(501))], &[])?, 499)?;
    ensure!(seen.iter().map(|message| message.offset()).eq(501..1000));
    Ok(())
}

fn offsets_of_times(backend: &Backend) -> Result<()> {
    let (topic, base) = (backend.topic(1)?, millrace_broker::clock::now_ms() - 10_000_000);
    let producer = backend.producer(&[])?;
    for index in 0..100 {
        producer.queue(record(&topic, b"k", b"v").timestamp(base + index * 1000))?;
        if index % 10 == 9 {
            producer.delivered()?;
        }
    }
    let consumer = backend.consumer("times", &[])?;
    for (time, expected) in [
        (base - 5, Some(0)),
        (base, Some(0)),
        (base + 41_500, Some(42)),
        (base + 50_000, Some(50)),
        (base + 99_000, Some(99)),
        (base + 99_001, None),
    ] {
        let found = consumer.offsets_for_times(list(&topic, &[(0, Offset::Offset(time))])?, REQUEST)?;
        let found = offset_of(&found, &topic, 0);
        ensure!(found == expected, "{}: {found:?}", time - base);
    }
    Ok(())
}

/// A record arrives while the consumer waits for it, again and again.
fn waits_at_the_end(backend: &Backend) -> Result<()> {
    let topic = backend.topic(1)?;
    // Were it not for the record, the broker would answer after this time only.
    let patient = [("fetch.wait.max.ms", "20000"), ("socket.timeout.ms", "60000")];
    let consumer = backend.reader(&topic, &[(0, Offset::Beginning)], &patient)?;
    let producer = backend.producer(&[("linger.ms", "0")])?;
    for index in 0..5 {
        producer.queue_numbered(&topic, 1)?;
        ensure!(drain(&consumer, 1)?[0].offset() == index);
    }
    Ok(())
}
