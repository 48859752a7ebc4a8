//! Requests about producers and transactions, in any order.

use super::{Names, Operation, Side, records};
use crate::harness::{Batch, PATIENCE, Random, text, topic_name, until};
use anyhow::{Context as _, Result, ensure};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeProducersRequest, DescribeTransactionsRequest,
    EndTxnRequest, GroupId, InitProducerIdRequest, ProducerId, TransactionalId, TxnOffsetCommitRequest,
    add_partitions_to_txn_request::AddPartitionsToTxnTopic,
    describe_producers_request::TopicRequest,
    txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic},
};

/// The producer numbers of transactional ids come after those of others.
const FIRST_TRANSACTIONAL: usize = 10;
const CONCURRENT_TRANSACTIONS: &str = "error_code: 51";

pub fn choose(random: &mut Random, names: &Names) -> Operation {
    match random.below(16) {
        0 => idempotent(random),
        1..=2 => initialize(random, names),
        3..=5 => add_partitions(random, names),
        6 => add_offsets(random, names),
        7 => commit_offsets(random, names),
        8..=10 => end(random, names),
        11..=13 => produce(random, names),
        14 => describe(random, names),
        _ => producers(random, names),
    }
}

/// Asks again while an earlier transaction is being ended: that takes each broker a time of its own.
fn settled(mut ask: impl FnMut() -> Result<String>) -> Result<String> {
    until("an earlier transaction ends", PATIENCE, || {
        let answer = ask()?;
        ensure!(!answer.contains(CONCURRENT_TRANSACTIONS), "{answer}");
        Ok(answer)
    })
}

fn idempotent(random: &mut Random) -> Operation {
    let (number, version) = (random.below(3), i16::try_from(random.between(0, 4)).expect("small"));
    Operation::new(format!("producer id for {number} v{version}"), move |side| {
        let request =
            InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
        let answer = side.ask(version, &request)?;
        side.learn_producer(number, answer.producer_id.0, answer.producer_epoch);
        Ok(side.normal(&answer))
    })
}

fn initialize(random: &mut Random, names: &Names) -> Operation {
    let (number, id) = transaction(random, names);
    let timeout = *random.pick(&[60_000, 60_000, 60_000, 0, -1, 1_000_000_000]);
    let version = i16::try_from(random.between(0, 4)).expect("small");
    // From version 3 on a producer can say which one it is, to go on with a higher epoch.
    let known = (version >= 3 && random.one_in(2)).then(|| *random.pick(&[0_i16, 0, 0, 1, -1]));
    let words = format!("init {id} timeout {timeout} v{version} known {known:?}");
    Operation::new(words, move |side| {
        let mut request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text(&id))))
            .with_transaction_timeout_ms(timeout);
        if let Some(more) = known {
            let producer = side.producer(number);
            request.producer_id = ProducerId(producer.id);
            request.producer_epoch = if producer.id < 0 { -1 } else { producer.epoch + more };
        }
        settled(|| {
            let answer = side.ask(version, &request)?;
            side.learn_producer(number, answer.producer_id.0, answer.producer_epoch);
            Ok(side.normal(&answer))
        })
    })
}

/// A transactional id, and the number of its producer.
fn transaction(random: &mut Random, names: &Names) -> (usize, String) {
    let number = random.below(names.transactions.len());
    (FIRST_TRANSACTIONAL + number, names.transactions[number].clone())
}

/// The producer's id and epoch, or wrong ones.
fn signed(side: &mut Side, number: usize, (other, more): (bool, i16)) -> (ProducerId, i16) {
    let producer = side.producer(number);
    let id = if other { producer.id + 1_000_000 } else { producer.id };
    (ProducerId(id), producer.epoch + more)
}

fn wrong(random: &mut Random) -> (bool, i16) {
    (random.one_in(12), *random.pick(&[0, 0, 0, 0, 0, 0, 0, 1, -1]))
}

