//! One record of the `metrics` topic. Its bytes are kept as they came; whether they are a valid record is found out when
//! somebody wants to see it, and then once for all of them: most records are never looked at.

use axum::extract::ws::Utf8Bytes;
use millrace_schemas::{EventTime, QueryMetric, RecordId, ServiceId, Status, WorkspaceId, json};
use serde::{Deserialize, Deserializer};
use std::{
    borrow::Cow,
    sync::{Mutex, PoisonError},
};

/// What one held record costs besides its bytes: the struct and its places in the indexes, roughly.
const OVERHEAD_BYTES: usize = 320;

/// When and where a record came into the log. The order is the one of "newest first", backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arrival {
    /// The log's append time.
    pub log_time: EventTime,
    pub partition: i32,
    pub offset: i64,
}

/// The ids by which a record is filed, read without looking at the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Head {
    pub id: RecordId,
    pub workspace_id: WorkspaceId,
    pub service_id: ServiceId,
    #[serde(rename = "status", default, deserialize_with = "is_running")]
    pub running: bool,
}

impl Head {
    /// What makes a record the same as another: a query that still ran may be told again when it has ended.
    pub fn identity(&self) -> (RecordId, bool) {
        (self.id, self.running)
    }

    /// None where the bytes are no JSON object with the ids and a status.
    pub fn read(payload: &[u8]) -> Option<Self> {
        json::read(payload).ok()
    }
}

/// Whether a status is valid is found out when the record is shown.
fn is_running<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Cow::<str>::deserialize(deserializer)? == Status::Running.as_str())
}

#[derive(Debug)]
pub struct Record {
    pub head: Head,
    pub arrival: Arrival,
    payload_bytes: usize,
    body: Mutex<Body>,
}

#[derive(Debug)]
enum Body {
    Raw(Box<[u8]>),
    /// As it is shown: every field present, times in UTC.
    Json(Utf8Bytes),
    Invalid,
}

impl Record {
    pub fn raw(head: Head, arrival: Arrival, payload: &[u8]) -> Self {
        Self { head, arrival, payload_bytes: payload.len(), body: Mutex::new(Body::Raw(payload.into())) }
    }

    /// A record that was validated before, as those in the archive were.
    pub fn valid(metric: &QueryMetric, arrival: Arrival) -> Self {
        let head = Head {
            id: metric.id,
            workspace_id: metric.workspace_id,
            service_id: metric.service_id,
            running: metric.status == Status::Running,
        };
        let json = render(metric);
        Self { head, arrival, payload_bytes: json.len(), body: Mutex::new(Body::Json(json)) }
    }

    /// The record as it is shown; none if it is not valid.
    pub fn json(&self) -> Option<Utf8Bytes> {
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        if let Body::Raw(payload) = &*body {
            *body =
                QueryMetric::from_slice(payload).map_or(Body::Invalid, |metric| Body::Json(render(&metric)));
        }
        match &*body {
            Body::Json(json) => Some(json.clone()),
            Body::Raw(_) | Body::Invalid => None,
        }
    }

    /// Memory that it takes, roughly.
    pub fn size_bytes(&self) -> usize {
        self.payload_bytes + OVERHEAD_BYTES
    }
}

fn render(metric: &QueryMetric) -> Utf8Bytes {
    serde_json::to_string(metric).expect("strings, numbers and times always serialize").into()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;
    use uuid::Uuid;

    pub fn payload(workspace: u128, id: u128) -> Vec<u8> {
        json!({
            "id": Uuid::from_u128(id), "workspace_id": Uuid::from_u128(workspace), "service_id": Uuid::from_u128(9),
            "query_text": "SELECT 1", "status": "success", "duration_ms": 1.5,
            "started_at": "2026-01-10T00:00:00+01:00", "completed_at": "2026-01-10T00:00:00.5Z"
        })
        .to_string()
        .into_bytes()
    }

    pub fn arrival(log_time_ms: i64, partition: i32, offset: i64) -> Arrival {
        Arrival { log_time: EventTime::from_millis(log_time_ms), partition, offset }
    }

    pub fn record(workspace: u128, id: u128, arrival: Arrival) -> Record {
        let payload = payload(workspace, id);
        Record::raw(Head::read(&payload).expect("has its ids"), arrival, &payload)
    }

    pub fn invalid(workspace: u128, id: u128, arrival: Arrival) -> Record {
        let payload =
            String::from_utf8(payload(workspace, id)).expect("UTF-8").replace("success", "splendid");
        Record::raw(Head::read(payload.as_bytes()).expect("has its ids"), arrival, payload.as_bytes())
    }

    #[test]
    fn is_shown_with_every_field() {
        let json = record(1, 2, arrival(0, 0, 0)).json().expect("valid");
        insta::assert_snapshot!(json.as_str(), @r#"{"id":"00000000-0000-0000-0000-000000000002","workspace_id":"00000000-0000-0000-0000-000000000001","service_id":"00000000-0000-0000-0000-000000000009","query_text":"SELECT 1","status":"success","duration_ms":1.5,"rows_affected":null,"error_message":null,"started_at":"2026-01-09T23:00:00Z","completed_at":"2026-01-10T00:00:00.500Z","tags":[]}"#);
    }

    #[test]
    fn an_invalid_one_is_not_shown() {
        assert!(invalid(1, 2, arrival(0, 0, 0)).json().is_none());
        for bytes in [&b""[..], b"{}", b"[1]", b"\xff", b"{\"id\":\"x\"}"] {
            assert_eq!(Head::read(bytes), None);
        }
    }

    #[test]
    fn ids_are_found_in_any_order_and_form() {
        let text = r#"{"tags":[{"a":[1]}],"service_id":"{00000000-0000-0000-0000-000000000009}","id":"00000000000000000000000000000002","workspace_id":"urn:uuid:00000000-0000-0000-0000-000000000001"}"#;
        let head = Head::read(text.as_bytes()).expect("has its ids");
        assert_eq!((head.id.0, head.workspace_id.0), (Uuid::from_u128(2), Uuid::from_u128(1)));
    }
}
