//! Requests about records: produced, fetched, looked up, deleted, rightly and wrongly.

use super::{Names, Operation, Side, stored};
use crate::harness::{Batch, Codec, Random, topic_name};
use anyhow::Result;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    DeleteRecordsRequest, FetchRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest, ProduceRequest,
    TransactionalId,
    delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
    fetch_request::{FetchPartition, FetchTopic},
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
    produce_request::{PartitionProduceData, TopicProduceData},
};

pub fn choose(random: &mut Random, names: &Names) -> Operation {
    match random.below(12) {
        0..=5 => produce(random, names),
        6..=8 => fetch(random, names),
        9 => list_offsets(random, names),
        10 => delete(random, names),
        _ => epoch_end(random, names),
    }
}

/// What is wrong with a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    Checksum,
    Magic,
    Count,
    LastDelta,
    Control,
    Cut,
    Twice,
    Empty,
    NoRecords,
    NoKey,
    Compressed,
    Large,
    BaseOffset,
    Future,
}

const FLAWS: [Flaw; 14] = [
    Flaw::Checksum,
    Flaw::Magic,
    Flaw::Count,
    Flaw::LastDelta,
    Flaw::Control,
    Flaw::Cut,
    Flaw::Twice,
    Flaw::Empty,
    Flaw::NoRecords,
    Flaw::NoKey,
    Flaw::Compressed,
    Flaw::Large,
    Flaw::BaseOffset,
    Flaw::Future,
];

/// Which sequence a producer sends.
#[derive(Clone, Copy, Debug)]
enum Sequence {
    Next,
    /// The one before again.
    Repeated,
    /// Some are left out.
    Gap,
    First,
}

/// Who sends a batch.
#[derive(Clone, Copy, Debug)]
struct Sender {
    producer: usize,
    sequence: Sequence,
    epoch_more: i16,
}

fn produce(random: &mut Random, names: &Names) -> Operation {
    let (topic, partition) = place(random, names);
    let version = i16::try_from(random.between(3, 11)).expect("small");
    let acks = *random.pick(&[-1, -1, -1, 1, 1, 5]);
    let flaw = if random.one_in(4) { *random.pick(&FLAWS) } else { Flaw::None };
    let sender = random.one_in(2).then(|| Sender {
        producer: random.below(3),
        sequence: *random.pick(&[
            Sequence::Next,
            Sequence::Next,
            Sequence::Next,
            Sequence::Repeated,
            Sequence::Gap,
            Sequence::First,
        ]),
        epoch_more: *random.pick(&[0, 0, 0, 0, 0, 1, -1]),
    });
    let mut batch = Batch::of(random.below(5) + 1, "v", names.base_time + random.between(0, 100_000));
    batch.codec = *random.pick(&Codec::ALL);
    let words = format!(
        "produce {topic}/{partition} v{version} acks {acks} {:?} x{} {flaw:?} {sender:?}",
        batch.codec,
        batch.records.len()
    );
    Operation::new(words, move |side| {
        let mut batch = batch.clone();
        if let Some(sender) = sender {
            sign(side, &mut batch, sender, (&topic, partition));
        }
        let answer = send(side, (&topic, partition), (version, acks), (flawed(&batch, flaw)?, None))?;
        if let Some(sender) = sender.filter(|_| answer.contains("error_code: 0,")) {
            let next = batch.sequence + i32::try_from(batch.records.len())?;
            side.producer(sender.producer).next.insert((topic.clone(), partition), next);
        }
        Ok(answer)
    })
}

fn sign(side: &mut Side, batch: &mut Batch, sender: Sender, (topic, partition): (&str, i32)) {
    let producer = side.producer(sender.producer);
    if producer.id < 0 {
        return;
    }
    let next = producer.next.get(&(topic.to_owned(), partition)).copied().unwrap_or(0);
    let sequence = match sender.sequence {
        Sequence::Next => next,
        Sequence::Repeated => (next - 1).max(0),
        Sequence::Gap => next + 7,
        Sequence::First => 0,
    };
    // Kafka takes a producer without an epoch; we do not.
    let epoch = (producer.epoch + sender.epoch_more).max(0);
    (batch.producer_id, batch.epoch, batch.sequence) = (producer.id, epoch, sequence);
}

/// Produces to one partition; the answer in the words of both sides.
pub fn send(
    side: &mut Side,
    (topic, partition): (&str, i32),
    (version, acks): (i16, i16),
    (records, transaction): (Option<Bytes>, Option<&str>),
) -> Result<String> {
    let data = PartitionProduceData::default().with_index(partition).with_records(records);
    let data = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_transactional_id(transaction.map(|id| TransactionalId(crate::harness::text(id))))
        .with_acks(acks)
        .with_timeout_ms(5000)
        .with_topic_data(vec![data]);
    let mut answer = side.ask(version, &request)?;
    for partition in answer.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses) {
        partition.log_append_time_ms = partition.log_append_time_ms.min(0);
        if partition.error_code != 0 {
            partition.log_start_offset = -1; // Kafka tells it with some errors; no client looks
        }
        partition.record_errors.clear(); // which of the records it was
    }
    Ok(side.normal(&answer))
}