/// Adds partitions, and where that went well, writes to each. Kafka ends a transaction with a marker in each of its
/// partitions, we only in those that it wrote to: the offsets would be others.
fn add_partitions(random: &mut Random, names: &Names) -> Operation {
    let (number, id) = transaction(random, names);
    let topic = random.pick(&names.topics).clone();
    let partitions = random.pick(&[vec![0], vec![0, 1], vec![1], vec![0, 9]]).clone();
    let (version, wrong) = (i16::try_from(random.between(0, 3)).expect("small"), wrong(random));
    let mut batch = Batch::of(1, "first", names.base_time + random.between(0, 100_000));
    batch.transactional = true;
    Operation::new(format!("add {topic}/{partitions:?} to {id} v{version} wrong {wrong:?}"), move |side| {
        let (producer, epoch) = signed(side, number, wrong);
        let added = AddPartitionsToTxnTopic::default()
            .with_name(topic_name(&topic))
            .with_partitions(partitions.clone());
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(text(&id)))
            .with_v3_and_below_producer_id(producer)
            .with_v3_and_below_producer_epoch(epoch)
            .with_v3_and_below_topics(vec![added]);
        let mut words = settled(|| {
            let mut answer = side.ask(version, &request)?;
            for topic in &mut answer.results_by_topic_v3_and_below {
                topic.results_by_partition.sort_by_key(|partition| partition.partition_index);
            }
            Ok(side.normal(&answer))
        })?;
        if words.matches("partition_error_code: 0").count() == partitions.len() {
            for partition in &partitions {
                words += &write(side, number, &id, (&topic, *partition), &batch)?;
            }
        }
        Ok(words)
    })
}

/// Produces a batch as the producer of a transaction, with the sequence that is next.
fn write(side: &mut Side, number: usize, id: &str, to: (&str, i32), batch: &Batch) -> Result<String> {
    let producer = side.producer(number).clone();
    let place = (to.0.to_owned(), to.1);
    let next = producer.next.get(&place).copied().unwrap_or(0);
    let records = batch.clone().by(producer.id, producer.epoch, next).encode()?;
    let answer = records::send(side, to, (9, -1), (Some(records), Some(id)))?;
    if answer.contains("error_code: 0,") {
        side.producer(number).next.insert(place, next + i32::try_from(batch.records.len())?);
    }
    Ok(answer)
}

fn add_offsets(random: &mut Random, names: &Names) -> Operation {
    let (number, id) = transaction(random, names);
    let group = random.pick(&names.groups).clone();
    let (version, wrong) = (i16::try_from(random.between(0, 3)).expect("small"), wrong(random));
    Operation::new(format!("add offsets of {group} to {id} v{version} wrong {wrong:?}"), move |side| {
        let (producer, epoch) = signed(side, number, wrong);
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(TransactionalId(text(&id)))
            .with_producer_id(producer)
            .with_producer_epoch(epoch)
            .with_group_id(GroupId(text(&group)));
        settled(|| side.tell(version, &request))
    })
}

/// Kafka takes them also where the group was not added before.
fn commit_offsets(random: &mut Random, names: &Names) -> Operation {
    let (number, id) = transaction(random, names);
    let (group, topic) = (random.pick(&names.groups).clone(), random.pick(&names.topics).clone());
    let (version, offset) = (i16::try_from(random.between(0, 3)).expect("small"), random.between(0, 100));
    let words = format!("add offsets and commit {offset} of {topic} for {group} in {id} v{version}");
    Operation::new(words, move |side| {
        let (producer, epoch) = signed(side, number, (false, 0));
        let add = AddOffsetsToTxnRequest::default()
            .with_transactional_id(TransactionalId(text(&id)))
            .with_producer_id(producer)
            .with_producer_epoch(epoch)
            .with_group_id(GroupId(text(&group)));
        let added = settled(|| side.tell(3, &add))?;
        if !added.contains("error_code: 0") {
            return Ok(added);
        }
        let partition =
            TxnOffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(offset);
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name(&topic))
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(TransactionalId(text(&id)))
            .with_group_id(GroupId(text(&group)))
            .with_producer_id(producer)
            .with_producer_epoch(epoch)
            .with_topics(vec![topic]);
        side.tell(version, &request)
    })
}

