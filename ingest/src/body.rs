//! Reads a body to its end, within a size, a time and the bytes in flight; and what is left of a refused one.

use crate::admission::Reservation;
use axum::{
    body::{Body, BodyDataStream, HttpBody},
    http::{HeaderMap, StatusCode, header},
};
use futures::StreamExt;
use millrace_tenancy::http::ApiError;
use std::time::Duration;

/// A client that is still sending when the connection closes sees a broken pipe instead of the answer. So what is left
/// of a refused body is read, but not more than this, and not for longer than this.
const DISCARD_BYTES_MAX: usize = 32 << 20;
const DISCARD_LIMIT: Duration = Duration::from_secs(2);

/// How long a client should wait when the edge or the log can take no more.
pub const BUSY_RETRY: Duration = Duration::from_secs(1);

/// What one body may cost.
#[derive(Clone, Copy)]
pub struct Limits {
    pub bytes_max: usize,
    pub timeout: Duration,
}

/// The body of one request.
pub struct Incoming {
    chunks: BodyDataStream,
    /// The client waits for a word before it sends; the first read gives it.
    is_held_back: bool,
}

impl Incoming {
    pub fn new(headers: &HeaderMap, body: Body) -> Self {
        Self { chunks: body.into_data_stream(), is_held_back: headers.contains_key(header::EXPECT) }
    }

    /// The whole body, as it was sent.
    pub async fn read(&mut self, limits: Limits, reserved: &mut Reservation) -> Result<Vec<u8>, ApiError> {
        let late = |_| {
            let message = format!("The body was not whole after {} s", limits.timeout.as_secs());
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message))
        };
        let collected = tokio::time::timeout(limits.timeout, self.collect(limits.bytes_max, reserved)).await;
        collected.unwrap_or_else(late)
    }

    async fn collect(&mut self, bytes_max: usize, reserved: &mut Reservation) -> Result<Vec<u8>, ApiError> {
        // A declared length is reserved at once: better to refuse now than in the middle.
        let declared = self.declared_bytes().unwrap_or(0);
        check(declared, bytes_max, reserved)?;
        self.is_held_back = false;
        let mut bytes = Vec::with_capacity(declared);
        while let Some(chunk) = self.chunks.next().await {
            let chunk = chunk
                .map_err(|error| ApiError::bad_request("The body could not be read").caused_by(error))?;
            check(bytes.len() + chunk.len(), bytes_max, reserved)?;
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Reads what is left, within reason, so that the client comes to read the answer.
    pub async fn discard(mut self) {
        if self.is_held_back || self.declared_bytes().is_some_and(|bytes| bytes > DISCARD_BYTES_MAX) {
            return;
        }
        let rest = async {
            let mut bytes = 0;
            while let Some(Ok(chunk)) = self.chunks.next().await {
                bytes += chunk.len();
                if bytes > DISCARD_BYTES_MAX {
                    return;
                }
            }
        };
        if tokio::time::timeout(DISCARD_LIMIT, rest).await.is_err() {
            tracing::debug!("a refused body was not sent to its end in time");
        }
    }

    fn declared_bytes(&self) -> Option<usize> {
        HttpBody::size_hint(&self.chunks).exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    }
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
    use axum::http::HeaderValue;
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    const LIMITS: Limits = Limits { bytes_max: 10, timeout: Duration::from_millis(20) };

    async fn read_within(budget: usize, body: Body) -> Result<Vec<u8>, StatusCode> {
        let mut reserved = Budget::new(budget).reserve(0).expect("nothing is always there");
        let mut incoming = Incoming::new(&HeaderMap::new(), body);
        incoming.read(LIMITS, &mut reserved).await.map_err(|error| error.status())
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

    /// How many of three chunks are read when the body is refused.
    async fn discarded(headers: &HeaderMap) -> usize {
        let read = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&read);
        let chunks = futures::stream::iter(0..3).map(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>("chunk")
        });
        Incoming::new(headers, Body::from_stream(chunks)).discard().await;
        read.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn a_refused_body_is_read_unless_the_client_waits_with_it() {
        assert_eq!(discarded(&HeaderMap::new()).await, 3);
        let waits = HeaderMap::from_iter([(header::EXPECT, HeaderValue::from_static("100-continue"))]);
        assert_eq!(discarded(&waits).await, 0);
    }
}
