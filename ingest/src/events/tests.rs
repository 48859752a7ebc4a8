//! Bodies to records and rejections.

use super::*;
use serde_json::{Value, json};
use uuid::Uuid;

pub const OWN: WorkspaceId = WorkspaceId(Uuid::from_u128(1));
pub const OTHER: WorkspaceId = WorkspaceId(Uuid::from_u128(2));
const NOW: &str = "2026-01-10T00:00:00Z";

/// A valid event of `workspace`.
pub fn event(number: u128, workspace: WorkspaceId) -> Value {
    json!({
        "id": Uuid::from_u128(number),
        "workspace_id": workspace,
        "service_id": Uuid::from_u128(9),
        "query_text": "SELECT 1",
        "status": "success",
        "duration_ms": 1.5,
        "started_at": "2026-01-09T23:59:59Z",
        "completed_at": NOW
    })
}

fn with(field: &str, value: Value) -> Value {
    let mut event = event(1, OWN);
    event[field] = value;
    event
}

fn rules() -> Rules {
    Rules {
        access: Access { workspace: Some(OWN), ingest: true, read: false, admin: false },
        now: EventTime::parse(NOW).expect("a time"),
        future_skew: Duration::from_secs(300),
        events_max: 5,
    }
}

fn parse_text(format: Format, body: &str) -> Result<Parsed, Refusal> {
    parse(format, body.as_bytes(), &rules())
}

fn parse_events(events: &[Value]) -> Parsed {
    parse_text(Format::Json, &json!({ "metrics": events }).to_string()).expect("the envelope is right")
}

/// (index, field) of each rejection.
fn rejected(parsed: Parsed) -> Vec<(u64, String)> {
    let described = parsed.rejections.describe();
    let one = |r: &Value| {
        (r["index"].as_u64().expect("an index"), r["field"].as_str().expect("a field").to_owned())
    };
    described.as_array().expect("an array").iter().map(one).collect()
}

#[test]
fn good_events_become_records() {
    let parsed = parse_events(&[event(1, OWN), event(2, OWN)]);
    assert_eq!((parsed.len(), parsed.count, parsed.rejections.count()), (2, 2, 0));
    for (record, bytes) in parsed.records() {
        let metric = QueryMetric::from_slice(bytes).expect("a valid record");
        assert!(bytes.ends_with(EDGE_END));
        assert_eq!((metric.workspace_id, metric.service_id), (record.workspace, record.service));
    }
    assert_eq!(parsed.workspaces(), [OWN]);
}

/// Of these serde_json reads some as their neighbours.
#[test]
fn a_duration_that_is_written_anew_keeps_its_last_bit() {
    for number in (1_u32..3_000).step_by(5) {
        let written = format!("{:?}", f64::from(number) / 3.0);
        let mut event = event(1, OWN);
        event["more"] = json!(0);
        let body = json!({ "metrics": [event] }).to_string().replace("1.5", &written);
        let parsed = parse_text(Format::Json, &body).expect("the envelope is right");
        let (_, record) = parsed.records().next().expect("a record");
        let record = str::from_utf8(record).expect("UTF-8");
        assert!(record.contains(&format!("\"duration_ms\":{written},")), "{written}: {record}");
        assert!(!record.contains("more"), "{record}");
    }
}

