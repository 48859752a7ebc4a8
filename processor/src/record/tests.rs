use super::*;
use millrace_schemas::{QueryMetric, ledger::EDGE_END};
use proptest::prelude::*;
use serde_json::{Value, json};

fn example() -> Value {
    json!({
        "id": "30180bd3-8f4e-4a51-9d5c-0d5b0c7a8f11",
        "workspace_id": "550e8400-e29b-41d4-a716-446655440000",
        "service_id": "550e8400-e29b-41d4-a716-446655440001",
        "query_text": "SELECT \"a\"\nFROM t",
        "status": "success",
        "duration_ms": 1.5,
        "rows_affected": 3,
        "error_message": null,
        "started_at": "2026-01-10T00:00:00Z",
        "completed_at": "2026-01-10T00:00:00.123456+02:00",
        "tags": ["read", "é\""],
        "more": {"is": ["ignored"]}
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
        prop::collection::vec("[a-z\"]{0,3}", 0..4).prop_map(Value::from),
        Just(json!("x".repeat(QUERY_TEXT_BYTES_MAX + 1))),
        // Longer than allowed only as it is written.
        Just(json!("\n".repeat(QUERY_TEXT_BYTES_MAX - 1))),
        Just(json!(vec!["t"; TAGS_MAX + 1])),
        Just(json!(["t".repeat(TAG_BYTES_MAX + 1)])),
        Just(json!("2026-01-10T00:00:00Z")),
        Just(json!("timeout")),
        Just(json!({})),
    ]
}

const FIELDS: [&str; 11] = [
    "id",
    "workspace_id",
    "service_id",
    "query_text",
    "status",
    "duration_ms",
    "rows_affected",
    "error_message",
    "started_at",
    "completed_at",
    "tags",
];

/// All readers agree: the archive keeps exactly what the windows count.
fn agree(bytes: &[u8]) {
    let mut texts = Texts::default();
    texts.push("of another record");
    let full = QueryMetric::from_any_form(bytes);
    assert_eq!(QueryMetric::from_slice(bytes), full);
    match (parse(bytes), read(bytes, &mut texts), full) {
        (Ok((identity, measured)), Ok(whole), Ok(metric)) => {
            assert_eq!((identity, measured), (Identity::from(&metric), Measured::from(&metric)));
            assert_eq!((whole.identity, whole.measured), (identity, measured));
            assert_eq!(rebuilt(&whole, &texts), metric);
            let mut copy = Texts::default();
            copy.push("of a third");
            let strings = copy.copy(&texts, whole.strings);
            assert_eq!(rebuilt(&Whole { strings, ..whole }, &copy), metric);
        }
        (Err(_), Err(_), Err(_)) => assert_eq!(texts.len(), 1),
        (lean, whole, full) => {
            panic!("{lean:?} and {whole:?} but {full:?} of {}", String::from_utf8_lossy(bytes))
        }
    }
}

fn rebuilt(whole: &Whole, texts: &Texts) -> QueryMetric {
    let Whole { identity, measured, started_at, strings } = *whole;
    QueryMetric {
        id: identity.id,
        workspace_id: identity.workspace,
        service_id: measured.service,
        query_text: texts.query_text(strings).to_owned(),
        status: measured.status,
        duration_ms: measured.duration_ms,
        rows_affected: measured.rows_affected,
        error_message: texts.error_message(strings).map(str::to_owned),
        started_at,
        completed_at: identity.completed_at,
        tags: texts.tags(strings).map(str::to_owned).collect(),
    }
}

proptest! {
    #[test]
    fn the_lean_and_the_full_reader_agree(field in prop::sample::select(&FIELDS[..]), value in any_value()) {
        let mut record = example();
        record[field] = value;
        agree(record.to_string().as_bytes());
    }

    #[test]
    fn they_agree_on_cut_and_broken_bytes(at in 0_usize..400, byte in any::<u8>(), usual: bool) {
        let mut bytes = if usual { as_serde_writes(&plain()) } else { example().to_string() }.into_bytes();
        let at = at.min(bytes.len() - 1);
        bytes[at] = byte;
        agree(&bytes);
        agree(&bytes[..at]);
    }
}

#[test]
fn they_agree_on_missing_and_repeated_fields() {
    agree(example().to_string().as_bytes());
    for field in FIELDS {
        let mut record = example();
        record.as_object_mut().expect("an object").remove(field);
        agree(record.to_string().as_bytes());
        agree(example().to_string().replacen('{', &format!("{{\"{field}\":null,"), 1).as_bytes());
    }
}

#[test]
fn an_array_of_the_fields_is_no_record() {
    let record = example();
    let fields: Vec<&Value> = FIELDS.iter().map(|field| &record[*field]).collect();
    let bytes = serde_json::to_vec(&fields).expect("serializes");
    agree(&bytes);
    assert!(parse(&bytes).is_err());
}

#[test]
fn says_what_is_wrong_and_where() {
    let mut record = example();
    record["status"] = json!("done");
    let error = parse(record.to_string().as_bytes()).expect_err("no such status");
    assert_eq!(error.field, "status");
    let error = parse(b"{\"id\": ").expect_err("no JSON");
    assert!(error.message.starts_with("not JSON: EOF"), "{error}");
}

/// As `json.dumps` of Python writes it.
fn spaced(record: &Value) -> String {
    let fields = record.as_object().expect("an object").iter();
    format!(
        "{{{}}}",
        fields.map(|(name, value)| format!("\"{name}\": {value}")).collect::<Vec<_>>().join(", ")
    )
}

fn as_serde_writes(record: &Value) -> String {
    let metric = QueryMetric::from_value(record).expect("valid");
    serde_json::to_string(&metric).expect("plain data")
}

fn plain() -> Value {
    let mut record = example();
    record["completed_at"] = json!("2026-01-10T00:00:00.123456Z");
    record.as_object_mut().expect("an object").remove("more");
    record
}

#[test]
fn the_fast_path_takes_what_producers_write() {
    let expected = parse(plain().to_string().as_bytes()).ok();
    assert!(expected.is_some());
    for mut written in [as_serde_writes(&plain()), plain().to_string(), spaced(&plain())] {
        assert_eq!(quick::parse(written.as_bytes(), &mut Checked).map(split), expected, "{written}");
        let mut texts = Texts::default();
        assert_eq!(
            quick::parse(written.as_bytes(), &mut Kept::new(&mut texts)).map(split),
            expected,
            "{written}"
        );
        written.push_str(str::from_utf8(EDGE_END).expect("ASCII"));
        assert_eq!(
            quick::parse(written.as_bytes(), &mut Checked).map(split),
            expected,
            "{written} of an edge"
        );
        agree(format!("{written} x").as_bytes());
    }
    for optional in ["rows_affected", "error_message", "tags"] {
        let mut record = plain();
        record.as_object_mut().expect("an object").remove(optional);
        assert!(quick::parse(record.to_string().as_bytes(), &mut Checked).is_some(), "{record}");
    }
}

proptest! {
    /// What the fast path takes, the full reader reads the same, to the last bit of a duration.
    #[test]
    fn the_fast_path_reads_as_the_full_reader_does(
        duration in prop_oneof![
            "(0|[1-9][0-9]{0,13})(\\.[0-9]{1,20})?", "-?[0-9]{0,3}\\.?[0-9]{0,3}([eE][+-]?[0-9]{1,3})?", Just("null".to_owned()),
        ],
        rows in "-?[0-9]{0,20}(\\.0)?",
        text in prop::collection::vec(
            prop_oneof!["[ -~]{0,9}", "\\PC{0,4}", "\\\\[\"bfnrtuq/\\\\]", "[\u{0}-\u{1f}]"], 0..4,
        ),
        fields in prop_oneof![
            prop::sample::subsequence(FIELDS.to_vec(), 8..=FIELDS.len()), Just(FIELDS.to_vec()).prop_shuffle(),
        ],
        spaced in any::<bool>(),
    ) {
        let text = text.concat();
        let values = plain();
        let value = |field| match field {
            "duration_ms" => duration.clone(),
            "rows_affected" => rows.clone(),
            "query_text" => format!("\"{text}\""),
            "error_message" if text.len() > 9 => format!("\"{text}\""),
            "tags" => format!("[\"a\",\"{text}\"]"),
            _ => values[field].to_string(),
        };
        let space = if spaced { " " } else { "" };
        let fields: Vec<_> = fields.into_iter().map(|field| format!("\"{field}\":{space}{}", value(field))).collect();
        let written = format!("{{{}}}", fields.join(&format!(",{space}")));
        agree(written.as_bytes());
        agree(format!("{written}{space}\t").as_bytes());
    }
}
