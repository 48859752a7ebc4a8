//! Bytes to events: each is read, validated and becomes the record that goes to the log. Pure: what time it is and what the
//! key may do are arguments.

mod envelope;
mod rejection;

pub use envelope::Malformed;
pub use rejection::{Rejection, Rejections};

use crate::content::Format;
use envelope::Envelope;
use millrace_schemas::{
    EventTime, FieldError, QueryMetric, RecordId, ServiceId, WorkspaceId, ledger::EDGE_END, metric::quick,
};
use millrace_tenancy::Access;
use std::{collections::HashSet, ops::Range, str::from_utf8, time::Duration};

/// The most bytes of a record: brokers refuse a message of more than about 1 MB, its key and headers included.
const RECORD_BYTES_MAX: usize = 900_000;

/// What an event must obey beyond its own shape.
#[derive(Clone, Copy)]
pub struct Rules {
    pub access: Access,
    pub now: EventTime,
    pub future_skew: Duration,
    pub events_max: usize,
}

/// The records of one request, and what was refused.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The records one after the other, as JSON, each with its [`EDGE_END`].
    bytes: Vec<u8>,
    records: Vec<Record>,
    pub rejections: Rejections,
    /// Events in the request.
    pub count: usize,
}

#[derive(Debug)]
pub struct Record {
    pub workspace: WorkspaceId,
    pub service: ServiceId,
    id: RecordId,
    index: usize,
    range: Range<usize>,
}

/// Why a whole request was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the request has {found} events; at most {max} are allowed")]
    TooMany { found: usize, max: usize },
}

/// Reads the events of a body. Bad ones are rejections; only what hides all events is a refusal.
pub fn parse(format: Format, body: &[u8], rules: &Rules) -> Result<Parsed, Refusal> {
    match format {
        Format::Json => parse_object(body, rules),
        Format::Lines => parse_lines(body, rules),
    }
}

fn parse_object(body: &[u8], rules: &Rules) -> Result<Parsed, Refusal> {
    let envelope = Envelope::read(body, rules.events_max)?;
    limit(envelope.count, rules.events_max)?;
    let mut parsed = Parsed::with_capacity(envelope.count, body.len());
    for event in envelope.events {
        parsed.take(event.get(), None, rules);
    }
    Ok(parsed)
}

fn parse_lines(body: &[u8], rules: &Rules) -> Result<Parsed, Refusal> {
    let lines = || body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).enumerate();
    let count = lines().filter(|(_, line)| !line.is_empty()).count();
    limit(count, rules.events_max)?;
    let mut parsed = Parsed::with_capacity(count, body.len());
    for (index, line) in lines().filter(|(_, line)| !line.is_empty()) {
        match from_utf8(line) {
            Ok(text) => parsed.take(text, Some(index + 1), rules),
            Err(_) => parsed.reject_unreadable(index + 1),
        }
    }
    Ok(parsed)
}

fn limit(found: usize, max: usize) -> Result<(), Refusal> {
    if found > max { Err(Refusal::TooMany { found, max }) } else { Ok(()) }
}