fn flawed(batch: &Batch, flaw: Flaw) -> Result<Option<Bytes>> {
    let mut batch = batch.clone();
    match flaw {
        Flaw::Magic => batch.magic = 1,
        Flaw::Count => batch.count = Some(77),
        Flaw::LastDelta => batch.last_delta = Some(9),
        Flaw::Control => batch.control = true,
        Flaw::NoKey => batch.records[0].0 = None,
        Flaw::NoRecords => batch.records.clear(),
        Flaw::BaseOffset => batch.base_offset = 1234,
        Flaw::Future => batch.timestamp += 100 * 86_400_000,
        Flaw::Large => batch.records[0].1 = Some(Bytes::from(vec![7; 1_200_000])),
        Flaw::Empty => return Ok(Some(Bytes::new())),
        _ => {}
    }
    if flaw == Flaw::Large {
        batch.codec = Codec::None;
    }
    let bytes = batch.encode()?;
    Ok(Some(match flaw {
        Flaw::Checksum => flip(&bytes, bytes.len() - 1),
        Flaw::Cut => bytes.slice(..bytes.len() - 3),
        Flaw::Twice => Bytes::from([&bytes[..], &bytes[..]].concat()),
        Flaw::Compressed => crate::harness::sealed(BytesMut::from(&flip(&bytes, bytes.len() / 2 + 31)[..])),
        _ => bytes,
    }))
}

fn flip(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = BytesMut::from(&bytes[..]);
    bytes[at] ^= 0x55;
    bytes.freeze()
}

/// A partition: mostly one that there may be.
fn place(random: &mut Random, names: &Names) -> (String, i32) {
    (random.pick(&names.topics).clone(), *random.pick(&[0, 0, 0, 0, 1, 1, 2, 7, -1]))
}

fn fetch(random: &mut Random, names: &Names) -> Operation {
    let (topic, partition) = place(random, names);
    let version = i16::try_from(random.between(4, 16)).expect("small");
    let offset = match random.below(8) {
        0 => -1,
        1 => 1_000_000,
        _ => random.between(0, 60),
    };
    let limits = (*random.pick(&[1, 150, 400, 1 << 20]), *random.pick(&[1, 150, 400, 1 << 20]));
    let committed = random.one_in(2);
    let words =
        format!("fetch {topic}/{partition} from {offset} v{version} {limits:?} committed {committed}");
    Operation::new(words, move |side| {
        let wanted = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(limits.0);
        let id = side.topic_id(&topic)?.unwrap_or(uuid::Uuid::from_u128(7));
        let wanted = FetchTopic::default().with_partitions(vec![wanted]);
        let wanted =
            if version >= 13 { wanted.with_topic_id(id) } else { wanted.with_topic(topic_name(&topic)) };
        let mut request = FetchRequest::default()
            .with_max_wait_ms(0)
            .with_min_bytes(1)
            .with_max_bytes(limits.1)
            .with_isolation_level(i8::from(committed))
            .with_topics(vec![wanted]);
        if version >= 7 {
            request.session_epoch = -1;
        }
        if version < 15 {
            request.replica_id = (-1).into();
        }
        let mut answer = side.ask(version, &request)?;
        let mut records = String::new();
        for partition in answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
            let found = partition.records.take().unwrap_or_default();
            // Kafka tells of more than overlaps what it returns.
            let last = stored::last_offset(found.clone());
            let aborted = partition.aborted_transactions.get_or_insert_default();
            aborted.retain(|aborted| aborted.first_offset <= last);
            aborted.sort_by_key(|aborted| aborted.first_offset);
            records += &stored::describe(found, &side.words);
        }
        Ok(format!("{} {records}", side.normal(&answer)))
    })
}

fn list_offsets(random: &mut Random, names: &Names) -> Operation {
    let (topic, partition) = place(random, names);
    let version = i16::try_from(random.between(1, 8)).expect("small");
    let time = match random.below(6) {
        0 => -1,
        1 => -2,
        2 if version >= 7 => -3,
        3 if version >= 8 => -4,
        _ => names.base_time + random.between(-10, 100_100),
    };
    let committed = version >= 2 && random.one_in(2);
    let after = time - names.base_time;
    // Later than all that is produced: with message.timestamp.type=LogAppendTime.
    let by_broker = names.base_time + 1_000_000;
    let words = format!("offset of {topic}/{partition} at {time} ({after}) v{version} committed {committed}");
    Operation::new(words, move |side| {
        let wanted = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(time);
        let wanted = ListOffsetsTopic::default().with_name(topic_name(&topic)).with_partitions(vec![wanted]);
        let request = ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_isolation_level(i8::from(committed))
            .with_topics(vec![wanted]);
        let mut answer = side.ask(version, &request)?;
        for partition in answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            if partition.timestamp > by_broker {
                partition.timestamp = by_broker;
            }
        }
        Ok(side.normal(&answer))
    })
}

fn delete(random: &mut Random, names: &Names) -> Operation {
    let (topic, partition) = place(random, names);
    let (offset, version) = (*random.pick(&[-1, -2, 0, 1, 3, 5, 10, 20, 5000]), random.between(0, 2));
    let version = i16::try_from(version).expect("small");
    Operation::new(format!("delete records of {topic}/{partition} before {offset} v{version}"), move |side| {
        let wanted = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let wanted =
            DeleteRecordsTopic::default().with_name(topic_name(&topic)).with_partitions(vec![wanted]);
        side.tell(version, &DeleteRecordsRequest::default().with_topics(vec![wanted]).with_timeout_ms(5000))
    })
}

fn epoch_end(random: &mut Random, names: &Names) -> Operation {
    let (topic, partition) = place(random, names);
    let (epoch, current) = (*random.pick(&[0, 0, 1, 5, -1]), *random.pick(&[-1, 0, 1]));
    let version = i16::try_from(random.between(2, 4)).expect("small");
    let words = format!("end of epoch {epoch} of {topic}/{partition} in {current} v{version}");
    Operation::new(words, move |side| {
        let wanted = OffsetForLeaderPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(current)
            .with_leader_epoch(epoch);
        let wanted =
            OffsetForLeaderTopic::default().with_topic(topic_name(&topic)).with_partitions(vec![wanted]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![wanted]);
        let request = if version >= 3 { request.with_replica_id((-1).into()) } else { request };
        side.tell(version, &request)
    })
}
