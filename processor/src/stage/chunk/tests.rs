use super::*;
use crate::settings::AdmissionSettings;
use millrace_schemas::dead_letter::Reason;
use std::time::Duration;

const IDLE_AFTER: Duration = Duration::from_secs(1);

fn source() -> Source {
    Source::new(Admission::new(&AdmissionSettings::default()), NextOffset::START)
}

fn at(second: i64) -> EventTime {
    EventTime(second * 1_000_000)
}

fn record(offset: i64, id: &str) -> Record {
    let payload = format!(
        r#"{{"id":"{id}","workspace_id":"550e8400-e29b-41d4-a716-446655440000","service_id":"{id}","query_text":"",
        "status":"success","duration_ms":1,"started_at":"1970-01-01T00:00:01Z","completed_at":"1970-01-01T00:00:02Z"}}"#
    );
    Record::parse(0, offset, at(5), Some(payload.as_bytes()))
}

fn known() -> HashMap<WorkspaceId, EventTime> {
    [("550e8400-e29b-41d4-a716-446655440000".parse().expect("an id"), at(0))].into_iter().collect()
}

#[test]
fn knows_a_record_of_an_edge_by_its_end() {
    let from_edge = |value: Option<&[u8]>| Record::parse(0, 0, at(5), value).from_edge;
    for (end, expected) in [("", false), (" ", false), ("\t", false), ("\t ", false), (" \t", true)] {
        assert_eq!(from_edge(Some(format!("{{}}{end}").as_bytes())), expected, "{end:?}");
    }
    assert!(!from_edge(None));
}

#[test]
fn counts_once_and_tells_the_highest_event_time() {
    let (mut source, mut raw) = (source(), Raw::default());
    let id = "30180bd3-8f4e-4a51-9d5c-0d5b0c7a8f11";
    assert_eq!(source.take(&record(7, id), &known(), &mut raw, at(5)), Verdict::Counted);
    assert_eq!(source.take(&record(8, id), &known(), &mut raw, at(5)), Verdict::Duplicate);
    assert_eq!(raw.len(), 1);
    let progress = source.progress(0, at(5), IDLE_AFTER).expect("there is news");
    assert_eq!((progress.next_offset, progress.max_event_time, progress.idle), (9, Some(at(2)), false));
    assert_eq!(source.progress(0, at(5), IDLE_AFTER), None, "nothing since");
}

#[test]
fn is_idle_only_at_the_end_and_after_a_while() {
    let (mut source, mut raw) = (source(), Raw::default());
    assert_eq!(source.progress(0, at(0), IDLE_AFTER), None, "nothing is known yet");
    source.reached_end();
    assert!(source.progress(0, at(0), IDLE_AFTER).expect("empty: idle at once").idle);
    source.receives(0);
    source.take(&record(0, "30180bd3-8f4e-4a51-9d5c-0d5b0c7a8f11"), &known(), &mut raw, at(5));
    assert!(!source.progress(0, at(9), IDLE_AFTER).expect("news").idle, "not at the end");
    source.reached_end();
    assert!(source.progress(0, at(9), IDLE_AFTER).expect("news").idle);
    assert_eq!(source.progress(0, at(10), IDLE_AFTER), None);
}

/// Polled together, the end is told before the record is judged; it will not be told again.
#[test]
fn an_end_that_came_with_the_last_record_is_not_forgotten() {
    let (mut source, mut raw) = (source(), Raw::default());
    source.receives(0);
    source.reached_end();
    source.take(&record(0, "30180bd3-8f4e-4a51-9d5c-0d5b0c7a8f11"), &known(), &mut raw, at(5));
    assert!(!source.progress(0, at(5), IDLE_AFTER).expect("news").idle, "not yet quiet");
    assert!(source.progress(0, at(6), IDLE_AFTER).expect("news").idle);
}

/// A transaction may end while some of what came with the end is not judged yet.
#[test]
fn is_not_idle_while_what_it_received_is_not_judged() {
    let (mut source, mut raw) = (source(), Raw::default());
    source.receives(0);
    source.receives(1);
    source.reached_end();
    source.take(&record(0, "30180bd3-8f4e-4a51-9d5c-0d5b0c7a8f11"), &known(), &mut raw, at(5));
    assert!(!source.progress(0, at(9), IDLE_AFTER).expect("news").idle, "one is left");
    source.take(&record(1, "30180bd3-8f4e-4a51-9d5c-0d5b0c7a8f12"), &known(), &mut raw, at(9));
    assert!(source.progress(0, at(10), IDLE_AFTER).expect("news").idle);
}

#[test]
fn a_record_without_a_value_or_workspace_is_a_dead_letter() {
    let (mut source, mut raw) = (source(), Raw::default());
    let empty = Record::parse(0, 0, at(5), None);
    let verdict = source.take(&empty, &known(), &mut raw, at(5));
    assert!(matches!(verdict, Verdict::DeadLetter { reason: Reason::Invalid, .. }), "{verdict:?}");
    let stranger = record(1, "30180bd3-8f4e-4a51-9d5c-0d5b0c7a8f11");
    let verdict = source.take(&stranger, &HashMap::new(), &mut raw, at(5));
    assert!(matches!(verdict, Verdict::DeadLetter { reason: Reason::UnknownWorkspace, .. }), "{verdict:?}");
    assert!(raw.is_empty());
}

