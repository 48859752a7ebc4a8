use super::*;
use proptest::prelude::*;

/// In the order and the spacing of serde, and then as `json.dumps` of Python has it.
fn written(duration: &str, text: &str) -> [String; 2] {
    let serde = format!(
        concat!(
            r#"{{"id":"30180bd3-8f4e-4a51-9d5c-0d5b0c7a8f11","workspace_id":"550e8400-e29b-41d4-a716-446655440000","#,
            r#""service_id":"550e8400-e29b-41d4-a716-446655440001","query_text":"{text}","status":"failed","#,
            r#""duration_ms":{duration},"rows_affected":-3,"error_message":"{text}","#,
            r#""started_at":"2026-01-10T00:00:00Z","completed_at":"2026-01-10T00:00:00.123456Z","tags":["{text}","b"]}}"#
        ),
        text = text,
        duration = duration,
    );
    let python = serde.replace("\":", "\": ").replace(",\"", ", \"");
    [serde, python]
}

/// Longer ones of a service that divides, or takes a difference.
#[test]
fn durations_are_read_to_the_last_bit() {
    for number in 1_u32..3_000 {
        let duration = f64::from(number) / 7.0;
        for record in written(&format!("{duration:?}"), "x") {
            let read = metric(record.as_bytes()).expect("it is left to no other reader");
            assert_eq!(read.duration_ms, Some(duration), "{record}");
        }
    }
}

#[test]
fn a_whole_record_is_read_with_all_its_strings() {
    for record in written("12.5", r#"a \" \\ \/ \b \f \n \r \t ü"#) {
        let read = metric(record.as_bytes()).expect("it is left to no other reader");
        assert_eq!(read.query_text, "a \" \\ / \u{8} \u{c} \n \r \t ü");
        assert_eq!(read.error_message.as_deref(), Some(read.query_text.as_str()));
        assert_eq!(read.tags, [read.query_text.as_str(), "b"]);
        assert_eq!(Ok(read), QueryMetric::from_any_form(record.as_bytes()));
    }
}

proptest! {
    #[test]
    fn what_is_taken_is_read_as_the_slower_reader_reads_it(
        duration in "(0|[1-9][0-9]{0,13}|0[0-9]|-1)(\\.[0-9]{0,24})?(e[0-9])?",
        text in "(\\PC|\\\\[\"bfnrtux/\\\\]|\n){0,6}",
    ) {
        for record in written(&duration, &text) {
            let (quick, full) = (metric(record.as_bytes()), QueryMetric::from_any_form(record.as_bytes()));
            prop_assert!(quick.is_none() || quick == full.ok(), "{}", record);
        }
    }
}
