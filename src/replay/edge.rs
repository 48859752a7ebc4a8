//! Requests to an edge, tried again while it asks for that or can't be reached: a record sent twice has the same id.

use axum::http::{StatusCode, header};
use bytes::Bytes;
use millrace_schemas::QueryMetric;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one request is tried again while the edge asks for that.
const BUSY_LIMIT: Duration = Duration::from_secs(60);
/// And while nobody answers: an edge that starts anew is soon back, a wrong URL never.
const AWAY_LIMIT: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// Of an answer that is not the edge's own.
const SHOWN_CHARS_MAX: usize = 300;

#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    #[error("{url} answered {status}: {message}")]
    Refused { url: String, status: StatusCode, message: String },
    #[error("{url} can't be reached")]
    Away { url: String, source: reqwest::Error },
    #[error("{url} gave an answer that can't be understood")]
    Answer { url: String, source: serde_json::Error },
    #[error("making the HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("encoding a request")]
    Encode(#[source] serde_json::Error),
    #[error("interrupted while waiting for {0}")]
    Interrupted(String),
}

/// What became of one batch. With status 422 none of its events was valid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Ingested {
    pub ingested: u64,
    pub dropped: u64,
    /// Of the dropped.
    #[serde(default)]
    pub errors: Vec<Rejection>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Rejection {
    #[serde(default)]
    pub field: String,
    pub message: String,
}

#[derive(Clone)]
pub struct Edge {
    client: reqwest::Client,
    base: String,
    key: String,
    shutdown: CancellationToken,
}

/// One try's end: it may be worth another.
enum Failure {
    /// The edge may say how long to wait.
    Busy {
        wait: Option<Duration>,
        error: EdgeError,
    },
    Away(EdgeError),
    Final(EdgeError),
}

impl Edge {
    pub fn new(url: &Url, key: &str, shutdown: &CancellationToken) -> Result<Self, EdgeError> {
        let client =
            reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(REQUEST_TIMEOUT).build();
        Ok(Self {
            client: client.map_err(EdgeError::Client)?,
            base: url.as_str().trim_end_matches('/').to_owned(),
            key: key.to_owned(),
            shutdown: shutdown.clone(),
        })
    }

    /// The id of what has `name` in the collection at `path`.
    pub async fn get_or_create(&self, path: &str, name: &str) -> Result<Uuid, EdgeError> {
        #[derive(Serialize)]
        struct Named<'a> {
            name: &'a str,
        }
        #[derive(Deserialize)]
        struct Created {
            id: Uuid,
        }
        let created: Created = self.post(path, &Named { name }).await?;
        Ok(created.id)
    }

    pub async fn ingest(&self, metrics: &[QueryMetric]) -> Result<Ingested, EdgeError> {
        #[derive(Serialize)]
        struct Batch<'a> {
            metrics: &'a [QueryMetric],
        }
        self.post("/api/v1/metrics/ingest", &Batch { metrics }).await
    }

    /// What the path answers, as JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, EdgeError> {
        self.request(path, None).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, EdgeError> {
        let body = serde_json::to_vec(body).map_err(EdgeError::Encode)?;
        self.request(path, Some(body.into())).await
    }

    /// POST with a body, GET without.
    async fn request<T: DeserializeOwned>(&self, path: &str, body: Option<Bytes>) -> Result<T, EdgeError> {
        let url = format!("{}{path}", self.base);
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let (wait, limit, error) = match self.try_once(&url, body.clone()).await {
                Ok(answer) => {
                    return serde_json::from_slice(&answer)
                        .map_err(|source| EdgeError::Answer { url, source });
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Away(error)) => (pause, AWAY_LIMIT, error),
                Err(Failure::Busy { wait, error }) => (wait.unwrap_or(pause), BUSY_LIMIT, error),
            };
            if started.elapsed() + wait > limit {
                return Err(error);
            }
            tracing::warn!(%error, wait_ms = wait.as_millis(), "trying again");
            self.pause(wait, &url).await?;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn try_once(&self, url: &str, body: Option<Bytes>) -> Result<Bytes, Failure> {
        let request = match body {
            Some(body) => self.client.post(url).header(header::CONTENT_TYPE, "application/json").body(body),
            None => self.client.get(url),
        };
        let away = |source| Failure::Away(EdgeError::Away { url: url.to_owned(), source });
        let response = request.bearer_auth(&self.key).send().await.map_err(away)?;
        let status = response.status();
        let wait = retry_after(response.headers());
        let answer = response.bytes().await.map_err(away)?;
        if status.is_success() {
            return Ok(answer);
        }
        if status == StatusCode::UNPROCESSABLE_ENTITY && serde_json::from_slice::<Ingested>(&answer).is_ok() {
            return Ok(answer);
        }
        let error = EdgeError::Refused { url: url.to_owned(), status, message: message(&answer) };
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Failure::Busy { wait, error },
            _ => Failure::Final(error),
        })
    }

    async fn pause(&self, wait: Duration, url: &str) -> Result<(), EdgeError> {
        tokio::select! {
            () = self.shutdown.cancelled() => Err(EdgeError::Interrupted(url.to_owned())),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }
}

fn retry_after(headers: &header::HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// The edge's own message, or the start of what another server said.
fn message(answer: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    match serde_json::from_slice(answer) {
        Ok(Refusal { error }) => error,
        Err(_) => String::from_utf8_lossy(answer).chars().take(SHOWN_CHARS_MAX).collect(),
    }
}

#[cfg(test)]
mod tests;
