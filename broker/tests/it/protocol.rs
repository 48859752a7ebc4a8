//! The bare protocol: versions, duplicates, and requests that no client library would send.

use crate::harness::{Backend, Batch, Kind, Wire, on_each_backend, text, topic_name};
use anyhow::{Context as _, Result, ensure};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, FetchRequest, InitProducerIdRequest, MetadataRequest, ProduceRequest, ProducerId,
    fetch_request::{FetchPartition, FetchTopic},
    produce_request::{PartitionProduceData, TopicProduceData},
};
use millrace_broker::clock::now_ms;

on_each_backend!(
    versions_for_old_and_new,
    no_tagged_fields,
    answers_in_order,
    duplicates_and_gaps,
    corrupt_batch,
    unknown_api,
    unsupported_version,
    bad_lengths,
    garbage,
    others_go_on,
);

/// Asks for a version that nobody has: the answer is version 0 with what there is.
fn versions_for_old_and_new(backend: &Backend) -> Result<()> {
    let mut wire = backend.wire()?;
    let mut request = BytesMut::new();
    request.put_slice(&[0, 18, 0, 99, 0, 0, 0, 7, 0, 1, b'x', 0]);
    wire.write(&framed(&request))?;
    let mut answer = wire.frame()?;
    ensure!(answer.get_i32() == 7);
    ensure!(answer.get_i16() == 35, "UNSUPPORTED_VERSION");
    let count = answer.get_i32();
    ensure!(count > 0 && answer.remaining() == usize::try_from(count)? * 6, "{count} APIs, {answer:?}");
    let old = wire.ask(0, &ApiVersionsRequest::default())?;
    ensure!(old.error_code == 0 && old.api_keys.iter().any(|api| api.api_key == 18));
    Ok(())
}

/// librdkafka 2.0.2, which Debian ships, trips over them.
fn no_tagged_fields(backend: &Backend) -> Result<()> {
    if backend.kind == Kind::Kafka {
        return Ok(());
    }
    let name = text("it");
    let request = ApiVersionsRequest::default()
        .with_client_software_name(name.clone())
        .with_client_software_version(name);
    for version in 3..=4 {
        let mut wire = backend.wire()?;
        wire.send(version, &request)?;
        let answer = wire.frame()?;
        ensure!(answer.last() == Some(&0), "{answer:?}");
    }
    let answer = backend.wire()?.ask(3, &request)?;
    ensure!(answer.unknown_tagged_fields.is_empty() && answer.supported_features.is_empty(), "{answer:?}");
    ensure!(answer.finalized_features_epoch == -1 && answer.finalized_features.is_empty(), "{answer:?}");
    Ok(())
}

/// Several requests at once on one connection, the first of which takes its time.
fn answers_in_order(backend: &Backend) -> Result<()> {
    let topic = backend.topic(1)?;
    let mut wire = backend.wire()?;
    let slow = fetch(&topic, 0, 300);
    let first = wire.send(11, &slow)?;
    let others: Vec<_> =
        (0..20).map(|_| wire.send(0, &ApiVersionsRequest::default())).collect::<Result<_>>()?;
    wire.answer::<FetchRequest>(11, first)?;
    for sent in others {
        wire.answer::<ApiVersionsRequest>(0, sent)?;
    }
    Ok(())
}

fn fetch(topic: &str, offset: i64, max_wait_ms: i32) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(0)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![
            FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]),
        ])
}

/// Produces one batch to partition 0: the error and the base offset.
fn produce(wire: &mut Wire, topic: &str, batch: Bytes) -> Result<(i16, i64)> {
    let partition = PartitionProduceData::default().with_index(0).with_records(Some(batch));
    let data = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(5000).with_topic_data(vec![data]);
    let answer = wire.ask(9, &request)?;
    let partition = answer.responses.first().and_then(|topic| topic.partition_responses.first());
    let partition = partition.context("no partition in the answer")?;
    Ok((partition.error_code, partition.base_offset))
}

