//! What is not offered gets the protocol's own error where its answer has a place for one, else its connection is closed
//! with a logged reason. Nothing is left waiting.

use super::{call::Call, versions};
use crate::net::{Close, Pending};
use kafka_protocol::{ResponseError, messages::*, protocol::Encodable, protocol::Message};

const WHY: &str = "the embedded log does not offer this";

/// The response of one kind with its error code.
macro_rules! refuse {
    ($call:ident, $response:ident, $error:ident) => {
        refused($call, $response::default().with_error_code(ResponseError::$error.code()))
    };
    ($call:ident, $response:ident, $error:ident, message) => {{
        let response = $response::default().with_error_message(Some(super::text(WHY)));
        refused($call, response.with_error_code(ResponseError::$error.code()))
    }};
}

pub fn begin(call: &Call) -> Result<Pending, Close> {
    call.api.counters.unsupported();
    tracing::debug!(api = ?call.key, version = call.version, client = %call.client_id, "{WHY}");
    match call.key {
        ApiKey::ApiVersions => versions::begin_unoffered(call),
        ApiKey::ConsumerGroupHeartbeat => {
            refuse!(call, ConsumerGroupHeartbeatResponse, UnsupportedVersion, message)
        }
        ApiKey::ShareGroupHeartbeat => {
            refuse!(call, ShareGroupHeartbeatResponse, UnsupportedVersion, message)
        }
        ApiKey::DescribeAcls => refuse!(call, DescribeAclsResponse, SecurityDisabled, message),
        ApiKey::SaslHandshake => refuse!(call, SaslHandshakeResponse, UnsupportedSaslMechanism),
        ApiKey::SaslAuthenticate => refuse!(call, SaslAuthenticateResponse, IllegalSaslState, message),
        ApiKey::CreateDelegationToken => {
            refuse!(call, CreateDelegationTokenResponse, DelegationTokenAuthDisabled)
        }
        ApiKey::RenewDelegationToken => {
            refuse!(call, RenewDelegationTokenResponse, DelegationTokenAuthDisabled)
        }
        ApiKey::ExpireDelegationToken => {
            refuse!(call, ExpireDelegationTokenResponse, DelegationTokenAuthDisabled)
        }
        ApiKey::DescribeDelegationToken => {
            refuse!(call, DescribeDelegationTokenResponse, DelegationTokenAuthDisabled)
        }
        _ => administration(call),
    }
}

fn administration(call: &Call) -> Result<Pending, Close> {
    match call.key {
        ApiKey::DescribeClientQuotas => {
            refuse!(call, DescribeClientQuotasResponse, UnsupportedVersion, message)
        }
        ApiKey::DescribeUserScramCredentials => {
            refuse!(call, DescribeUserScramCredentialsResponse, UnsupportedVersion, message)
        }
        ApiKey::ElectLeaders if call.version > 0 => refuse!(call, ElectLeadersResponse, UnsupportedVersion),
        ApiKey::AlterPartitionReassignments => {
            refuse!(call, AlterPartitionReassignmentsResponse, UnsupportedVersion, message)
        }
        ApiKey::ListPartitionReassignments => {
            refuse!(call, ListPartitionReassignmentsResponse, UnsupportedVersion, message)
        }
        ApiKey::UpdateFeatures => refuse!(call, UpdateFeaturesResponse, UnsupportedVersion, message),
        ApiKey::UnregisterBroker => refuse!(call, UnregisterBrokerResponse, UnsupportedVersion, message),
        ApiKey::DescribeQuorum => refuse!(call, DescribeQuorumResponse, UnsupportedVersion),
        ApiKey::ListConfigResources => refuse!(call, ListConfigResourcesResponse, UnsupportedVersion),
        ApiKey::GetTelemetrySubscriptions => {
            refuse!(call, GetTelemetrySubscriptionsResponse, UnsupportedVersion)
        }
        ApiKey::PushTelemetry => refuse!(call, PushTelemetryResponse, UnsupportedVersion),
        ApiKey::ShareFetch => refuse!(call, ShareFetchResponse, UnsupportedVersion),
        ApiKey::ShareAcknowledge => refuse!(call, ShareAcknowledgeResponse, UnsupportedVersion),
        ApiKey::Fetch if call.version > 6 => refuse!(call, FetchResponse, UnsupportedVersion),
        ApiKey::FindCoordinator if call.version < 4 => {
            refuse!(call, FindCoordinatorResponse, UnsupportedVersion)
        }
        ApiKey::EndTxn => refuse!(call, EndTxnResponse, UnsupportedVersion),
        ApiKey::AddOffsetsToTxn => refuse!(call, AddOffsetsToTxnResponse, UnsupportedVersion),
        ApiKey::InitProducerId => refuse!(call, InitProducerIdResponse, UnsupportedVersion),
        ApiKey::DescribeCluster => refuse!(call, DescribeClusterResponse, UnsupportedVersion, message),
        ApiKey::ListTransactions => refuse!(call, ListTransactionsResponse, UnsupportedVersion),
        _ => Err(Close(format!("{:?} v{} is not offered", call.key, call.version))),
    }
}

/// Closes where the version is beyond what is known of the protocol.
fn refused<R: Encodable + Message>(call: &Call, response: R) -> Result<Pending, Close> {
    if !(R::VERSIONS.min..=R::VERSIONS.max).contains(&call.version) {
        return Err(Close(format!("{:?} v{} is not known", call.key, call.version)));
    }
    call.reply(&response)
}
