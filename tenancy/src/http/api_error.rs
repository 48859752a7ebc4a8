//! An error answer: `{"error": text, "code": status}`, with further fields where a route has them.

use crate::Error;
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};
use std::{error::Error as StdError, fmt::Write as _, time::Duration};

/// How long a client should wait before it tries again when the database is away.
const DATABASE_RETRY: Duration = Duration::from_secs(1);

/// What the client is told, and the cause that only the log is told, once, when the answer is made.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    retry_after: Option<Duration>,
    fields: Map<String, Value>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None, fields: Map::new(), cause: None }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    pub fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal error").caused_by(cause)
    }

    /// 503 with `Retry-After`.
    pub fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(retry_after)
    }

    /// Adds `Retry-After`, in whole seconds and at least one.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds a field to the body.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(field.to_owned(), value.into());
        self
    }

    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    fn log(&self) {
        let Some(cause) = &self.cause else { return };
        let (status, message, cause) = (self.status.as_u16(), &self.message, chain(cause.as_ref()));
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(status, message, cause, "a request failed");
        } else {
            tracing::warn!(status, message, cause, "a request was refused");
        }
    }
}

/// The error and its sources, `: ` between them.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        write!(text, ": {error}").expect("writing to a string does not fail");
        source = error.source();
    }
    text
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match &error {
            Error::Name { .. } => Self::unprocessable(error.to_string()),
            Error::UnknownWorkspace(_) => Self::not_found("Workspace not found"),
            error_kind if error_kind.is_transient() => {
                Self::unavailable("The database is not available", DATABASE_RETRY).caused_by(error)
            }
            _ => Self::internal(error),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let mut body = self.fields;
        body.insert("error".to_owned(), self.message.into());
        body.insert("code".to_owned(), self.status.as_u16().into());
        let mut response = (self.status, Json(Value::Object(body))).into_response();
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        response
    }
}

fn whole_seconds(wait: Duration) -> u64 {
    let round_up = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(round_up).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;

    #[tokio::test]
    async fn the_body_has_the_text_the_status_and_further_fields() {
        let error = ApiError::unavailable("The log is away", Duration::from_millis(1200)).with("ingested", 3);
        let response = error.into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        let body = to_bytes(response.into_body(), 1024).await.expect("a body");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body, serde_json::json!({"error": "The log is away", "code": 503, "ingested": 3}));
    }

    #[tokio::test]
    async fn the_cause_is_not_for_the_client() {
        let response = ApiError::internal("secret.host:5432 refused").into_response();
        let body = to_bytes(response.into_body(), 1024).await.expect("a body");
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
    }

    #[test]
    fn an_absent_database_is_503_and_an_unknown_workspace_404() {
        let away = Error::TimedOut { doing: "asking", limit: Duration::from_secs(3) };
        assert_eq!(ApiError::from(away).status(), StatusCode::SERVICE_UNAVAILABLE);
        let unknown = Error::UnknownWorkspace(millrace_schemas::WorkspaceId(uuid::Uuid::nil()));
        assert_eq!(ApiError::from(unknown).status(), StatusCode::NOT_FOUND);
    }
}
