//! Transactions: seen whole or not at all, fenced, timed out, exactly once.

use crate::harness::{
    Backend, PATIENCE, Producer, Random, drain, list, number, offset_of, on_each_backend, record, until,
};
use anyhow::{Context as _, Result, ensure};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode},
    message::OwnedMessage,
    producer::Producer as _,
};
use std::time::Duration;

on_each_backend!(
    committed_and_aborted,
    open_is_not_visible,
    fenced,
    exactly_once,
    timed_out,
    offsets_of_an_aborted_one,
);

const TIMEOUT_MS: u32 = 60_000;
const REQUEST: Duration = Duration::from_secs(30);

fn committed_and_aborted(backend: &Backend) -> Result<()> {
    let topic = backend.topic(2)?;
    let producer = backend.transactional(&backend.unique("tx"), TIMEOUT_MS)?;
    for (tag, count, commits) in
        [("c1", 10, true), ("a1", 10, false), ("c2", 10, true), ("a2", 7, false), ("c3", 5, true)]
    {
        producer.0.begin_transaction()?;
        for index in 0..count {
            let (key, value) = (format!("k{index}"), format!("{tag}-{index}"));
            producer.queue(record(&topic, key.as_bytes(), value.as_bytes()))?;
        }
        producer.delivered()?;
        match commits {
            true => producer.0.commit_transaction(PATIENCE)?,
            false => producer.0.abort_transaction(PATIENCE)?,
        }
    }
    let all = [(0, Offset::Beginning), (1, Offset::Beginning)];
    let committed = read_to_the_end(backend, &topic, &all, "read_committed")?;
    ensure!(committed.len() == 25, "{} committed", committed.len());
    let aborted = committed.iter().find(|message| message.payload().is_none_or(|value| value[0] == b'a'));
    ensure!(aborted.is_none(), "{aborted:?}");
    let everything = read_to_the_end(backend, &topic, &all, "read_uncommitted")?;
    ensure!(everything.len() == 42, "{} in all", everything.len());
    Ok(())
}

/// All records that partitions show before their ends.
fn read_to_the_end(
    backend: &Backend,
    topic: &str,
    from: &[(i32, Offset)],
    isolation: &str,
) -> Result<Vec<OwnedMessage>> {
    let settings = [("isolation.level", isolation), ("enable.partition.eof", "true")];
    backend.settled(topic, from.len())?;
    let consumer = backend.reader(topic, from, &settings)?;
    let (mut messages, mut ends) = (Vec::new(), 0);
    while ends < from.len() {
        match consumer.poll(PATIENCE).context("neither record nor end")? {
            Ok(message) => messages.push(message.detach()),
            Err(KafkaError::PartitionEOF(_)) => ends += 1,
            Err(error) => return Err(error).context("consume"),
        }
    }
    Ok(messages)
}

/// What is open hides itself and what comes later from those that read what is committed.
fn open_is_not_visible(backend: &Backend) -> Result<()> {
    let topic = backend.topic(1)?;
    backend.produce(&topic, 3)?;
    let producer = backend.transactional(&backend.unique("tx"), TIMEOUT_MS)?;
    producer.0.begin_transaction()?;
    producer.queue(record(&topic, b"k", b"open"))?;
    producer.delivered()?;
    backend.produce(&topic, 2)?;
    let seen = read_to_the_end(backend, &topic, &[(0, Offset::Beginning)], "read_committed")?;
    ensure!(seen.len() == 3, "{} while it is open", seen.len());
    let seen = read_to_the_end(backend, &topic, &[(0, Offset::Beginning)], "read_uncommitted")?;
    ensure!(seen.len() == 6, "{} uncommitted", seen.len());
    let waiting = backend.reader(&topic, &[(0, Offset::Offset(3))], &[("fetch.wait.max.ms", "20000")])?;
    producer.0.commit_transaction(PATIENCE)?;
    let values: Vec<_> =
        drain(&waiting, 3)?.iter().map(|message| message.payload().map(<[u8]>::to_vec)).collect();
    ensure!(values == [&b"open"[..], b"v0", b"v1"].map(|value| Some(value.to_vec())), "{values:?}");
    Ok(())
}

fn fenced(backend: &Backend) -> Result<()> {
    let (topic, id) = (backend.topic(1)?, backend.unique("tx"));
    let zombie = backend.transactional(&id, TIMEOUT_MS)?;
    zombie.0.begin_transaction()?;
    zombie.queue(record(&topic, b"k", b"zombie"))?;
    zombie.delivered()?;
    let producer = backend.transactional(&id, TIMEOUT_MS)?;
    producer.0.begin_transaction()?;
    producer.queue(record(&topic, b"k", b"living"))?;
    producer.0.commit_transaction(PATIENCE)?;
    let result = zombie.0.commit_transaction(PATIENCE);
    let code = match &result {
        Err(KafkaError::Transaction(error)) => Some(error.code()),
        _ => None,
    };
    let expected =
        [RDKafkaErrorCode::Fenced, RDKafkaErrorCode::ProducerFenced, RDKafkaErrorCode::InvalidProducerEpoch];
    ensure!(code.is_some_and(|code| expected.contains(&code)), "{result:?}");
    let seen = read_to_the_end(backend, &topic, &[(0, Offset::Beginning)], "read_committed")?;
    ensure!(seen.len() == 1 && seen[0].payload() == Some(b"living"), "{seen:?}");
    Ok(())
}

