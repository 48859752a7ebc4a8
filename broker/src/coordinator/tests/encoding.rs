//! What the coordinator answers can be written in each version that is offered.

use super::*;
use bytes::BytesMut;
use kafka_protocol::protocol::Encodable;

fn encode(version: i16, answer: &impl Encodable) {
    let encoded = answer.encode(&mut BytesMut::new(), version);
    assert!(
        encoded.is_ok(),
        "version {version}: {:?} of {}",
        encoded.err(),
        std::any::type_name_of_val(answer)
    );
}

#[tokio::test]
async fn answers_of_groups_fit_all_versions() {
    let site = Site::new();
    let coordinator = site.open();
    let client = Client { id: "c".into(), host: "/h".into() };
    for version in 0..=9 {
        let group = format!("g{version}");
        encode(version, &coordinator.join_group(&client, version, site::join_request("", "")).await);
        let request = site::join_request(&group, "").with_group_instance_id(Some(site::name("i")));
        let joined = coordinator.join_group(&client, version, request.clone()).await;
        encode(version, &joined);
        let again =
            coordinator.join_group(&client, version, request.with_member_id(joined.member_id.clone())).await;
        encode(version, &again);
        let sync = SyncGroupRequest::default().with_group_id(site::name(&group).into());
        let sync = sync.with_member_id(again.member_id).with_generation_id(again.generation_id);
        let sync = sync.with_protocol_type(again.protocol_type).with_protocol_name(again.protocol_name);
        encode(version.min(5), &coordinator.sync_group(&client, version.min(5), sync).await);
        encode(version.min(5), &coordinator.sync_group(&client, version.min(5), Default::default()).await);
        // A static member comes back to a stable group.
        let back = site::join_request(&group, "").with_group_instance_id(Some(site::name("i")));
        encode(version, &coordinator.join_group(&client, version, back).await);
    }
    for version in 0..=5 {
        let names = vec![site::name("g9").into(), site::name("unknown").into()];
        let describe = DescribeGroupsRequest::default().with_groups(names.clone());
        let describe = describe.with_include_authorized_operations(true);
        encode(version, &coordinator.describe_groups(version, describe).await);
        encode(version, &coordinator.list_groups(version, Default::default()).await);
        encode(version.min(4), &coordinator.heartbeat(version.min(4), Default::default()).await);
        let leave = LeaveGroupRequest::default().with_group_id(site::name("g1").into());
        let member = leave_group_request::MemberIdentity::default().with_member_id(site::name("x"));
        encode(version, &coordinator.leave_group(version, leave.with_members(vec![member])).await);
        encode(version, &coordinator.leave_group(version, Default::default()).await);
        let delete = DeleteGroupsRequest::default().with_groups_names(names);
        encode(version.min(2), &coordinator.delete_groups(version.min(2), delete).await);
    }
}

#[tokio::test]
async fn answers_of_offsets_and_transactions_fit_all_versions() {
    let site = Site::new();
    let coordinator = site.open();
    let producer = site.begin(&coordinator, 60_000).await;
    site.commit(&coordinator, "g", ("", -1), 1).await;
    site.hold(&coordinator, producer, 2).await;
    for version in 1..=8 {
        let all =
            OffsetFetchRequest::default().with_group_id(site::name("g").into()).with_require_stable(true);
        let group =
            offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(site::name("g").into());
        let all = all.with_topics(None).with_groups(vec![group.with_topics(None)]);
        let found = coordinator.offset_fetch(version, all).await;
        assert_ne!(found.topics.is_empty(), found.groups.is_empty());
        encode(version, &found);
    }
    for version in 2..=8 {
        let partition = offset_commit_request::OffsetCommitRequestPartition::default();
        let topic =
            offset_commit_request::OffsetCommitRequestTopic::default().with_partitions(vec![partition]);
        let commit = OffsetCommitRequest::default().with_topics(vec![topic]);
        encode(version, &coordinator.offset_commit(version, commit).await);
    }
    for version in 0..=4 {
        let id = format!("t{version}");
        encode(version, &coordinator.init_producer_id(version, site::initialize(&id, 1000)).await);
        encode(version, &coordinator.init_producer_id(version, site::initialize(&id, 0)).await);
    }
    for version in 0..=3 {
        let topic =
            add_partitions_to_txn_request::AddPartitionsToTxnTopic::default().with_partitions(vec![0]);
        let add = AddPartitionsToTxnRequest::default().with_v3_and_below_topics(vec![topic]);
        encode(version, &coordinator.add_partitions_to_txn(version, add).await);
        encode(version, &coordinator.add_offsets_to_txn(version, Default::default()).await);
        encode(version, &coordinator.end_txn(version, Default::default()).await);
        let partition = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default();
        let topic = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default();
        let commit =
            TxnOffsetCommitRequest::default().with_topics(vec![topic.with_partitions(vec![partition])]);
        encode(version, &coordinator.txn_offset_commit(version, commit).await);
    }
    for version in 0..=1 {
        encode(version, &coordinator.list_transactions(version, Default::default()).await);
    }
    let ids = vec![site::name("t").into(), site::name("unknown").into()];
    let describe = DescribeTransactionsRequest::default().with_transactional_ids(ids);
    encode(0, &coordinator.describe_transactions(0, describe).await);
    let topic =
        offset_delete_request::OffsetDeleteRequestTopic::default().with_name(site::name("topic").into());
    let topic = topic.with_partitions(vec![Default::default()]);
    let delete =
        OffsetDeleteRequest::default().with_group_id(site::name("g").into()).with_topics(vec![topic]);
    encode(0, &coordinator.offset_delete(0, delete).await);
}