#[test]
fn a_plain_event_is_passed_on_as_it_came() {
    let text = concat!(
        r#"{"tags": ["a\/b"], "id": "30180BD3-8F4E-4A51-9D5C-0D5B0C7A8F11", "rows_affected": null, "status": "failed", "#,
        r#""workspace_id": "00000000-0000-0000-0000-000000000001", "service_id": "00000000-0000-0000-0000-000000000009", "#,
        r#""query_text": "SELECT '\t'", "duration_ms": 1.50, "error_message": "none", "#,
        r#""started_at": "2026-01-09T23:59:59.5Z", "completed_at": "2026-01-10T00:00:00Z"}"#
    );
    let least = text.replace(r#""rows_affected": null, "#, "").replace(r#""tags": ["a\/b"], "#, "");
    for (format, text) in [Format::Json, Format::Lines].into_iter().flat_map(|f| [(f, text), (f, &least)]) {
        let body = match format {
            Format::Json => format!("{{ \"metrics\": [ {text}\n] }}"),
            Format::Lines => format!("\n {text} \r\n"),
        };
        let parsed = parse_text(format, &body).expect("it is right");
        let records: Vec<_> = parsed.records().map(|(_, record)| record.to_vec()).collect();
        assert_eq!(records, [[text.as_bytes(), EDGE_END].concat()]);
    }
}

/// What nobody knows does not go to the log, nor do lines of an object; a field that is there twice is refused.
#[test]
fn an_event_of_another_form_is_written_anew() {
    let plain = event(1, OWN);
    let metric = QueryMetric::from_value(&plain).expect("valid");
    let expected = [serde_json::to_vec(&metric).expect("plain data").as_slice(), EDGE_END].concat();
    let mut more = plain.clone();
    more["more"] = json!({ "secret": true });
    for written in [more.to_string(), serde_json::to_string_pretty(&plain).expect("plain data")] {
        let parsed = parse_text(Format::Json, &format!("{{\"metrics\":[{written}]}}")).expect("it is right");
        let records: Vec<_> = parsed.records().map(|(_, record)| record.to_vec()).collect();
        assert_eq!(records, [expected.as_slice()], "{written}");
    }
    let twice = plain.to_string().replacen('{', "{\"status\":\"failed\",", 1);
    let parsed =
        parse_text(Format::Json, &format!("{{\"metrics\":[{twice}]}}")).expect("the envelope is right");
    assert_eq!((parsed.len(), parsed.rejections.count()), (0, 1));
}

#[test]
fn bad_events_are_refused_one_by_one() {
    let parsed = parse_events(&[
        event(1, OWN),
        with("duration_ms", json!(-1)),
        with("status", json!("done")),
        json!(7),
    ]);
    assert_eq!((parsed.len(), parsed.count), (1, 4));
    let expected =
        [(1, "duration_ms"), (2, "status"), (3, "")].map(|(index, field)| (index, field.to_owned()));
    assert_eq!(rejected(parsed), expected);
}

#[test]
fn an_array_is_not_taken_for_an_event() {
    let fields: Vec<Value> = event(1, OWN).as_object().expect("an object").values().cloned().collect();
    assert_eq!(rejected(parse_events(&[json!(fields)])), [(0, String::new())]);
}

#[test]
fn a_foreign_workspace_is_refused_and_told_apart() {
    let mixed = parse_events(&[event(1, OTHER), with("id", json!("x"))]);
    assert!(!mixed.rejections.all_forbidden());
    let foreign = parse_events(&[event(1, OTHER), event(2, OTHER)]);
    assert!(foreign.rejections.all_forbidden());
    assert_eq!(rejected(foreign), [(0, "workspace_id".to_owned()), (1, "workspace_id".to_owned())]);
}

#[test]
fn records_of_unknown_workspaces_can_be_taken_out() {
    let anywhere = Rules { access: Access { workspace: None, ..rules().access }, ..rules() };
    let body = json!({"metrics": [event(1, OWN), event(2, OTHER)]}).to_string();
    let mut parsed = parse(Format::Json, body.as_bytes(), &anywhere).expect("the envelope is right");
    parsed.reject_unknown(&HashSet::from([OWN]));
    assert_eq!(parsed.len(), 1);
    assert!(!parsed.rejections.all_forbidden(), "unknown is not forbidden");
    assert_eq!(rejected(parsed), [(1, "workspace_id".to_owned())]);
}

#[test]
fn the_future_is_allowed_as_far_as_clocks_differ() {
    let ahead = |time: &str| rejected(parse_events(&[with("completed_at", json!(time))]));
    assert_eq!(ahead("2026-01-10T00:05:00Z"), []);
    assert_eq!(ahead("2026-01-10T00:05:00.000001Z"), [(0, "completed_at".to_owned())]);
}

#[test]
fn a_record_that_no_broker_would_take_is_refused() {
    // 256 KiB of control characters are six times as many bytes of JSON.
    let parsed = parse_events(&[with("query_text", json!("\u{1}".repeat(200_000))), event(2, OWN)]);
    assert_eq!(parsed.records().count(), 1);
    let (_, bytes) = parsed.records().next().expect("the small one");
    assert!(QueryMetric::from_slice(bytes).is_ok(), "what was written of the large one is gone");
}

#[test]
fn an_empty_array_is_no_error() {
    let parsed = parse_events(&[]);
    assert_eq!((parsed.len(), parsed.count), (0, 0));
}

#[test]
fn malformed_json_is_told_from_a_wrong_shape() {
    let refusal = |body| parse_text(Format::Json, body).expect_err("no events can be seen");
    for syntax in ["", "{", r#"{"metrics":[}"#, r#"{"metrics":[]} x"#, "\u{1}"] {
        assert!(matches!(refusal(syntax), Refusal::Malformed(Malformed::Syntax(_))), "{syntax}");
    }
    for shape in [
        "[]",
        "[[]]",
        "{}",
        "7",
        r#"{"metrics":null}"#,
        r#"{"metrics":{}}"#,
        r#"{"metrics":[],"metrics":[]}"#,
    ] {
        assert!(matches!(refusal(shape), Refusal::Malformed(Malformed::Shape(_))), "{shape}");
    }
    assert!(refusal("{\n  x").to_string().contains("line 2 column 3"));
}

#[test]
fn other_fields_of_the_envelope_are_ignored() {
    let body = json!({"version": {"a": [1]}, "metrics": [event(1, OWN)]}).to_string();
    assert_eq!(parse_text(Format::Json, &body).expect("the envelope is right").len(), 1);
}

#[test]
fn too_many_events_are_refused_before_they_are_read() {
    let zeros = format!("{{\"metrics\":[{}0]}}", "0,".repeat(5));
    assert!(matches!(parse_text(Format::Json, &zeros), Err(Refusal::TooMany { found: 6, max: 5 })));
    assert!(matches!(
        parse_text(Format::Lines, &"0\n".repeat(6)),
        Err(Refusal::TooMany { found: 6, max: 5 })
    ));
}

#[test]
fn lines_are_reported_by_their_number() {
    let body = format!("{}\r\n\n{{\"id\":\n  {}  ", event(1, OWN), event(2, OWN));
    let parsed = parse_text(Format::Lines, &body).expect("lines are always events");
    assert_eq!((parsed.len(), parsed.count), (2, 3));
    let described = parsed.rejections.describe();
    assert_eq!((&described[0]["index"], &described[0]["line"]), (&json!(1), &json!(3)));
}

#[test]
fn a_line_that_is_not_text_is_refused_alone() {
    let body = [b"\xff\xfe\n".as_slice(), event(1, OWN).to_string().as_bytes()].concat();
    let parsed = parse(Format::Lines, &body, &rules()).expect("lines are always events");
    assert_eq!((parsed.len(), parsed.count), (1, 2));
    assert_eq!(parsed.rejections.describe()[0]["line"], json!(1));
}