/// Consume, transform, produce; now and then the process aborts or vanishes and begins anew from what was committed.
fn exactly_once(backend: &Backend) -> Result<()> {
    const RECORDS: usize = 300;
    let (source, target) = (backend.topic(2)?, backend.topic(1)?);
    let (group, id) = (backend.unique("g"), backend.unique("tx"));
    backend.produce(&source, RECORDS)?;
    let mut random = Random::new(1);
    let mut lives = 0;
    while copied(backend, &group, &source)? < RECORDS {
        lives += 1;
        ensure!(lives < 100, "no end after {lives} lives");
        one_life(backend, [&source, &target], [&group, &id], &mut random)?;
    }
    let seen = read_to_the_end(backend, &target, &[(0, Offset::Beginning)], "read_committed")?;
    let mut numbers = seen.iter().map(number).collect::<Result<Vec<_>>>()?;
    numbers.sort_unstable();
    ensure!(numbers.iter().copied().eq(0..300), "{} records, not each once", numbers.len());
    ensure!(lives > 1, "nothing was interrupted");
    Ok(())
}

/// How many records the group has committed.
fn copied(backend: &Backend, group: &str, source: &str) -> Result<usize> {
    let consumer = backend.consumer(group, &[])?;
    let asked = list(source, &[(0, Offset::Invalid), (1, Offset::Invalid)])?;
    match consumer.committed_offsets(asked, Duration::from_secs(2)) {
        Ok(found) => {
            Ok([0, 1].iter().filter_map(|p| offset_of(&found, source, *p)).sum::<i64>().try_into()?)
        }
        // Those of a transaction left open are not stable: the next life ends it.
        Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::OperationTimedOut) => Ok(0),
        Err(error) => Err(error).context("committed offsets"),
    }
}

fn one_life(backend: &Backend, topics: [&str; 2], [group, id]: [&str; 2], random: &mut Random) -> Result<()> {
    let [source, target] = topics;
    let producer = backend.transactional(id, TIMEOUT_MS)?;
    let consumer = backend.consumer(group, &[])?;
    consumer.assign(&list(source, &[(0, Offset::Stored), (1, Offset::Stored)])?)?;
    while copied(backend, group, source)? < 300 {
        let messages = some(&consumer, 40)?;
        producer.0.begin_transaction()?;
        for message in &messages {
            let value = message.payload().context("a value")?;
            producer.queue(record(target, b"k", value))?;
        }
        let metadata = consumer.group_metadata().context("group metadata")?;
        producer.0.send_offsets_to_transaction(&positions(&messages, source)?, &metadata, REQUEST)?;
        match random.below(8) {
            0 => return producer.0.abort_transaction(PATIENCE).context("abort"),
            1 => return Ok(()),
            _ => producer.0.commit_transaction(PATIENCE)?,
        }
    }
    Ok(())
}

/// At least one record, and what has come with it.
fn some(consumer: &crate::harness::Consumer, most: usize) -> Result<Vec<OwnedMessage>> {
    let mut messages = drain(consumer, 1)?;
    while messages.len() < most
        && let Some(message) = consumer.poll(Duration::ZERO)
    {
        messages.push(message?.detach());
    }
    Ok(messages)
}

/// The offsets after these records.
fn positions(messages: &[OwnedMessage], topic: &str) -> Result<TopicPartitionList> {
    let mut next = std::collections::BTreeMap::new();
    for message in messages {
        next.insert(message.partition(), Offset::Offset(message.offset() + 1));
    }
    list(topic, &next.into_iter().collect::<Vec<_>>())
}

fn timed_out(backend: &Backend) -> Result<()> {
    let topic = backend.topic(1)?;
    let producer = backend.transactional(&backend.unique("tx"), 2000)?;
    producer.0.begin_transaction()?;
    producer.queue(record(&topic, b"k", b"open"))?;
    producer.delivered()?;
    backend.produce(&topic, 1)?;
    let seen = backend.read(&topic, 1)?;
    ensure!(seen[0].payload() == Some(b"v0"), "{seen:?}");
    let result = producer.0.commit_transaction(PATIENCE);
    ensure!(result.is_err(), "it committed what was aborted");
    Ok(())
}

/// They are as they were before.
fn offsets_of_an_aborted_one(backend: &Backend) -> Result<()> {
    let (topic, group) = (backend.topic(1)?, backend.unique("g"));
    backend.produce(&topic, 10)?;
    let consumer = backend.consumer(&group, &[])?;
    consumer.assign(&list(&topic, &[(0, Offset::Beginning)])?)?;
    let metadata = consumer.group_metadata().context("group metadata")?;
    let producer = backend.transactional(&backend.unique("tx"), TIMEOUT_MS)?;
    for (offset, commits, expected) in [(5, true, 5), (8, false, 5), (9, true, 9)] {
        producer.0.begin_transaction()?;
        let offsets = list(&topic, &[(0, Offset::Offset(offset))])?;
        producer.0.send_offsets_to_transaction(&offsets, &metadata, REQUEST)?;
        end(&producer, commits)?;
        until("the offset is as expected", PATIENCE, || {
            let found = consumer.committed_offsets(list(&topic, &[(0, Offset::Invalid)])?, REQUEST)?;
            ensure!(offset_of(&found, &topic, 0) == Some(expected), "{found:?}");
            Ok(())
        })?;
    }
    Ok(())
}

fn end(producer: &Producer, commits: bool) -> Result<()> {
    match commits {
        true => producer.0.commit_transaction(PATIENCE).context("commit"),
        false => producer.0.abort_transaction(PATIENCE).context("abort"),
    }
}
