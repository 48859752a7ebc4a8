//! `after=` and `wait=`: holds an answer back until the stored windows contain the records of a commit token.

use crate::{
    brokers::{self, Brokers},
    reach::{Reach, stored::Stored},
    routes::while_waiting,
    tail::Positions,
};
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use millrace_schemas::CommitToken;
use millrace_tenancy::{Error as StoreError, http::ApiError};
use serde::Serialize;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

const WAIT_DEFAULT: Duration = Duration::from_secs(2);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How often the database is asked how far the sink is, by all who wait together.
const ASK_INTERVAL: Duration = Duration::from_millis(50);
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// What waiting needs.
pub struct Waits {
    pub reach: Arc<Reach>,
    pub stored: Stored,
    pub brokers: Brokers,
    /// Of the `metrics` topic.
    pub positions: Arc<Positions>,
    pub places: Semaphore,
    pub shutdown: CancellationToken,
}

/// A token, and how long to wait.
#[derive(Debug, PartialEq)]
pub struct After {
    token: CommitToken,
    wait: Duration,
}

/// The 202: the windows do not contain the records yet.
#[derive(Debug, Serialize)]
pub struct NotYet {
    contained: bool,
    waited_ms: u64,
    partitions: Vec<Where>,
}

/// One partition of the `metrics` topic; offsets are the next ones.
#[derive(Debug, PartialEq, Serialize)]
struct Where {
    partition: i32,
    wanted: i64,
    /// Up to there stored windows contain all; null while that is not known.
    reached: Option<i64>,
}

impl After {
    pub fn parse(after: Option<&str>, wait: Option<&str>) -> Result<Option<Self>, ApiError> {
        let wait_for =
            wait.map_or(Ok(WAIT_DEFAULT), |text| duration(text).ok_or_else(|| invalid_wait(text)))?;
        let Some(text) = after else {
            let alone = || ApiError::bad_request("'wait' needs 'after', the token to wait for");
            return wait.map_or(Ok(None), |_| Err(alone()));
        };
        let token = CommitToken::decode(text).map_err(|error| invalid_token(&error.to_string()))?;
        Ok(Some(Self { token, wait: wait_for }))
    }
}

fn invalid_token(why: &str) -> ApiError {
    ApiError::bad_request(format!("Invalid 'after': {why}"))
}

fn invalid_wait(text: &str) -> ApiError {
    let max_s = WAIT_MAX.as_secs();
    ApiError::bad_request(format!(
        "Invalid wait '{text}': write 0ms to {max_s}s as a whole number with ms or s"
    ))
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    let duration = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        _ => return None,
    };
    (duration <= WAIT_MAX).then_some(duration)
}

