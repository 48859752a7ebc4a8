//! FindCoordinator and DescribeCluster: always this node.

use super::{NO_OPERATIONS, NODE, call::Call, text};
use kafka_protocol::{
    ResponseError,
    messages::{
        BrokerId, DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest,
        FindCoordinatorResponse, describe_cluster_response::DescribeClusterBroker,
        find_coordinator_response::Coordinator,
    },
    protocol::StrBytes,
};

/// Since this version a request names many.
const BATCHED: i16 = 4;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// DescribeCluster's kind of endpoint: brokers, not controllers.
const BROKERS: i8 = 1;

pub async fn find_coordinator(call: Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let known = matches!(request.key_type, GROUP | TRANSACTION);
    let (host, port) = call.api.address(&call.peer);
    if call.version >= BATCHED {
        let find = |key: StrBytes| match known {
            true => Coordinator::default()
                .with_key(key)
                .with_node_id(BrokerId(NODE))
                .with_host(host.clone())
                .with_port(port)
                .with_error_message(None),
            false => nowhere(key),
        };
        let found = request.coordinator_keys.into_iter().map(find).collect();
        return FindCoordinatorResponse::default().with_coordinators(found);
    }
    let response = FindCoordinatorResponse::default();
    match known {
        true => response.with_node_id(BrokerId(NODE)).with_host(host).with_port(port),
        false => response
            .with_error_code(ResponseError::InvalidRequest.code())
            .with_error_message(Some(text("there is no coordinator of this kind")))
            .with_node_id(BrokerId(-1))
            .with_port(-1),
    }
}

fn nowhere(key: StrBytes) -> Coordinator {
    Coordinator::default()
        .with_key(key)
        .with_error_code(ResponseError::InvalidRequest.code())
        .with_error_message(Some(text("there is no coordinator of this kind")))
        .with_node_id(BrokerId(-1))
        .with_port(-1)
}

pub async fn describe(call: Call, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let response = DescribeClusterResponse::default().with_cluster_authorized_operations(NO_OPERATIONS);
    if call.version >= 1 && request.endpoint_type != BROKERS {
        return response
            .with_endpoint_type(request.endpoint_type)
            .with_error_code(ResponseError::MismatchedEndpointType.code())
            .with_error_message(Some(text("this endpoint is a broker's")))
            .with_controller_id(BrokerId(-1));
    }
    let (host, port) = call.api.address(&call.peer);
    let node =
        DescribeClusterBroker::default().with_broker_id(BrokerId(NODE)).with_host(host).with_port(port);
    response
        .with_error_message(None)
        .with_endpoint_type(BROKERS)
        .with_cluster_id(text(call.api.cluster_id.as_str()))
        .with_controller_id(BrokerId(NODE))
        .with_brokers(vec![node])
}
