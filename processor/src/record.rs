//! Reads what the windows need of a raw record, without building the rest: the rest is only checked, by the same rules
//! as [`millrace_schemas::QueryMetric`], so that both agree on what is valid. For the archive it is kept too.

mod kept;
mod texts;

pub use texts::{Strings, Texts};

use crate::admission::Identity;
use kept::Kept;
use millrace_schemas::{
    EventTime, FieldError, QueryMetric, RecordId, ServiceId, Status, WorkspaceId, json,
    metric::{
        self, ERROR_MESSAGE_BYTES_MAX, QUERY_TEXT_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX,
        quick::{self, Checked, Fields},
        validate_duration,
    },
};
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use std::fmt;

/// The measured part of a valid record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    pub service: ServiceId,
    pub status: Status,
    pub duration_ms: Option<f64>,
    pub rows_affected: Option<i64>,
}

impl From<&QueryMetric> for Measured {
    fn from(metric: &QueryMetric) -> Self {
        Self {
            service: metric.service_id,
            status: metric.status,
            duration_ms: metric.duration_ms,
            rows_affected: metric.rows_affected,
        }
    }
}

/// All of a valid record. Its strings are among the [`Texts`] that it was read into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Whole {
    pub identity: Identity,
    pub measured: Measured,
    pub started_at: EventTime,
    pub strings: Strings,
}

/// Reads and validates all of one record of the `metrics` topic.
pub fn read(bytes: &[u8], texts: &mut Texts) -> Result<Whole, FieldError> {
    let mut kept = Kept::new(texts);
    if let Some(fields) = quick::parse(bytes, &mut kept) {
        let Kept { started_at, strings, .. } = kept;
        let (identity, measured) = split(fields);
        return Ok(Whole { identity, measured, started_at, strings });
    }
    let metric = QueryMetric::from_any_form(bytes)?;
    let query_text = texts.push(&metric.query_text);
    let error_message = metric.error_message.as_ref().map(|text| texts.push(text));
    let first_tag = texts.len();
    for tag in &metric.tags {
        texts.push(tag);
    }
    let strings = Strings { query_text, error_message, first_tag, tags: metric.tags.len() };
    let (identity, measured) = (Identity::from(&metric), Measured::from(&metric));
    Ok(Whole { identity, measured, started_at: metric.started_at, strings })
}

/// Reads what the windows need of one record of the `metrics` topic, and validates all of it.
pub fn parse(bytes: &[u8]) -> Result<(Identity, Measured), FieldError> {
    if let Some(fields) = quick::parse(bytes, &mut Checked) {
        return Ok(split(fields));
    }
    let lean: Lean = json::read(bytes)?;
    lean.validate()?;
    let identity = Identity {
        workspace: lean.workspace_id,
        id: lean.id,
        completed_at: lean.completed_at,
        running: lean.status == Status::Running,
    };
    let measured = Measured {
        service: lean.service_id,
        status: lean.status,
        duration_ms: lean.duration_ms,
        rows_affected: lean.rows_affected,
    };
    Ok((identity, measured))
}

/// What decides the verdict, and what is measured.
#[inline(always)]
fn split(fields: Fields) -> (Identity, Measured) {
    let Fields { id, workspace_id, service_id, status, duration_ms, rows_affected, completed_at, .. } =
        fields;
    let identity = Identity { workspace: workspace_id, id, completed_at, running: status == Status::Running };
    (identity, Measured { service: service_id, status, duration_ms, rows_affected })
}

/// The workspace that a record names which is not valid otherwise.
pub fn workspace(bytes: &[u8]) -> Option<WorkspaceId> {
    #[derive(Deserialize)]
    struct Head {
        workspace_id: WorkspaceId,
    }
    serde_json::from_slice::<Head>(bytes).ok().map(|head| head.workspace_id)
}

#[derive(Deserialize)]
struct Lean {
    id: RecordId,
    workspace_id: WorkspaceId,
    service_id: ServiceId,
    query_text: Length,
    status: Status,
    #[serde(deserialize_with = "metric::required_nullable")]
    duration_ms: Option<f64>,
    #[serde(default)]
    rows_affected: Option<i64>,
    #[serde(default)]
    error_message: Option<Length>,
    #[serde(rename = "started_at")]
    _started_at: EventTime,
    completed_at: EventTime,
    #[serde(default)]
    tags: Tags,
}

impl Lean {
    fn validate(&self) -> Result<(), FieldError> {
        validate_duration(self.duration_ms)?;
        let within = self.query_text.0 <= QUERY_TEXT_BYTES_MAX
            && self.error_message.as_ref().is_none_or(|length| length.0 <= ERROR_MESSAGE_BYTES_MAX)
            && self.tags.count <= TAGS_MAX
            && self.tags.longest <= TAG_BYTES_MAX;
        if within { Ok(()) } else { Err(self.too_long()) }
    }

    fn too_long(&self) -> FieldError {
        let found = [
            ("query_text", self.query_text.0, QUERY_TEXT_BYTES_MAX, "bytes"),
            (
                "error_message",
                self.error_message.as_ref().map_or(0, |length| length.0),
                ERROR_MESSAGE_BYTES_MAX,
                "bytes",
            ),
            ("tags", self.tags.count, TAGS_MAX, "tags"),
            ("tags", self.tags.longest, TAG_BYTES_MAX, "bytes in one tag"),
        ];
        let (field, found, max, unit) =
            found.into_iter().find(|(_, found, max, _)| found > max).expect("only called when one is");
        FieldError::new(field, format!("{found} {unit}; at most {max} are allowed"))
    }
}

/// A string of which only the length is kept.
struct Length(usize);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(LengthVisitor)
    }
}

struct LengthVisitor;

impl Visitor<'_> for LengthVisitor {
    type Value = Length;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<Length, E> {
        Ok(Length(text.len()))
    }
}

/// An array of strings of which only the extents are kept.
#[derive(Default)]
struct Tags {
    count: usize,
    longest: usize,
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(TagsVisitor)
    }
}

struct TagsVisitor;

impl<'de> Visitor<'de> for TagsVisitor {
    type Value = Tags;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tags, A::Error> {
        let mut tags = Tags::default();
        while let Some(Length(length)) = seq.next_element()? {
            tags.count += 1;
            tags.longest = tags.longest.max(length);
        }
        Ok(tags)
    }
}

#[cfg(test)]
mod tests;
