//! Reads a body to its end, within a size, a time and the bytes in flight.

use crate::admission::Reservation;
use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use futures::StreamExt;
use millrace_tenancy::http::ApiError;
use std::time::Duration;

/// How long a client should wait when the edge or the log can take no more.
pub const BUSY_RETRY: Duration = Duration::from_secs(1);

/// What one body may cost.
#[derive(Clone, Copy)]
pub struct Limits {
    pub bytes_max: usize,
    pub timeout: Duration,
}

/// The whole body, as it was sent.
pub async fn read(body: Body, limits: Limits, reserved: &mut Reservation) -> Result<Vec<u8>, ApiError> {
    let late = |_| {
        let message = format!("The body was not whole after {} s", limits.timeout.as_secs());
        Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message))
    };
    tokio::time::timeout(limits.timeout, collect(body, limits.bytes_max, reserved)).await.unwrap_or_else(late)
}

async fn collect(body: Body, bytes_max: usize, reserved: &mut Reservation) -> Result<Vec<u8>, ApiError> {
    // A declared length is reserved at once: better to refuse now than in the middle.
    let declared = body.size_hint().exact().unwrap_or(0);
    let declared = usize::try_from(declared).unwrap_or(usize::MAX);
    check(declared, bytes_max, reserved)?;
    let mut bytes = Vec::with_capacity(declared);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|error| ApiError::bad_request("The body could not be read").caused_by(error))?;
        check(bytes.len() + chunk.len(), bytes_max, reserved)?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn check(bytes: usize, bytes_max: usize, reserved: &mut Reservation) -> Result<(), ApiError> {
    if bytes > bytes_max {
        return Err(too_large(bytes_max));
    }
    if !reserved.grow_to(bytes) {
        return Err(busy());
    }
    Ok(())
}

pub fn too_large(bytes_max: usize) -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("The body has more than {bytes_max} bytes: send the events in several requests"),
    )
}

pub fn busy() -> ApiError {
    ApiError::unavailable("Too much is in flight: try again", BUSY_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Budget;
    use std::convert::Infallible;

    const LIMITS: Limits = Limits { bytes_max: 10, timeout: Duration::from_millis(20) };

    async fn read_within(budget: usize, body: Body) -> Result<Vec<u8>, StatusCode> {
        let mut reserved = Budget::new(budget).reserve(0).expect("nothing is always there");
        read(body, LIMITS, &mut reserved).await.map_err(|error| error.status())
    }

    /// A body of unknown length.
    fn chunked(chunks: &'static [&'static str]) -> Body {
        Body::from_stream(futures::stream::iter(chunks.iter().map(|chunk| Ok::<_, Infallible>(*chunk))))
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        assert_eq!(read_within(100, Body::from("0123456789")).await, Ok(b"0123456789".to_vec()));
        assert_eq!(read_within(100, chunked(&["01234", "56789"])).await, Ok(b"0123456789".to_vec()));
        assert_eq!(read_within(100, Body::from("0123456789a")).await, Err(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(
            read_within(100, chunked(&["01234", "56789", "a"])).await,
            Err(StatusCode::PAYLOAD_TOO_LARGE)
        );
    }

    #[tokio::test]
    async fn bytes_in_flight_are_limited() {
        assert_eq!(read_within(5, Body::from("012345")).await, Err(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(read_within(5, chunked(&["0123", "45"])).await, Err(StatusCode::SERVICE_UNAVAILABLE));
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_given_up() {
        let never = Body::from_stream(futures::stream::pending::<Result<&str, Infallible>>());
        assert_eq!(read_within(100, never).await, Err(StatusCode::REQUEST_TIMEOUT));
    }
}
