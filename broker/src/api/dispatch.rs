//! Which file answers which API.

use super::{call::Call, cluster, configs, create_topics, fetch, inspect, list_offsets, metadata, produce};
use super::{topics, unsupported, versions};
use crate::net::{Close, Pending};
use kafka_protocol::messages::ApiKey;
use std::sync::Arc;

/// Begins a request: an error closes its connection.
pub fn begin(call: Call) -> Result<Pending, Close> {
    if call.offered().is_none() {
        return unsupported::begin(&call);
    }
    match call.key {
        ApiKey::ApiVersions => versions::begin(&call),
        ApiKey::Produce => produce::begin(&call),
        ApiKey::Fetch => fetch::begin(call),
        ApiKey::ListOffsets => call.serve(list_offsets::list),
        ApiKey::OffsetForLeaderEpoch => call.serve(list_offsets::for_leader_epoch),
        ApiKey::Metadata => call.serve(metadata::metadata),
        ApiKey::DescribeTopicPartitions => call.serve(metadata::describe_partitions),
        ApiKey::CreateTopics => call.serve(create_topics::create),
        ApiKey::DeleteTopics => call.serve(topics::delete),
        ApiKey::CreatePartitions => call.serve(topics::grow),
        ApiKey::DeleteRecords => call.serve(topics::delete_records),
        ApiKey::DescribeConfigs => call.serve(configs::describe),
        ApiKey::AlterConfigs => call.serve(configs::alter),
        ApiKey::IncrementalAlterConfigs => call.serve(configs::alter_some),
        ApiKey::FindCoordinator => call.serve(cluster::find_coordinator),
        ApiKey::DescribeCluster => call.serve(cluster::describe),
        ApiKey::DescribeLogDirs => call.serve(inspect::log_dirs),
        ApiKey::DescribeProducers => call.serve(inspect::producers),
        _ => coordinate(call),
    }
}

/// Gives a request to the coordinator's method of this name.
macro_rules! forward {
    ($call:ident, $method:ident) => {
        $call.serve(|call, request| {
            let (coordinator, version) = (Arc::clone(&call.api.coordinator), call.version);
            async move { coordinator.$method(version, request).await }
        })
    };
}

fn coordinate(call: Call) -> Result<Pending, Close> {
    match call.key {
        ApiKey::JoinGroup => call.serve(|call, request| async move {
            call.api.coordinator.join_group(&call.client(), call.version, request).await
        }),
        ApiKey::SyncGroup => call.serve(|call, request| async move {
            call.api.coordinator.sync_group(&call.client(), call.version, request).await
        }),
        ApiKey::Heartbeat => forward!(call, heartbeat),
        ApiKey::LeaveGroup => forward!(call, leave_group),
        ApiKey::OffsetCommit => forward!(call, offset_commit),
        ApiKey::OffsetFetch => forward!(call, offset_fetch),
        ApiKey::OffsetDelete => forward!(call, offset_delete),
        ApiKey::ListGroups => forward!(call, list_groups),
        ApiKey::DescribeGroups => forward!(call, describe_groups),
        ApiKey::DeleteGroups => forward!(call, delete_groups),
        ApiKey::InitProducerId => forward!(call, init_producer_id),
        ApiKey::AddPartitionsToTxn => forward!(call, add_partitions_to_txn),
        ApiKey::AddOffsetsToTxn => forward!(call, add_offsets_to_txn),
        ApiKey::TxnOffsetCommit => forward!(call, txn_offset_commit),
        ApiKey::EndTxn => forward!(call, end_txn),
        ApiKey::ListTransactions => forward!(call, list_transactions),
        ApiKey::DescribeTransactions => forward!(call, describe_transactions),
        _ => unsupported::begin(&call),
    }
}
