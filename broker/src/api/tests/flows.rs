//! Groups and transactions that exist, in every version of their APIs: the answers with something in them must fit, too.

use super::client::{Client, start};
use super::data::{create, name};
use crate::api::layout::Layout;
use kafka_protocol::{
    messages::{
        add_partitions_to_txn_request::AddPartitionsToTxnTopic,
        join_group_request::JoinGroupRequestProtocol,
        leave_group_request::MemberIdentity,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic},
        sync_group_request::SyncGroupRequestAssignment,
        txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic},
        *,
    },
    protocol::StrBytes,
};

fn versions(key: ApiKey) -> impl Iterator<Item = i16> {
    let layout = Layout::of(key).expect("it is offered");
    layout.min..=layout.max
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

async fn join(client: &mut Client, version: i16, group: &GroupId) -> (StrBytes, i32) {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata("m".into());
    let request = JoinGroupRequest::default()
        .with_group_id(group.clone())
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(if version >= 1 { 30_000 } else { -1 })
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let mut response = client.call(version, request.clone()).await;
    if response.error_code == kafka_protocol::ResponseError::MemberIdRequired.code() {
        response = client.call(version, request.with_member_id(response.member_id)).await;
    }
    assert_eq!(response.error_code, 0, "JoinGroup v{version}");
    (response.member_id, response.generation_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_in_every_version() {
    let (_folder, broker) = start(&[]).await;
    let mut client = Client::to(&broker).await;
    create(&mut client, "topic", 1).await;
    for version in versions(ApiKey::JoinGroup) {
        let group = GroupId(text(&format!("group-{version}")));
        let (member, generation) = join(&mut client, version, &group).await;
        let assignment = SyncGroupRequestAssignment::default().with_member_id(member.clone());
        let request = SyncGroupRequest::default().with_group_id(group.clone()).with_generation_id(generation);
        let request = request.with_member_id(member.clone()).with_assignments(vec![assignment]);
        let request =
            request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range")));
        let synced = client.call(version.min(5), request).await;
        assert_eq!(synced.error_code, 0, "SyncGroup v{version}");
        let request = HeartbeatRequest::default().with_group_id(group.clone()).with_generation_id(generation);
        let beat = client.call(version.min(4), request.with_member_id(member.clone())).await;
        assert_eq!(beat.error_code, 0, "Heartbeat v{version}");
        commit(&mut client, version.clamp(2, 8), &group, (&member, generation)).await;
        show(&mut client, &group).await;
        let version = version.min(5);
        let leaving = MemberIdentity::default().with_member_id(member.clone());
        let request = LeaveGroupRequest::default().with_group_id(group.clone());
        let request = match version {
            0..=2 => request.with_member_id(member),
            _ => request.with_members(vec![leaving]),
        };
        assert_eq!(client.call(version, request).await.error_code, 0, "LeaveGroup v{version}");
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group]);
        let deleted = client.call(version.min(2), request).await;
        assert_eq!(deleted.results[0].error_code, 0, "DeleteGroups v{version}");
    }
    broker.close().await.expect("it closes");
}

async fn commit(client: &mut Client, version: i16, group: &GroupId, member: (&StrBytes, i32)) {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(5);
    let topic = OffsetCommitRequestTopic::default().with_name(name("topic")).with_partitions(vec![partition]);
    let request =
        OffsetCommitRequest::default().with_group_id(group.clone()).with_member_id(member.0.clone());
    let request = request.with_generation_id_or_member_epoch(member.1).with_topics(vec![topic]);
    let committed = client.call(version, request).await;
    assert_eq!(committed.topics[0].partitions[0].error_code, 0, "OffsetCommit v{version}");
}

/// What is there, as each version shows it.
async fn show(client: &mut Client, group: &GroupId) {
    for version in versions(ApiKey::OffsetFetch) {
        if version < 8 {
            let topic = OffsetFetchRequestTopic::default().with_name(name("topic"));
            let topics = vec![topic.with_partition_indexes(vec![0, 1])];
            let request =
                OffsetFetchRequest::default().with_group_id(group.clone()).with_topics(Some(topics));
            let fetched = client.call(version, request).await;
            assert_eq!(fetched.topics[0].partitions[0].committed_offset, 5, "OffsetFetch v{version}");
            assert_eq!(fetched.topics[0].partitions[1].committed_offset, -1, "OffsetFetch v{version}");
        } else {
            let group = OffsetFetchRequestGroup::default().with_group_id(group.clone()).with_topics(None);
            let fetched = client.call(version, OffsetFetchRequest::default().with_groups(vec![group])).await;
            assert_eq!(
                fetched.groups[0].topics[0].partitions[0].committed_offset, 5,
                "OffsetFetch v{version}"
            );
        }
    }
    for version in versions(ApiKey::DescribeGroups) {
        let request =
            DescribeGroupsRequest::default().with_groups(vec![group.clone(), GroupId(text("none"))]);
        let described = client.call(version, request).await;
        assert_eq!(described.groups[0].members.len(), 1, "DescribeGroups v{version}");
    }
    for version in versions(ApiKey::ListGroups) {
        let listed = client.call(version, ListGroupsRequest::default()).await;
        assert!(listed.groups.iter().any(|one| one.group_id == *group), "ListGroups v{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_in_every_version() {
    let (_folder, broker) = start(&[]).await;
    let mut client = Client::to(&broker).await;
    create(&mut client, "topic", 1).await;
    for version in versions(ApiKey::InitProducerId) {
        let id = TransactionalId(text(&format!("transaction-{version}")));
        let request = InitProducerIdRequest::default().with_transactional_id(Some(id.clone()));
        let begun = client.call(version, request.with_transaction_timeout_ms(60_000)).await;
        assert_eq!(begun.error_code, 0, "InitProducerId v{version}");
        transact(&mut client, version.min(3), &id, (begun.producer_id, begun.producer_epoch)).await;
        for version in versions(ApiKey::ListTransactions) {
            let listed = client.call(version, ListTransactionsRequest::default()).await;
            assert!(!listed.transaction_states.is_empty(), "ListTransactions v{version}");
        }
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id.clone()]);
        let described = client.call(0, request).await;
        assert_eq!(described.transaction_states[0].topics.len(), 1);
        let request = EndTxnRequest::default().with_transactional_id(id).with_committed(version % 2 == 0);
        let request = request.with_producer_id(begun.producer_id).with_producer_epoch(begun.producer_epoch);
        assert_eq!(client.call(version.min(3), request).await.error_code, 0, "EndTxn v{version}");
    }
    broker.close().await.expect("it closes");
}

async fn transact(client: &mut Client, version: i16, id: &TransactionalId, producer: (ProducerId, i16)) {
    let topic = AddPartitionsToTxnTopic::default().with_name(name("topic")).with_partitions(vec![0, 9]);
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(id.clone())
        .with_v3_and_below_producer_id(producer.0)
        .with_v3_and_below_producer_epoch(producer.1);
    let refused = client.call(version, request.clone().with_v3_and_below_topics(vec![topic.clone()])).await;
    let errors = &refused.results_by_topic_v3_and_below[0].results_by_partition;
    assert!(errors.iter().all(|one| one.partition_error_code != 0), "AddPartitionsToTxn v{version}");
    let topic = topic.with_partitions(vec![0]);
    let added = client.call(version, request.with_v3_and_below_topics(vec![topic])).await;
    let errors = &added.results_by_topic_v3_and_below[0].results_by_partition;
    assert_eq!(errors[0].partition_error_code, 0, "AddPartitionsToTxn v{version}");
    let group = GroupId(text("group"));
    let request = AddOffsetsToTxnRequest::default().with_transactional_id(id.clone());
    let request = request.with_producer_id(producer.0).with_producer_epoch(producer.1);
    let added = client.call(version, request.with_group_id(group.clone())).await;
    assert_eq!(added.error_code, 0, "AddOffsetsToTxn v{version}");
    let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(3);
    let topic =
        TxnOffsetCommitRequestTopic::default().with_name(name("topic")).with_partitions(vec![partition]);
    let request = TxnOffsetCommitRequest::default().with_transactional_id(id.clone()).with_group_id(group);
    let request = request.with_producer_id(producer.0).with_producer_epoch(producer.1);
    let committed = client.call(version, request.with_topics(vec![topic])).await;
    assert_eq!(committed.topics[0].partitions[0].error_code, 0, "TxnOffsetCommit v{version}");
}
