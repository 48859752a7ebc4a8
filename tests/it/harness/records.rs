//! Records as a producer writes them.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

/// The contract's development workspace.
pub const DEVELOPMENT_WORKSPACE: &str = "550e8400-e29b-41d4-a716-446655440000";
/// Its service.
pub const DEVELOPMENT_SERVICE: &str = "550e8400-e29b-41d4-a716-446655440001";

/// A valid record of the development workspace that ended now.
pub fn metric(query_text: &str) -> Value {
    metric_at(query_text, Utc::now())
}

/// The same with a time of its own; it took 2.5 ms.
pub fn metric_at(query_text: &str, completed_at: DateTime<Utc>) -> Value {
    let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
    json!({
        "id": Uuid::now_v7(),
        "workspace_id": DEVELOPMENT_WORKSPACE,
        "service_id": DEVELOPMENT_SERVICE,
        "query_text": query_text,
        "status": "success",
        "duration_ms": 2.5,
        "started_at": text(completed_at - TimeDelta::microseconds(2500)),
        "completed_at": text(completed_at),
    })
}

/// One record a line.
pub fn ndjson(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}
