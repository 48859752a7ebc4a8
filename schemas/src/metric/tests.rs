use super::*;
use serde_json::json;

fn example() -> Value {
    json!({
        "id": "30180bd3-8f4e-4a51-9d5c-0d5b0c7a8f11",
        "workspace_id": "550e8400-e29b-41d4-a716-446655440000",
        "service_id": "550e8400-e29b-41d4-a716-446655440001",
        "query_text": "SELECT 1",
        "status": "success",
        "duration_ms": 1.5,
        "started_at": "2026-01-10T00:00:00Z",
        "completed_at": "2026-01-10T00:00:00.123456Z"
    })
}

fn with(field: &str, value: Value) -> Result<QueryMetric, FieldError> {
    let mut event = example();
    event[field] = value;
    QueryMetric::from_value(&event)
}

fn field_of(result: Result<QueryMetric, FieldError>) -> String {
    result.expect_err("an invalid event").field
}

#[test]
fn writes_every_field_with_nulls_where_absent() {
    let metric = QueryMetric::from_value(&example()).expect("a valid event");
    let written = serde_json::to_value(&metric).expect("serializes");
    assert_eq!(written["rows_affected"], Value::Null);
    assert_eq!(written["error_message"], Value::Null);
    assert_eq!(written["tags"], json!([]));
    assert_eq!(written["duration_ms"], json!(1.5));
    assert_eq!(written["completed_at"], json!("2026-01-10T00:00:00.123456Z"));
    let bytes = serde_json::to_vec(&metric).expect("serializes");
    assert_eq!(QueryMetric::from_slice(&bytes).expect("reads what it wrote"), metric);
}

#[test]
fn a_duration_must_be_there_but_may_be_null() {
    let mut event = example();
    event.as_object_mut().expect("an object").remove("duration_ms");
    assert_eq!(QueryMetric::from_value(&event), Err(FieldError::new("duration_ms", "is required")));
    assert_eq!(with("duration_ms", Value::Null).expect("null is allowed").duration_ms, None);
}

#[test]
fn names_the_field_that_is_wrong() {
    assert_eq!(field_of(with("duration_ms", json!(-1))), "duration_ms");
    assert_eq!(field_of(with("duration_ms", json!(1e13))), "duration_ms");
    assert_eq!(field_of(with("status", json!("done"))), "status");
    assert_eq!(field_of(with("id", json!("x"))), "id");
    assert_eq!(field_of(with("tags", Value::Null)), "tags");
    assert_eq!(field_of(with("tags", json!(vec!["t"; TAGS_MAX + 1]))), "tags");
    assert_eq!(field_of(with("completed_at", json!("yesterday"))), "completed_at");
    assert_eq!(field_of(with("query_text", json!("x".repeat(QUERY_TEXT_BYTES_MAX + 1)))), "query_text");
}
