//! One thing that happened, as the live feed sends it.

use super::Format;
use axum::extract::ws::Utf8Bytes;
use millrace_schemas::ServiceId;
use std::sync::OnceLock;

/// What an event is about, and thereby which topic it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Metric,
    Aggregate,
}

impl Kind {
    /// As frames of format v2 name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metric => "metric",
            Self::Aggregate => "aggregate",
        }
    }
}

/// A record or an aggregate row, serialized.
#[derive(Debug)]
pub struct Event {
    pub kind: Kind,
    pub service: ServiceId,
    pub partition: i32,
    pub offset: i64,
    data: Utf8Bytes,
    envelope: OnceLock<Utf8Bytes>,
}

impl Event {
    /// `data` is a JSON object.
    pub fn new(kind: Kind, service: ServiceId, (partition, offset): (i32, i64), data: Utf8Bytes) -> Self {
        Self { kind, service, partition, offset, data, envelope: OnceLock::new() }
    }

    /// The text of the event's frame; made once for all sockets.
    pub fn frame(&self, format: Format) -> Utf8Bytes {
        match format {
            Format::V1 => self.data.clone(),
            Format::V2 => self.envelope.get_or_init(|| self.wrap()).clone(),
        }
    }

    pub fn size_bytes(&self) -> usize {
        self.data.len()
    }

    fn wrap(&self) -> Utf8Bytes {
        let (kind, partition, offset) = (self.kind.as_str(), self.partition, self.offset);
        format!(r#"{{"type":"{kind}","partition":{partition},"offset":{offset},"data":{}}}"#, self.data)
            .into()
    }
}