#[test]
fn each_record_is_told_to_the_ledger_once_under_the_workspace_that_it_names() {
    let (mut source, mut raw) = (source(), Raw::default());
    let id = "30180bd3-8f4e-4a51-9d5c-0d5b0c7a8f11";
    let invalid = br#"{"workspace_id":"550e8400-e29b-41d4-a716-446655440000","duration_ms":-1}"#;
    let records = [
        Record { from_edge: true, ..record(0, id) },
        record(1, id),
        Record::parse(0, 2, at(59), Some(invalid)),
        Record::parse(0, 3, at(60), Some(b"garbage")),
    ];
    for record in &records {
        source.take(record, &known(), &mut raw, at(60));
    }
    let spans = source.tallied();
    let [span] = spans.as_slice() else { panic!("one span: {spans:?}") };
    assert_eq!((span.from, span.to, span.arrived), (0, 4, Some(at(60))));
    let [nobodys, own] = span.rows.as_slice() else { panic!("two rows: {span:?}") };
    assert_eq!((nobodys.workspace_id, nobodys.minute.start(), nobodys.counts.read), (None, at(60), 1));
    let counts = own.counts;
    assert_eq!((own.minute.start(), counts.read, counts.from_edge), (at(0), 3, 1));
    assert_eq!((counts.counted, counts.duplicate, counts.dead_lettered.invalid), (1, 1, 1));
    assert!(source.tallied().is_empty());
}

#[test]
fn what_is_read_again_for_the_memory_is_not_told_again_and_what_retention_removed_is_a_gap() {
    let (mut source, mut raw) = (source(), Raw::default());
    let id = "30180bd3-8f4e-4a51-9d5c-0d5b0c7a8f11";
    source.take(&record(7, id), &known(), &mut raw, at(5));
    source.restored(NextOffset::exclusive(8), NextOffset::exclusive(20));
    assert_eq!(source.tallied(), [Span::empty(NextOffset::exclusive(20), None)]);
    source.take(&record(22, id), &known(), &mut raw, at(5));
    let spans = source.tallied();
    assert_eq!(spans.iter().map(|span| (span.from, span.to)).collect::<Vec<_>>(), [(20, 23)]);
}

#[test]
fn what_retention_took_before_it_was_read_is_not_told_as_dealt_with() {
    let (mut source, mut raw) = (source(), Raw::default());
    let mut take = |source: &mut Source, offset: i64, low: i64| {
        let record = record(offset, &format!("30180bd3-8f4e-4a51-9d5c-{offset:012}"));
        source.skips_to(&record, NextOffset::exclusive(low));
        source.take(&record, &known(), &mut raw, at(5));
    };
    take(&mut source, 0, 0);
    take(&mut source, 3, 1);
    take(&mut source, 10, 8);
    take(&mut source, 12, 20);
    let ranges: Vec<_> = source.tallied().iter().map(|span| (span.from, span.to)).collect();
    assert_eq!(ranges, [(0, 4), (8, 11), (12, 13)]);

    source.restored(NextOffset::START, NextOffset::exclusive(7));
    take(&mut source, 7, 7);
    let ranges: Vec<_> = source.tallied().iter().map(|span| (span.from, span.to)).collect();
    assert_eq!(ranges, [(7, 8)], "it begins where the log does");
}

#[test]
fn one_that_was_admitted_when_it_came_is_judged_as_any_other() {
    let id = "30180bd3-8f4e-4a51-9d5c-0d5b0c7a8f11";
    let judged = |ask_first: bool| {
        let (mut source, mut raw) = (source(), Raw::default());
        let future = Record { append_time: EventTime(-1_000_000_000), ..record(9, id) };
        let broken = Record::parse(0, 10, at(5), Some(b"{}"));
        let verdicts: Vec<_> = [record(7, id), record(8, id), future, broken]
            .into_iter()
            .map(|mut record| {
                record.admitted = ask_first.then(|| source.admits(&record, &known())).flatten();
                (source.take(&record, &known(), &mut raw, at(5)), record.admitted.is_some())
            })
            .collect();
        let mut keys = Vec::new();
        let measured = raw.take(&mut keys);
        (verdicts, source.tallied(), (keys, measured))
    };
    let ((asked, tallied, rows), (plain, plain_tallied, plain_rows)) = (judged(true), judged(false));
    assert_eq!(asked.iter().map(|(_, admitted)| *admitted).collect::<Vec<_>>(), [true, true, false, false]);
    assert_eq!(
        asked.into_iter().map(|(verdict, _)| verdict).collect::<Vec<_>>(),
        plain.into_iter().map(|(verdict, _)| verdict).collect::<Vec<_>>()
    );
    assert_eq!((tallied, rows), (plain_tallied, plain_rows));
    assert_eq!(source().admits(&record(7, id), &HashMap::new()), None, "its workspace may not exist");
    let created_later = known().into_keys().map(|workspace| (workspace, at(6))).collect();
    assert_eq!(source().admits(&record(7, id), &created_later), None, "it was not there yet");
}
