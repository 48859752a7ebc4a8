//! What the edge answers: 202 only if the log has every good event.

use crate::{
    body::{self, BUSY_RETRY},
    decode,
    delivery::Outcome,
    events::{Malformed, Parsed, Refusal, Rejections},
};
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use millrace_schemas::{CommitToken, token::Origin};
use millrace_tenancy::http::ApiError;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// A 202. Its `token` says where the log has the records: with it as `after=` aggregations are answered when they contain
/// them. There is none without records, and none in the rare case that the log does not say where it has a record.
#[derive(Debug, Serialize)]
pub struct Answer {
    ingested: usize,
    dropped: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Value>,
}

impl Answer {
    /// Where no event was good: there was none, or it is an error.
    pub fn without_records(parsed: Parsed) -> Result<Self, ApiError> {
        if parsed.count == 0 {
            return Ok(Self { ingested: 0, dropped: 0, token: None, errors: None });
        }
        let refusal = if parsed.rejections.all_forbidden() {
            ApiError::forbidden("The key may not write the workspace of any of the events")
        } else {
            ApiError::unprocessable(format!("None of the {} events is valid", parsed.count))
        };
        Err(refusal
            .with("ingested", 0)
            .with("dropped", parsed.count)
            .with("errors", parsed.rejections.describe()))
    }

    /// 503 if the log is not known to have all of them.
    pub fn new(outcome: Outcome, rejections: Rejections, origin: Option<Origin>) -> Result<Self, ApiError> {
        let dropped = rejections.count();
        let errors = (dropped > 0).then(|| rejections.describe());
        if outcome.unacknowledged == 0 {
            let token =
                origin.zip(outcome.next).and_then(|(origin, next)| CommitToken { origin, next }.encode());
            return Ok(Self { ingested: outcome.acknowledged, dropped, token, errors });
        }
        let error = unacknowledged(outcome).with("dropped", dropped);
        Err(errors.into_iter().fold(error, |error, errors| error.with("errors", errors)))
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, Json(self)).into_response()
    }
}

fn unacknowledged(outcome: Outcome) -> ApiError {
    let Outcome { acknowledged, unacknowledged, unusual_failure, .. } = outcome;
    let message = format!(
        "The log acknowledged {acknowledged} of {} events in time. Send the request again: an event with the same id is \
         counted once",
        acknowledged + unacknowledged
    );
    let error = ApiError::unavailable(message, BUSY_RETRY)
        .with("ingested", acknowledged)
        .with("unacknowledged", unacknowledged);
    // That the log is away is said once, where it is noticed, and not for each request.
    unusual_failure.into_iter().fold(error, ApiError::caused_by)
}

pub fn too_fast(wait: Duration) -> ApiError {
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "The key sends more events than it may").retry_after(wait)
}

pub fn closing() -> ApiError {
    ApiError::unavailable("The server is shutting down", BUSY_RETRY)
}

pub fn undecodable(error: decode::Error) -> ApiError {
    match error {
        decode::Error::TooLarge(bytes_max) => body::too_large(bytes_max),
        decode::Error::Busy => body::busy(),
        decode::Error::Corrupt(error) => {
            ApiError::bad_request(format!("The body is not what its Content-Encoding says: {error}"))
        }
    }
}

pub fn refused(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Malformed(Malformed::Syntax(error)) => {
            ApiError::bad_request(format!("Malformed JSON: {error}"))
                .with("line", error.line())
                .with("column", error.column())
        }
        Refusal::Malformed(Malformed::Shape(error)) => {
            ApiError::unprocessable(format!("The body must be an object with an array `metrics`: {error}"))
        }
        Refusal::TooMany { found, max } => {
            let message = format!("The request has {found} events: at most {max} are allowed in one");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
        }
    }
}
