//! After the last round: does the broker hold what it acknowledged, all of it, once, and in order?

use super::{
    Clients, PARTITIONS, load,
    transacting::{self, Fate, RECORDS},
};
use crate::harness::{Backend, Delivery, PATIENCE};
use anyhow::{Context as _, Result, ensure};
use rdkafka::{Message as _, Offset, error::KafkaError, message::OwnedMessage};
use std::collections::{BTreeMap, BTreeSet};

/// Ends the load and looks at everything.
pub fn done(clients: Clients, backend: &Backend) -> Result<()> {
    let mut acknowledged = Vec::new();
    for load in clients.loads {
        let codec = load.codec;
        acknowledged.push((codec, load.end().with_context(|| format!("the load of {codec}"))?));
    }
    let fates = clients.transacting.end()?;
    clients.reader.not_gone_back(backend)?;
    ensure!(clients.reader.commits() > 0, "no commits");
    clients.reader.end()?;
    let stored = read_all(backend, load::TOPIC)?;
    nothing_lost_or_doubled(&stored, &acknowledged)?;
    whole_or_not_at_all(&read_all(backend, transacting::TOPIC)?, &fates)?;
    let count = |fate| fates.iter().filter(|found| **found == fate).count();
    let (committed, aborted, unknown) = (count(Fate::Committed), count(Fate::Aborted), count(Fate::Unknown));
    eprintln!(
        "{} records; transactions: {committed} committed, {aborted} aborted, {unknown} unknown",
        stored.len()
    );
    ensure!(committed > 0, "no transactions");
    Ok(())
}

/// All that is committed, to the ends of the partitions.
fn read_all(backend: &Backend, topic: &str) -> Result<Vec<OwnedMessage>> {
    let from: Vec<_> = (0..PARTITIONS).map(|partition| (partition, Offset::Beginning)).collect();
    let settings = [("enable.partition.eof", "true"), ("check.crcs", "true")];
    backend.settled(topic, from.len())?;
    let consumer = backend.reader(topic, &from, &settings)?;
    let (mut messages, mut ended) = (Vec::new(), BTreeSet::new());
    while ended.len() < from.len() {
        match consumer.poll(PATIENCE).context("neither record nor end")? {
            Ok(message) => messages.push(message.detach()),
            Err(KafkaError::PartitionEOF(partition)) => drop(ended.insert(partition)),
            Err(error) => return Err(error).context("consume"),
        }
    }
    Ok(messages)
}

/// A producer waits for each record until it is acknowledged: there must be all of them, each where it was said to be,
/// and nothing else.
fn nothing_lost_or_doubled(stored: &[OwnedMessage], acknowledged: &[(&str, Vec<Delivery>)]) -> Result<()> {
    let mut places = BTreeMap::new();
    for message in stored {
        let value = message.payload().context("a record without a value")?;
        let place = (message.partition(), message.offset());
        let before = places.insert(value.to_vec(), place);
        ensure!(before.is_none(), "doubled: {before:?} and {place:?}");
    }
    let in_all: usize = acknowledged.iter().map(|(_, deliveries)| deliveries.len()).sum();
    for (codec, deliveries) in acknowledged {
        for delivery in deliveries {
            let said = (delivery.partition, delivery.offset);
            let found = places.get(&delivery.payload);
            ensure!(found == Some(&said), "{codec}: said to be at {said:?}, is at {found:?}");
        }
        in_order(codec, deliveries.len(), &places)?;
    }
    ensure!(places.len() == in_all, "{} stored, {in_all} acknowledged", places.len());
    Ok(())
}

/// The records of one producer have, in each partition, the order in which they were sent.
fn in_order(codec: &str, count: usize, places: &BTreeMap<Vec<u8>, (i32, i64)>) -> Result<()> {
    let mut last = BTreeMap::new();
    for number in 0..count {
        let (partition, offset) =
            places.get(&load::value(codec, number)).context("a value that was never sent")?;
        let before = last.insert(*partition, *offset);
        ensure!(before < Some(*offset), "{codec} {number}: {offset} after {before:?} in {partition}");
    }
    Ok(())
}

fn whole_or_not_at_all(seen: &[OwnedMessage], fates: &[Fate]) -> Result<()> {
    let mut found = BTreeMap::<usize, BTreeSet<i32>>::new();
    let mut last = BTreeMap::new();
    for message in seen {
        let value = std::str::from_utf8(message.payload().context("a record without a value")?)?;
        let (number, index) = value.split_once(' ').context("not ours")?;
        let (number, index) = (number.parse()?, index.parse()?);
        ensure!(found.entry(number).or_default().insert(index), "{value} is there twice");
        let before = last.insert(message.partition(), (number, index));
        ensure!(before < Some((number, index)), "{value} after {before:?}");
    }
    for (number, fate) in fates.iter().enumerate() {
        let count = found.remove(&number).map_or(0, |records| records.len());
        let whole = usize::try_from(RECORDS)?;
        let right = match fate {
            Fate::Committed => count == whole,
            Fate::Aborted => count == 0,
            Fate::Unknown => count == 0 || count == whole,
        };
        ensure!(right, "transaction {number}, {fate:?}: {count} of {whole} records are seen");
    }
    ensure!(found.is_empty(), "of transactions never begun: {found:?}");
    Ok(())
}
