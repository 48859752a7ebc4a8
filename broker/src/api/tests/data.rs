//! Producing, fetching, looking up and administering, as clients do it.

use super::client::{Client, batch, start};
use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        create_topics_request::CreatableTopic,
        fetch_request::{FetchPartition, FetchTopic},
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        metadata_request::MetadataRequestTopic,
        produce_request::{PartitionProduceData, TopicProduceData},
        *,
    },
    protocol::StrBytes,
};
use std::time::{Duration, Instant};

pub fn name(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

pub async fn create(client: &mut Client, topic: &'static str, partitions: i32) -> i16 {
    let topic = CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions);
    let topic = topic.with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000);
    client.call(7, request).await.topics[0].error_code
}

fn produce(topic: &'static str, partition: i32, acks: i16, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(1000).with_topic_data(vec![topic])
}

async fn produced(client: &mut Client, request: ProduceRequest) -> (i16, i64) {
    let response = client.call(9, request).await;
    let partition = &response.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

fn fetch(topic: &'static str, offset: i64, wait_ms: i32) -> FetchRequest {
    let partition = FetchPartition::default().with_partition(0).with_fetch_offset(offset);
    let partition = partition.with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_topics(vec![topic]).with_max_wait_ms(wait_ms);
    request.with_min_bytes(1).with_max_bytes(1 << 20)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_produced_is_fetched_in_every_version() {
    let (_folder, broker) = start(&[]).await;
    let mut client = Client::to(&broker).await;
    assert_eq!(create(&mut client, "topic", 1).await, 0);
    let sent = batch(&["a", "b", "c"], 1000);
    assert_eq!(produced(&mut client, produce("topic", 0, -1, sent.clone())).await, (0, 0));
    assert_eq!(produced(&mut client, produce("topic", 0, 1, sent.clone())).await, (0, 3));
    for version in 4..=12 {
        let response = client.call(version, fetch("topic", 3, 10_000)).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (0, 6), "v{version}");
        let records = partition.records.as_ref().expect("records");
        assert_eq!(records[8..], sent[8..], "v{version}");
        assert_eq!(records[..8], 3_i64.to_be_bytes(), "v{version}");
    }
    broker.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_wakes_a_long_poll_at_once_and_its_end_ends_it() {
    let (_folder, broker) = start(&[]).await;
    let (mut reader, mut writer) = (Client::to(&broker).await, Client::to(&broker).await);
    create(&mut writer, "topic", 1).await;
    let began = Instant::now();
    let response = reader.call(12, fetch("topic", 0, 300)).await;
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(response.responses[0].partitions[0].records.as_ref().is_none_or(Bytes::is_empty));
    let (response, ()) = tokio::join!(reader.call(12, fetch("topic", 0, 15_000)), async {
        tokio::time::sleep(Duration::from_millis(100)).await; // so that the poll waits; it needs no luck to pass
        produced(&mut writer, produce("topic", 0, -1, batch(&["a"], 0))).await;
    });
    assert!(!response.responses[0].partitions[0].records.as_ref().expect("records").is_empty());
    assert!(began.elapsed() < Duration::from_secs(10));
    broker.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_says_what_is_wrong_without_waiting() {
    let (_folder, broker) = start(&[]).await;
    let mut client = Client::to(&broker).await;
    create(&mut client, "topic", 1).await;
    let mut error_of = async |request: FetchRequest, version| {
        let began = Instant::now();
        let response = client.call(version, request).await;
        assert!(began.elapsed() < Duration::from_secs(5));
        let first =
            response.responses.first().map_or(response.error_code, |one| one.partitions[0].error_code);
        ResponseError::try_from_code(first)
    };
    let out_of_range = error_of(fetch("topic", 9, 30_000), 12).await;
    assert_eq!(out_of_range, Some(ResponseError::OffsetOutOfRange));
    let unknown = error_of(fetch("nowhere", 0, 30_000), 12).await;
    assert_eq!(unknown, Some(ResponseError::UnknownTopicOrPartition));
    let mut by_id = fetch("", 0, 30_000);
    by_id.topics[0].topic_id = uuid::Uuid::from_u128(9);
    assert_eq!(error_of(by_id, 13).await, Some(ResponseError::UnknownTopicId));
    let session = fetch("topic", 0, 30_000).with_session_id(5).with_session_epoch(3);
    assert_eq!(error_of(session, 12).await, Some(ResponseError::FetchSessionIdNotFound));
    let mut epoch = fetch("topic", 0, 30_000);
    epoch.topics[0].partitions[0].current_leader_epoch = 3;
    assert_eq!(error_of(epoch, 12).await, Some(ResponseError::UnknownLeaderEpoch));
    broker.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_produce_says_what_is_wrong() {
    let (_folder, broker) = start(&[]).await;
    let mut client = Client::to(&broker).await;
    create(&mut client, "topic", 1).await;
    let good = batch(&["a"], 0);
    let (error, _) = produced(&mut client, produce("topic", 0, 2, good.clone())).await;
    assert_eq!(error, ResponseError::InvalidRequiredAcks.code());
    let (error, _) = produced(&mut client, produce("topic", 5, -1, good.clone())).await;
    assert_eq!(error, ResponseError::UnknownTopicOrPartition.code());
    let mut torn = good.to_vec();
    *torn.last_mut().expect("a byte") ^= 1;
    let (error, _) = produced(&mut client, produce("topic", 0, -1, torn.into())).await;
    assert_eq!(error, ResponseError::CorruptMessage.code());
    // Without acks there is no answer: the closed connection tells of the error.
    let mut body = bytes::BytesMut::new();
    let request = produce("nowhere", 0, 0, good);
    kafka_protocol::protocol::Encodable::encode(&request, &mut body, 9).expect("it fits");
    client.send_raw(ApiKey::Produce, 9, &body).await;
    assert!(client.receive().await.is_none());
    broker.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_end_and_by_time() {
    let (_folder, broker) = start(&[]).await;
    let mut client = Client::to(&broker).await;
    create(&mut client, "topic", 1).await;
    produced(&mut client, produce("topic", 0, -1, batch(&["a", "b", "c"], 1000))).await;
    for version in 1..=8 {
        for (time, expected) in [(-1, 3), (-2, 0), (1001, 1), (5000, -1)] {
            let partition = ListOffsetsPartition::default().with_timestamp(time);
            let topic = ListOffsetsTopic::default().with_name(name("topic")).with_partitions(vec![partition]);
            let request = ListOffsetsRequest::default().with_topics(vec![topic]);
            let response = client.call(version, request).await;
            let answer = &response.topics[0].partitions[0];
            assert_eq!((answer.error_code, answer.offset), (0, expected), "v{version} at {time}");
        }
    }
    broker.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_makes_topics_only_where_it_may() {
    let (_folder, broker) = start(&["--log-partitions", "3"]).await;
    let mut client = Client::to(&broker).await;
    let mut ask = async |topic: &'static str, create: bool| {
        let topic = MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        let response = client.call(12, request.with_allow_auto_topic_creation(create)).await;
        assert_eq!(response.brokers[0].port, i32::from(broker.address().port()));
        (ResponseError::try_from_code(response.topics[0].error_code), response.topics[0].partitions.len())
    };
    assert_eq!(ask("topic", false).await, (Some(ResponseError::UnknownTopicOrPartition), 0));
    assert_eq!(ask("a/b", true).await, (Some(ResponseError::InvalidTopicException), 0));
    assert_eq!(ask("topic", true).await, (None, 3));
    assert_eq!(ask("topic", false).await, (None, 3));
    broker.close().await.expect("it closes");
}
