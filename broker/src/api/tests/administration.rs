//! Administration of a topic that exists and of one that does not, in every version.

use super::client::{Client, start};
use super::data::{create, name};
use crate::api::layout::Layout;
use kafka_protocol::{
    ResponseError,
    messages::{
        create_partitions_request::CreatePartitionsTopic,
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
        describe_configs_request::DescribeConfigsResource,
        describe_producers_request::TopicRequest,
        describe_topic_partitions_request::{Cursor, TopicRequest as Named},
        offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
        *,
    },
    protocol::StrBytes,
};

fn versions(key: ApiKey) -> impl Iterator<Item = i16> {
    let layout = Layout::of(key).expect("it is offered");
    layout.min..=layout.max
}

const UNKNOWN: i16 = ResponseError::UnknownTopicOrPartition.code();

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_topics_in_every_version() {
    let (_folder, broker) = start(&[]).await;
    let mut client = Client::to(&broker).await;
    create(&mut client, "topic", 1).await;
    for version in versions(ApiKey::DescribeConfigs) {
        let resource = |kind, of| {
            let resource = DescribeConfigsResource::default().with_configuration_keys(None);
            resource.with_resource_type(kind).with_resource_name(StrBytes::from_static_str(of))
        };
        let request = DescribeConfigsRequest::default().with_include_synonyms(true);
        let request = request.with_include_documentation(version >= 3);
        let asked = vec![
            resource(2, "topic"),
            resource(2, "none"),
            resource(4, "0"),
            resource(8, "0"),
            resource(2, "a/b"),
        ];
        let shown = client.call(version, request.with_resources(asked)).await.results;
        let errors: Vec<i16> = shown.iter().map(|one| one.error_code).collect();
        assert_eq!(
            errors,
            [
                0,
                UNKNOWN,
                0,
                ResponseError::InvalidRequest.code(),
                ResponseError::InvalidTopicException.code()
            ],
            "v{version}"
        );
        assert!(shown[0].configs.len() > 10 && shown[2].configs.len() > 3);
    }
    for (version, count) in versions(ApiKey::CreatePartitions).zip(2..) {
        let topic = |of, count| {
            CreatePartitionsTopic::default().with_name(name(of)).with_count(count).with_assignments(None)
        };
        let request =
            CreatePartitionsRequest::default().with_topics(vec![topic("topic", count), topic("none", 3)]);
        let grown = client.call(version, request).await.results;
        assert_eq!((grown[0].error_code, grown[1].error_code), (0, UNKNOWN), "v{version}");
    }
    for version in versions(ApiKey::DeleteRecords) {
        let partition = |index| DeleteRecordsPartition::default().with_partition_index(index).with_offset(-1);
        let topic = DeleteRecordsTopic::default().with_name(name("topic"));
        let topic = topic.with_partitions(vec![partition(0), partition(99)]);
        let deleted = client.call(version, DeleteRecordsRequest::default().with_topics(vec![topic])).await;
        let errors: Vec<i16> = deleted.topics[0].partitions.iter().map(|one| one.error_code).collect();
        assert_eq!(errors, [0, UNKNOWN], "v{version}");
    }
    inspect(&mut client).await;
    broker.close().await.expect("it closes");
}

async fn inspect(client: &mut Client) {
    for version in versions(ApiKey::DescribeLogDirs) {
        let shown = client.call(version, DescribeLogDirsRequest::default().with_topics(None)).await;
        assert_eq!(shown.results[0].topics[0].partitions.len(), 5, "v{version}");
    }
    for version in versions(ApiKey::OffsetForLeaderEpoch) {
        let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(-1);
        let partitions = vec![partition.clone(), partition.with_partition(99)];
        let topic = OffsetForLeaderTopic::default().with_topic(name("topic")).with_partitions(partitions);
        let found =
            client.call(version, OffsetForLeaderEpochRequest::default().with_topics(vec![topic])).await;
        assert_eq!(found.topics[0].partitions[0].end_offset, 0, "v{version}");
        assert_eq!(found.topics[0].partitions[1].error_code, UNKNOWN, "v{version}");
    }
    let topic = TopicRequest::default().with_name(name("topic")).with_partition_indexes(vec![0, 99]);
    let shown = client.call(0, DescribeProducersRequest::default().with_topics(vec![topic])).await;
    assert_eq!(shown.topics[0].partitions[1].error_code, UNKNOWN);
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let topics =
            vec![Named::default().with_name(name("topic")), Named::default().with_name(name("none"))];
        let request = DescribeTopicPartitionsRequest::default().with_response_partition_limit(2);
        let page = client.call(0, request.with_topics(topics).with_cursor(cursor)).await;
        let partitions = page.topics.iter().flat_map(|topic| &topic.partitions);
        seen.extend(partitions.map(|one| one.partition_index));
        let Some(next) = page.next_cursor else { break };
        let next =
            Cursor::default().with_topic_name(next.topic_name).with_partition_index(next.partition_index);
        cursor = Some(next);
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}
