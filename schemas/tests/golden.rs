//! Records as older builds wrote them: logs, tables and clients hold such bytes, so they must be read for ever. The files
//! in `golden/` are never changed; a new version adds one. What is newer than this build is refused by name.

use millrace_schemas::{
    AggregateRow, CommitToken, EventTime, QueryMetric, Status, Window,
    aggregate::{self, Kind},
    dead_letter::{DeadLetterHeaders, Reason},
    ledger,
    partial::{self, Partial},
    progress::{self, Progress},
    token::{Origin, TokenError},
};
use std::collections::BTreeMap;

macro_rules! golden {
    ($name:literal) => {
        include_bytes!(concat!("../golden/", $name)).as_slice()
    };
}

/// What the build of today writes, as a line.
fn written(record: &impl serde::Serialize) -> String {
    format!("{}\n", serde_json::to_string(record).expect("plain data"))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn a_raw_record_has_no_version_and_is_read_with_all_its_fields_and_with_the_least() {
    let metric = QueryMetric::from_slice(golden!("query-metric.json")).expect("valid");
    assert_eq!(
        (metric.status, metric.duration_ms, metric.rows_affected),
        (Status::Timeout, Some(1500.25), Some(3))
    );
    assert_eq!(metric.query_text, "SELECT \"a\"\nFROM t WHERE naïve = $1");
    assert_eq!(Some(metric.completed_at), EventTime::parse("2026-01-10T00:00:01.500250Z"));
    assert_eq!(metric.tags, ["read", "é\""]);
    let metric = QueryMetric::from_slice(golden!("query-metric-least.json")).expect("valid");
    assert_eq!((metric.status, metric.duration_ms, metric.tags.len()), (Status::Failed, None, 0));
}

#[test]
fn rows_of_the_aggregates() {
    let golden = golden!("aggregate-row-1.json");
    let row = AggregateRow::read(golden).expect("a row");
    assert_eq!(
        (row.kind, row.window, row.query_count, row.position),
        (Kind::Delta, Window::OneMinute, 4, 77)
    );
    assert_eq!(written(&row), text(golden));
    let newer = text(golden).replace(r#""version":1"#, r#""version":2"#);
    let error = AggregateRow::read(newer.as_bytes()).expect_err("newer");
    assert!(matches!(error, aggregate::Error::Newer(2)));
    assert_eq!(
        error.to_string(),
        "an aggregate row of version 2; this build reads up to 1: upgrade it first"
    );
    assert!(matches!(AggregateRow::read(br#"{"version":900}"#), Err(aggregate::Error::Newer(900))));
    assert!(matches!(AggregateRow::read(br#"{"version":1}"#), Err(aggregate::Error::Json(_))));
}

#[test]
fn progress_of_the_windows() {
    let golden = golden!("progress-1.json");
    let progress = Progress::read(golden).expect("valid");
    assert_eq!((progress.partition, progress.position, progress.aggregates), (2, 7, Some(9)));
    assert_eq!(progress.late_horizon_ms, Some(60_000));
    assert_eq!(written(&progress), text(golden));
    // Of a build that did not tell for how long windows are held.
    let golden = golden!("progress-1-first.json");
    let progress = Progress::read(golden).expect("valid");
    assert_eq!((progress.position, progress.late_horizon_ms), (7, None));
    assert_eq!(written(&progress), text(golden));
    let error = Progress::read(br#"{"version":2,"other":"shape"}"#).expect_err("newer");
    assert_eq!(error.to_string(), "a progress record of version 2; this build reads up to 1");
    assert!(matches!(error, progress::Error::Newer(2)));
}

#[test]
fn entries_of_the_ledger() {
    let golden = text(golden!("ledger-1.ndjson"));
    let stages: Vec<_> = golden
        .lines()
        .map(|line| {
            let entry = ledger::Entry::read(line.as_bytes()).expect("an entry");
            assert_eq!(written(&entry), format!("{line}\n"));
            entry.stage()
        })
        .collect();
    assert_eq!(stages, ["combine", "windows", "archive", "edge"]);
    let error = ledger::Entry::read(br#"{"version":2,"other":"shape"}"#).expect_err("newer");
    assert!(matches!(error, ledger::Error::Newer(2)));
    assert_eq!(
        error.to_string(),
        "a ledger entry of version 2; this build reads up to 1: upgrade the processor first"
    );
}

#[test]
fn headers_of_a_dead_letter() {
    let golden = golden!("dead-letter-headers.json");
    let headers: DeadLetterHeaders = serde_json::from_slice(golden).expect("headers");
    assert_eq!((headers.reason, headers.source_offset.as_str()), (Reason::UnknownWorkspace, "17"));
    assert_eq!(written(&headers), text(golden));
    // Of a build that did not tell the time.
    let golden = golden!("dead-letter-headers-first.json");
    let headers: DeadLetterHeaders = serde_json::from_slice(golden).expect("headers");
    assert_eq!((headers.source_time.as_deref(), headers.cut_from_bytes.as_deref()), (None, Some("4000000")));
    assert_eq!(written(&headers), text(golden));
}

#[test]
fn frames_of_the_partials() {
    let golden = golden!("partial-1.bin");
    let Partial { header, states } = Partial::decode(golden).expect("a frame");
    let told: Vec<_> =
        header.progress.iter().map(|told| (told.partition, told.next_offset, told.idle)).collect();
    assert_eq!((header.sources, told), (4, vec![(1, 42, false), (3, 7, true)]));
    assert_eq!(header.encode(states).expect("encodes"), golden);
    let mut newer = golden.to_vec();
    newer[1] = 2;
    let error = Partial::decode(&newer).expect_err("newer");
    assert!(matches!(error, partial::Error::Version(2)));
    assert_eq!(
        error.to_string(),
        "a partials frame of version 2; this build reads up to 1: upgrade the windows stage first"
    );
}

#[test]
fn commit_tokens() {
    let golden = text(golden!("commit-token-1.txt"));
    let token = CommitToken {
        origin: Origin::of("5L6g3nShT-eMCtK--X86sw", "millrace.metrics"),
        next: BTreeMap::from([(0, 12), (3, 1_000_000)]),
    };
    assert_eq!(CommitToken::decode(golden), Ok(token.clone()));
    assert_eq!(token.encode().as_deref(), Some(golden));
    // The first character is the version's.
    let error = CommitToken::decode(&golden.replacen("AW", "Am", 1)).expect_err("newer");
    assert_eq!(error, TokenError::Version(2));
    assert_eq!(error.to_string(), "it has version 2; this build reads version 1");
}