fn duplicates_and_gaps(backend: &Backend) -> Result<()> {
    const OUT_OF_ORDER: i16 = 45;
    let topic = backend.topic(1)?;
    let mut wire = backend.coordinated()?;
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(-1));
    let given = wire.ask(3, &request.with_producer_epoch(-1))?;
    let (id, epoch) = (given.producer_id.0, given.producer_epoch);
    let batch = |sequence| Batch::of(3, "v", now_ms()).by(id, epoch, sequence).encode();
    // What is there already has its first answer again.
    for (sequence, expected) in [(0, (0, 0)), (0, (0, 0)), (3, (0, 3)), (0, (0, 0)), (20, (OUT_OF_ORDER, -1))]
    {
        let answer = produce(&mut wire, &topic, batch(sequence)?)?;
        ensure!(answer == expected, "{sequence}: {answer:?} and not {expected:?}");
    }
    ensure!(backend.watermarks(&topic, 0)? == (0, 6));
    Ok(())
}

fn corrupt_batch(backend: &Backend) -> Result<()> {
    const CORRUPT_MESSAGE: i16 = 2;
    let topic = backend.topic(1)?;
    let mut wire = backend.wire()?;
    let whole = Batch::of(3, "v", now_ms()).encode()?;
    let mut flipped = BytesMut::from(&whole[..]);
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    ensure!(produce(&mut wire, &topic, flipped.freeze())?.0 == CORRUPT_MESSAGE);
    ensure!(backend.watermarks(&topic, 0)? == (0, 0));
    ensure!(produce(&mut wire, &topic, whole)? == (0, 0), "the connection goes on");
    Ok(())
}

fn unknown_api(backend: &Backend) -> Result<()> {
    let mut wire = backend.wire()?;
    wire.write(&framed(&[0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff]))?;
    wire.closed()
}

fn unsupported_version(backend: &Backend) -> Result<()> {
    let mut wire = backend.wire()?;
    let request = [0, 3, 0x7f, 0xff, 0, 0, 0, 1, 0, 1, b'x', 0, 0, 0, 0, 0];
    wire.write(&framed(&request))?;
    wire.closed()
}

fn bad_lengths(backend: &Backend) -> Result<()> {
    for length in [-1_i32, i32::MIN, i32::MAX] {
        let mut wire = backend.wire()?;
        wire.write(&length.to_be_bytes())?;
        wire.closed().with_context(|| length.to_string())?;
    }
    Ok(())
}

/// A request that says it has two thousand million topics, and other nonsense.
fn garbage(backend: &Backend) -> Result<()> {
    let requests: [&[u8]; 5] = [
        &[0, 3, 0, 1, 0, 0, 0, 1, 0, 1, b'x', 0x7f, 0xff, 0xff, 0xff],
        &[0, 3, 0, 9, 0, 0, 0, 1, 0, 1, b'x', 0, 0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0, 0, 0, 3, 0, 0, 0, 1, 0, 1, b'x', 0, 0, 0x7f, 0xff],
        &[0, 11, 0, 5, 0, 0, 0, 1, 0x7f, 0xff],
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ];
    for request in requests {
        let mut wire = backend.wire()?;
        wire.write(&framed(request))?;
        wire.closed().with_context(|| format!("{request:?}"))?;
    }
    Ok(())
}

/// Whatever one connection sends, another is served.
fn others_go_on(backend: &Backend) -> Result<()> {
    let mut good = backend.wire()?;
    let mut bad: Vec<_> = (0..20).map(|_| backend.wire()).collect::<Result<_>>()?;
    for wire in &mut bad {
        wire.write(&framed(&[0xff; 40]))?;
        good.ask(1, &MetadataRequest::default().with_topics(None))?;
    }
    bad.iter_mut().try_for_each(Wire::closed)
}

fn framed(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(i32::try_from(body.len()).expect("it is small"));
    frame.put_slice(body);
    frame.freeze()
}