impl Waits {
    /// `None` when the windows contain the records; else, after the time, where they are.
    pub async fn until_contained(&self, after: &After) -> Result<Option<NotYet>, ApiError> {
        let _place = self.places.try_acquire().map_err(|_| full())?;
        let started = Instant::now();
        let deadline = started + after.wait;
        let mut news = self.reach.news();
        self.check_origin(&after.token).await?;
        if self.is_contained(&after.token).await? {
            return Ok(None);
        }
        self.check_ends(&after.token).await?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Some(self.not_yet(&after.token, started.elapsed())));
            }
            // As long as the windows have not emitted them, only news of the windows can change anything.
            let emitted = self.reach.has_emitted(&after.token);
            let pause = if emitted { ASK_INTERVAL.min(left) } else { left };
            tokio::select! {
                () = self.shutdown.cancelled() => return Err(closing()),
                changed = news.changed(), if !emitted => changed.map_err(ApiError::internal)?,
                () = sleep(pause) => {}
            }
            if self.is_contained(&after.token).await? {
                return Ok(None);
            }
        }
    }

    async fn is_contained(&self, token: &CommitToken) -> Result<bool, ApiError> {
        if self.reach.has_emitted(token) && !self.reach.has_stored(token) {
            let failed = |source| StoreError::Database { doing: "asking how far the sink is", source };
            while_waiting(async { Ok(self.stored.refresh(ASK_INTERVAL).await.map_err(failed)?) }).await?;
        }
        Ok(self.reach.has_stored(token))
    }

    async fn check_origin(&self, token: &CommitToken) -> Result<(), ApiError> {
        if self.brokers.origin().await.map_err(log_away)? == token.origin {
            return Ok(());
        }
        let why = format!("it is not of the topic {} of this installation", self.brokers.topic());
        Err(invalid_token(&why))
    }

    /// Refuses offsets that the log does not have: they would be waited for in vain.
    async fn check_ends(&self, token: &CommitToken) -> Result<(), ApiError> {
        let known = self.positions.floors();
        for (partition, next) in &token.next {
            let end = usize::try_from(*partition).ok().and_then(|partition| known.get(partition));
            if end.is_some_and(|end| next <= end) {
                continue;
            }
            // What is known may be a second old.
            match self.brokers.end(*partition).await.map_err(log_away)? {
                Some(end) if *next <= end => {}
                Some(end) => {
                    let why = format!("offset {next} of partition {partition} is past the log's end, {end}");
                    return Err(invalid_token(&why));
                }
                None => return Err(invalid_token(&format!("there is no partition {partition}"))),
            }
        }
        Ok(())
    }

    fn not_yet(&self, token: &CommitToken, waited: Duration) -> NotYet {
        let place = |(partition, wanted): (&i32, &i64)| Where {
            partition: *partition,
            wanted: *wanted,
            reached: self.reach.stored(*partition),
        };
        NotYet {
            contained: false,
            waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
            partitions: token.next.iter().map(place).collect(),
        }
    }
}

impl IntoResponse for NotYet {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::ACCEPTED, Json(self)).into_response();
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(BUSY_RETRY.as_secs()));
        response
    }
}

fn full() -> ApiError {
    ApiError::unavailable("Too many requests wait for a token", BUSY_RETRY)
}

fn closing() -> ApiError {
    ApiError::unavailable("The server is shutting down", BUSY_RETRY)
}

fn log_away(error: brokers::Error) -> ApiError {
    ApiError::unavailable("The log is not available", BUSY_RETRY).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_schemas::token::Origin;

    fn parse(after: Option<&str>, wait: Option<&str>) -> Result<Option<After>, String> {
        After::parse(after, wait).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn without_a_token_nothing_is_waited_for() {
        assert_eq!(parse(None, None), Ok(None));
        assert_eq!(parse(None, Some("2s")).unwrap_err(), "'wait' needs 'after', the token to wait for");
    }

    #[test]
    fn a_wait_is_bounded() {
        let token = CommitToken { origin: Origin::of("cluster", "topic"), next: [(0, 1)].into() };
        let text = token.encode().expect("one partition");
        let wait = |wait| parse(Some(&text), wait).map(|after| after.map(|after| after.wait));
        assert_eq!(wait(None), Ok(Some(WAIT_DEFAULT)));
        assert_eq!(wait(Some("30s")), Ok(Some(WAIT_MAX)));
        assert_eq!(wait(Some("0ms")), Ok(Some(Duration::ZERO)));
        for bad in ["", "2", "s", "31s", "30001ms", "1m", "-1s", "1.5s", "99999999999999999999s"] {
            let error = wait(Some(bad)).expect_err(bad);
            assert!(error.ends_with("write 0ms to 30s as a whole number with ms or s"), "{error}");
        }
    }

    #[test]
    fn a_bad_token_is_named() {
        let expected =
            "Invalid 'after': it is damaged or no token at all: give it back as the ingest answer has it";
        assert_eq!(parse(Some("mine"), None).unwrap_err(), expected);
        assert_eq!(
            parse(Some("AmwwCNTKO5Ab1QSzDwAMA8CEPQ"), None).unwrap_err(),
            "Invalid 'after': it has version 2; this build reads version 1"
        );
    }
}