fn end(random: &mut Random, names: &Names) -> Operation {
    let (number, id) = transaction(random, names);
    let (version, wrong, commits) =
        (i16::try_from(random.between(0, 3)).expect("small"), wrong(random), random.one_in(2));
    Operation::new(format!("end {id} commit {commits} v{version} wrong {wrong:?}"), move |side| {
        let (producer, epoch) = signed(side, number, wrong);
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text(&id)))
            .with_producer_id(producer)
            .with_producer_epoch(epoch)
            .with_committed(commits);
        let answer = settled(|| side.tell(version, &request))?;
        ended(side, &id)?;
        Ok(answer)
    })
}

/// Waits until no marker is to be written any more.
fn ended(side: &mut Side, id: &str) -> Result<()> {
    let request =
        DescribeTransactionsRequest::default().with_transactional_ids(vec![TransactionalId(text(id))]);
    until("the transaction's markers are written", PATIENCE, || {
        let answer = side.ask(0, &request)?;
        let state = &answer.transaction_states.first().context("no state")?.transaction_state;
        ensure!(!state.starts_with("Prepare"), "{state}");
        Ok(())
    })
}

fn produce(random: &mut Random, names: &Names) -> Operation {
    let (number, id) = transaction(random, names);
    let (topic, partition) =
        (random.pick(&names.topics).clone(), i32::try_from(random.below(2)).expect("small"));
    let version = i16::try_from(random.between(3, 11)).expect("small");
    let (flagged, named, more) =
        (!random.one_in(8), !random.one_in(8), *random.pick(&[0, 0, 0, 0, 0, 1, -1]));
    let mut batch = Batch::of(random.below(3) + 1, "x", names.base_time + random.between(0, 100_000));
    batch.transactional = flagged;
    let words = format!(
        "produce in {id} to {topic}/{partition} v{version} flagged {flagged} named {named} epoch +{more} x{}",
        batch.records.len()
    );
    Operation::new(words, move |side| {
        let producer = side.producer(number).clone();
        if producer.id < 0 {
            return Ok("no producer".to_owned());
        }
        let next = producer.next.get(&(topic.clone(), partition)).copied().unwrap_or(0);
        let batch = batch.clone().by(producer.id, (producer.epoch + more).max(0), next);
        let records = (Some(batch.encode()?), named.then_some(id.as_str()));
        let answer = records::send(side, (&topic, partition), (version, -1), records)?;
        if answer.contains("error_code: 0,") {
            let next = next + i32::try_from(batch.records.len())?;
            side.producer(number).next.insert((topic.clone(), partition), next);
        }
        Ok(answer)
    })
}

fn describe(random: &mut Random, names: &Names) -> Operation {
    let (_, id) = transaction(random, names);
    Operation::new(format!("describe {id}"), move |side| {
        let request =
            DescribeTransactionsRequest::default().with_transactional_ids(vec![TransactionalId(text(&id))]);
        let mut answer = side.ask(0, &request)?;
        for state in &mut answer.transaction_states {
            state.transaction_start_time_ms = state.transaction_start_time_ms.min(0);
            if state.error_code != 0 {
                state.producer_id = ProducerId(-1); // 0 is somebody's
            }
            // Kafka writes offsets to a topic of its own, and keeps topics that were deleted.
            state.topics.retain(|topic| topic.topic.as_str() != "__consumer_offsets");
            state.topics.retain(|topic| !side.deleted.contains(topic.topic.as_str()));
            state.topics.sort_by(|one, other| one.topic.cmp(&other.topic));
            state.topics.iter_mut().for_each(|topic| topic.partitions.sort_unstable());
        }
        Ok(side.normal(&answer))
    })
}

fn producers(random: &mut Random, names: &Names) -> Operation {
    let (topic, partition) = (random.pick(&names.topics).clone(), *random.pick(&[0, 0, 1, 9]));
    Operation::new(format!("producers of {topic}/{partition}"), move |side| {
        let topic =
            TopicRequest::default().with_name(topic_name(&topic)).with_partition_indexes(vec![partition]);
        let mut answer = side.ask(0, &DescribeProducersRequest::default().with_topics(vec![topic]))?;
        for partition in answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            for producer in &mut partition.active_producers {
                producer.last_timestamp = producer.last_timestamp.min(0);
                producer.coordinator_epoch = -1; // ours are not counted
            }
            partition.active_producers.sort_by_key(|producer| producer.producer_id);
        }
        Ok(side.normal(&answer))
    })
}