impl Parsed {
    fn with_capacity(records: usize, bytes: usize) -> Self {
        let bytes = bytes + records * EDGE_END.len();
        Self { bytes: Vec::with_capacity(bytes), records: Vec::with_capacity(records), ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Of all records together.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Each record with its bytes, in the order of the request.
    pub fn records(&self) -> impl Iterator<Item = (&Record, &[u8])> {
        self.records.iter().map(|record| (record, &self.bytes[record.range.clone()]))
    }

    /// The workspaces that are written to, each once.
    pub fn workspaces(&self) -> Vec<WorkspaceId> {
        let unique: HashSet<_> = self.records.iter().map(|record| record.workspace).collect();
        unique.into_iter().collect()
    }

    /// Rejects the records of workspaces that don't exist.
    pub fn reject_unknown(&mut self, known: &HashSet<WorkspaceId>) {
        let rejections = &mut self.rejections;
        self.records.retain(|record| {
            let exists = known.contains(&record.workspace);
            if !exists {
                let error =
                    FieldError::new("workspace_id", format!("no workspace has the id {}", record.workspace));
                rejections.add(Rejection::new(record.index, error).with_id(record.id.to_string()));
            }
            exists
        });
    }

    /// One event more; `line` is its number in a body of lines.
    fn take(&mut self, text: &str, line: Option<usize>, rules: &Rules) {
        let index = self.count;
        self.count += 1;
        match Event::read(text).and_then(|event| rules.check(&event).map(|()| event)) {
            Ok(event) if !rules.access.may_ingest(event.workspace) => {
                let error = FieldError::new("workspace_id", "the key may not write this workspace");
                self.rejections
                    .add_forbidden(Rejection::new(index, error).at_line(line).with_id(event.id.to_string()));
            }
            Ok(event) => {
                if let Err(error) = self.push(index, &event) {
                    self.rejections
                        .add(Rejection::new(index, error).at_line(line).with_id(event.id.to_string()));
                }
            }
            Err(error) => self.rejections.add(Rejection::new(index, error).at_line(line).with_id_of(text)),
        }
    }

    fn push(&mut self, index: usize, event: &Event<'_>) -> Result<(), FieldError> {
        let start = self.bytes.len();
        event.write(&mut self.bytes);
        let bytes = self.bytes.len() - start;
        if bytes > RECORD_BYTES_MAX {
            self.bytes.truncate(start);
            return Err(FieldError::new(
                "",
                format!("the event has {bytes} bytes; at most {RECORD_BYTES_MAX} are allowed"),
            ));
        }
        self.bytes.extend(EDGE_END);
        let Event { workspace, service, id, .. } = *event;
        self.records.push(Record { workspace, service, id, index, range: start..self.bytes.len() });
        Ok(())
    }

    fn reject_unreadable(&mut self, line: usize) {
        let error = FieldError::new("", "the line is not UTF-8");
        self.rejections.add(Rejection::new(self.count, error).at_line(Some(line)));
        self.count += 1;
    }
}

impl Rules {
    fn check(&self, event: &Event<'_>) -> Result<(), FieldError> {
        if event.completed_at > self.now.saturating_add(self.future_skew) {
            let skew_s = self.future_skew.as_secs();
            let message = format!(
                "{} lies in the future; at most {skew_s} s ahead of {} are allowed",
                event.completed_at, self.now
            );
            return Err(FieldError::new("completed_at", message));
        }
        Ok(())
    }
}

/// A valid event.
struct Event<'t> {
    workspace: WorkspaceId,
    service: ServiceId,
    id: RecordId,
    completed_at: EventTime,
    content: Content<'t>,
}

enum Content<'t> {
    /// It is passed on as it came.
    Text(&'t str),
    /// It is written anew.
    Metric(Box<QueryMetric>),
}

impl<'t> Event<'t> {
    fn read(text: &'t str) -> Result<Self, FieldError> {
        // serde would take an array for a struct, field by field.
        if !text.starts_with('{') {
            return Err(FieldError::new("", "an event must be a JSON object"));
        }
        if let Some(fields) = quick::parse(text.as_bytes(), &mut quick::Checked) {
            return Ok(Self {
                workspace: fields.workspace_id,
                service: fields.service_id,
                id: fields.id,
                completed_at: fields.completed_at,
                content: Content::Text(text),
            });
        }
        let metric = QueryMetric::from_any_form(text.as_bytes())?;
        Ok(Self {
            workspace: metric.workspace_id,
            service: metric.service_id,
            id: metric.id,
            completed_at: metric.completed_at,
            content: Content::Metric(Box::new(metric)),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        match &self.content {
            Content::Text(text) => out.extend(text.as_bytes()),
            Content::Metric(metric) => {
                serde_json::to_writer(out, metric).expect("a record is always JSON and memory takes it");
            }
        }
    }
}

#[cfg(test)]
pub mod tests;
