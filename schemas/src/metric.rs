//! The raw record: one executed query, as producers send it and as the `metrics` topic holds it.
//!
//! It has no version: anyone's client writes it, so it changes only by fields that may be absent, and a field that this
//! build does not know is ignored. A shape that can't be read so needs a topic of its own.

mod hex;
pub mod quick;
mod reader;

use crate::{EventTime, RecordId, ServiceId, WorkspaceId, json};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;
use std::fmt;

/// The most bytes that `query_text` may have (UTF-8).
pub const QUERY_TEXT_BYTES_MAX: usize = 256 * 1024;
/// The most bytes that `error_message` may have (UTF-8).
pub const ERROR_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// The most tags that a record may have.
pub const TAGS_MAX: usize = 64;
/// The most bytes that one tag may have (UTF-8).
pub const TAG_BYTES_MAX: usize = 256;
/// The longest duration taken, in milliseconds: about 31 years.
pub const DURATION_MS_MAX: f64 = 1e12;

/// How a query ended; `running` has not ended and is in no count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Running,
    Success,
    Failed,
    Cancelled,
    Timeout,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One executed query. Unknown fields are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QueryMetric {
    /// Unique within the workspace; the same id again is a duplicate and is not counted twice.
    pub id: RecordId,
    pub workspace_id: WorkspaceId,
    pub service_id: ServiceId,
    /// At most 262,144 bytes.
    pub query_text: String,
    pub status: Status,
    /// Milliseconds, may have a fraction, 0 to 1e12; null where it is not known (a statement that failed before it
    /// was timed): such a record counts, but takes no part in sums and percentiles.
    #[serde(deserialize_with = "required_nullable")]
    #[schemars(required, range(min = 0.0, max = 1e12))]
    pub duration_ms: Option<f64>,
    #[serde(default)]
    pub rows_affected: Option<i64>,
    /// At most 65,536 bytes.
    #[serde(default)]
    pub error_message: Option<String>,
    pub started_at: EventTime,
    /// The event time: it decides the window.
    pub completed_at: EventTime,
    /// At most 64 tags of at most 256 bytes.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// A field that must be there but may be null: serde would take a missing one for null.
pub fn required_nullable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Option::<f64>::deserialize(deserializer)
}

/// What is wrong with one field, for the producer to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    pub field: String,
    pub message: String,
}

impl FieldError {
    pub fn new(field: &str, message: impl Into<String>) -> Self {
        Self { field: field.to_owned(), message: message.into() }
    }
}

impl QueryMetric {
    /// Reads and validates one JSON event. The error names the field, what was found and what is allowed.
    pub fn from_value(value: &Value) -> Result<Self, FieldError> {
        let object =
            value.as_object().ok_or_else(|| FieldError::new("", "an event must be a JSON object"))?;
        Self::deserialize(value)
            .map_err(|error| name_field(object, &error))
            .and_then(|metric| metric.validate().map(|()| metric))
    }

    /// Reads and validates the bytes of one record of the `metrics` topic, or of one that is to go there.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, FieldError> {
        quick::metric(bytes).map_or_else(|| Self::from_any_form(bytes), Ok)
    }

    /// The same, with a reader that needs more time: for what [`quick`] leaves to it, and to hold that against.
    pub fn from_any_form(bytes: &[u8]) -> Result<Self, FieldError> {
        let metric: Self = json::read(bytes)?;
        metric.validate().map(|()| metric)
    }

    /// The limits that the types can't say.
    pub fn validate(&self) -> Result<(), FieldError> {
        validate_duration(self.duration_ms)?;
        limit("query_text", self.query_text.len(), QUERY_TEXT_BYTES_MAX, "bytes")?;
        limit(
            "error_message",
            self.error_message.as_ref().map_or(0, String::len),
            ERROR_MESSAGE_BYTES_MAX,
            "bytes",
        )?;
        limit("tags", self.tags.len(), TAGS_MAX, "tags")?;
        self.tags.iter().try_for_each(|tag| limit("tags", tag.len(), TAG_BYTES_MAX, "bytes in one tag"))
    }
}

/// A duration must be a finite number from 0 to [`DURATION_MS_MAX`].
pub fn validate_duration(duration_ms: Option<f64>) -> Result<(), FieldError> {
    match duration_ms {
        Some(ms) if !(0.0..=DURATION_MS_MAX).contains(&ms) => Err(FieldError::new(
            "duration_ms",
            format!("{ms} is not between 0 and {DURATION_MS_MAX} milliseconds"),
        )),
        _ => Ok(()),
    }
}

fn limit(field: &str, found: usize, max: usize, unit: &str) -> Result<(), FieldError> {
    if found > max {
        return Err(FieldError::new(field, format!("{found} {unit}; at most {max} are allowed")));
    }
    Ok(())
}

type Check = fn(&Value) -> Result<(), serde_json::Error>;

/// serde says what is wrong but, read from a value, not in which field: try the fields one by one.
fn name_field(object: &serde_json::Map<String, Value>, error: &serde_json::Error) -> FieldError {
    let checks: [(&str, bool, Check); 11] = [
        ("id", true, check::<RecordId>),
        ("workspace_id", true, check::<WorkspaceId>),
        ("service_id", true, check::<ServiceId>),
        ("query_text", true, check::<String>),
        ("status", true, check::<Status>),
        ("duration_ms", true, check::<Option<f64>>),
        ("rows_affected", false, check::<Option<i64>>),
        ("error_message", false, check::<Option<String>>),
        ("started_at", true, check::<EventTime>),
        ("completed_at", true, check::<EventTime>),
        ("tags", false, check::<Vec<String>>),
    ];
    for (field, required, check) in checks {
        match object.get(field) {
            None if required => return FieldError::new(field, "is required"),
            None => {}
            Some(value) => {
                if let Err(error) = check(value) {
                    return FieldError::new(field, error.to_string());
                }
            }
        }
    }
    FieldError::new("", error.to_string())
}

fn check<T: for<'de> Deserialize<'de>>(value: &Value) -> Result<(), serde_json::Error> {
    T::deserialize(value).map(|_| ()).map_err(|error| serde_json::Error::custom(error.to_string()))
}

#[cfg(test)]
mod tests;
