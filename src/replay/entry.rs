//! What one log entry says, whatever its format: a statement that ran, or something else. Pure.

use crate::replay::timestamp::{self, TimestampError};
use millrace_schemas::{
    EventTime, RecordId, Status,
    metric::{DURATION_MS_MAX, ERROR_MESSAGE_BYTES_MAX, QUERY_TEXT_BYTES_MAX},
};
use std::{borrow::Cow, time::Duration};
use uuid::{Uuid, uuid};

/// Record ids are UUIDv5 of `session_id/line_num` in this namespace: the same line has the same id in each replay.
const RECORD_NAMESPACE: Uuid = uuid!("6f2f3c1e-4d0a-5b8e-9c57-2a1b7d3e8f60");
/// SQLSTATE query_canceled; its message says by whom.
const QUERY_CANCELED: &str = "57014";

/// The fields of a log entry that matter here. A field that the entry doesn't have is empty.
#[derive(Debug, Default)]
pub struct Entry<'a> {
    pub time: Cow<'a, str>,
    pub database: Cow<'a, str>,
    pub application: Cow<'a, str>,
    /// `None` in logs of PostgreSQL before 13.
    pub backend_type: Option<Cow<'a, str>>,
    pub session_id: Cow<'a, str>,
    pub session_line: Cow<'a, str>,
    pub severity: Cow<'a, str>,
    pub sqlstate: Cow<'a, str>,
    pub message: Cow<'a, str>,
    /// The statement that an error came from.
    pub statement: Option<Cow<'a, str>>,
}

/// A statement that a client ran, as the log tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    pub id: RecordId,
    pub database: String,
    /// May be empty.
    pub application: String,
    pub completed_at: EventTime,
    /// Null for a statement that failed: the log does not time it.
    pub duration_ms: Option<f64>,
    pub status: Status,
    pub query_text: String,
    pub error_message: Option<String>,
}

impl Statement {
    pub fn started_at(&self) -> EventTime {
        let duration = Duration::from_secs_f64(self.duration_ms.unwrap_or(0.0) / 1000.0);
        self.completed_at.saturating_sub(duration)
    }
}

/// Why an entry that should be a statement isn't.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error(transparent)]
    Time(#[from] TimestampError),
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error("a duration of {0} ms")]
    Duration(String),
}

/// The statement that `entry` tells of, or `None` where it tells of something else.
pub fn statement(entry: &Entry<'_>) -> Result<Option<Statement>, EntryError> {
    if entry.backend_type.as_ref().is_some_and(|kind| kind != "client backend") {
        return Ok(None);
    }
    match entry.severity.as_ref() {
        "LOG" => succeeded(entry),
        "ERROR" | "FATAL" | "PANIC" => failed(entry),
        _ => Ok(None),
    }
}

fn succeeded(entry: &Entry<'_>) -> Result<Option<Statement>, EntryError> {
    let Some((duration, text)) = timed_statement(&entry.message) else { return Ok(None) };
    let duration_ms = duration.parse().ok().filter(|ms| (0.0..=DURATION_MS_MAX).contains(ms));
    let duration_ms = duration_ms.ok_or_else(|| EntryError::Duration(duration.to_owned()))?;
    record(entry, text).map(|statement| Some(Statement { duration_ms: Some(duration_ms), ..statement }))
}

fn failed(entry: &Entry<'_>) -> Result<Option<Statement>, EntryError> {
    let Some(text) = &entry.statement else { return Ok(None) };
    let error_message = Some(shortened(&entry.message, ERROR_MESSAGE_BYTES_MAX));
    let status = outcome(&entry.sqlstate, &entry.message);
    record(entry, text).map(|statement| Some(Statement { status, error_message, ..statement }))
}

/// Splits `duration: 0.123 ms  execute NAME: TEXT` into the number and the text. `parse` and `bind` are no statements.
fn timed_statement(message: &str) -> Option<(&str, &str)> {
    let (duration, rest) = message.strip_prefix("duration: ")?.split_once(" ms  ")?;
    if !duration.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    if let Some(text) = rest.strip_prefix("statement: ") {
        return Some((duration, text));
    }
    let (kind, text) = rest.split_once(": ")?;
    (kind.starts_with("execute ") || kind.starts_with("fastpath")).then_some((duration, text))
}

/// How a statement with this error ended. Messages may be translated; then a cancel can't be told from a time-out.
fn outcome(sqlstate: &str, message: &str) -> Status {
    if message.starts_with("canceling statement due to user request") {
        Status::Cancelled
    } else if sqlstate == QUERY_CANCELED
        || message.starts_with("canceling statement due to statement timeout")
    {
        Status::Timeout
    } else {
        Status::Failed
    }
}

fn record(entry: &Entry<'_>, text: &str) -> Result<Statement, EntryError> {
    let required = |value: &str, name| if value.is_empty() { Err(EntryError::Missing(name)) } else { Ok(()) };
    required(&entry.session_id, "session id")?;
    required(&entry.session_line, "session line number")?;
    required(&entry.database, "database")?;
    let identity = format!("{}/{}", entry.session_id, entry.session_line);
    Ok(Statement {
        id: RecordId(Uuid::new_v5(&RECORD_NAMESPACE, identity.as_bytes())),
        database: entry.database.clone().into_owned(),
        application: entry.application.clone().into_owned(),
        completed_at: timestamp::parse(&entry.time)?,
        duration_ms: None,
        status: Status::Success,
        query_text: shortened(text, QUERY_TEXT_BYTES_MAX),
        error_message: None,
    })
}

/// At most `bytes_max` bytes of `text`: a longer one would be refused, and its record with it.
fn shortened(text: &str, bytes_max: usize) -> String {
    text[..text.floor_char_boundary(bytes_max)].to_owned()
}

#[cfg(test)]
mod tests;
