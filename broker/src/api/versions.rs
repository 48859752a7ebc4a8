//! ApiVersions: what is offered.
//!
//! A version of this very API that is not offered is answered in version 0, which every client can read (KIP-511). No
//! tagged field is ever in the answer: librdkafka 2.0.2 of Debian 12 trips over them.

use super::call::{Call, Head};
use super::layout::Layout;
use crate::net::{Close, Pending};
use kafka_protocol::{
    ResponseError,
    messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, api_versions_response::ApiVersion},
};

pub fn begin(call: &Call) -> Result<Pending, Close> {
    let request: ApiVersionsRequest = call.decode()?;
    tracing::trace!(
        client = %call.client_id, software = %request.client_software_name,
        version = %request.client_software_version, "a client asks for the versions"
    );
    call.reply(&offered())
}

/// The answer to a version that is not offered.
pub fn begin_unoffered(call: &Call) -> Result<Pending, Close> {
    let response = offered().with_error_code(ResponseError::UnsupportedVersion.code());
    let head = Head { key: ApiKey::ApiVersions, version: 0, correlation_id: call.correlation_id };
    let answer = head.answer(&response)?;
    Ok(Pending { answering: Box::pin(async { Ok(Some(answer)) }), overlaps: false })
}

fn offered() -> ApiVersionsResponse {
    let ranges = Layout::offered().map(|(key, layout)| {
        let range = ApiVersion::default().with_api_key(key as i16);
        range.with_min_version(layout.min).with_max_version(layout.max)
    });
    ApiVersionsResponse::default().with_api_keys(ranges.collect())
}
