//! Entries as version 1 wrote them: they must be read for ever.

use super::*;

const GOLDEN: [&str; 4] = [
    r#"{"stage":"combine","version":1,"topic":"m.metrics","partition":2,"from":7,"to":12,"arrived":"2026-11-21T10:05:59.120Z","rows":[{"workspace_id":null,"minute":"2026-11-21T10:05:00Z","read":1,"dead_lettered":{"invalid":1}},{"workspace_id":"550e8400-e29b-41d4-a716-446655440000","minute":"2026-11-21T10:05:00Z","from_edge":2,"read":4,"counted":1,"running":1,"duplicate":1,"dead_lettered":{"future":1}}]}"#,
    r#"{"stage":"windows","version":1,"topic":"m.partials","partition":0,"from":0,"to":3,"arrived":null,"rows":[{"workspace_id":"550e8400-e29b-41d4-a716-446655440000","minute":"2026-11-21T10:05:00Z","late":2,"backfilled":3}]}"#,
    r#"{"stage":"archive","version":1,"topic":"m.metrics","partition":2,"from":7,"to":12,"arrived":"2026-11-21T10:05:59.120Z","rows":[{"workspace_id":"550e8400-e29b-41d4-a716-446655440000","minute":"2026-11-21T10:05:00Z","archived":2}]}"#,
    r#"{"stage":"edge","version":1,"instance":"018f3e5c-0000-7000-8000-000000000001","topic":"m.metrics","rows":[{"workspace_id":"550e8400-e29b-41d4-a716-446655440000","minute":"2026-11-21T10:05:00Z","accepted":2}]}"#,
];

#[test]
fn the_first_version_is_read_and_written() {
    for (golden, stage) in GOLDEN.iter().zip(["combine", "windows", "archive", "edge"]) {
        let entry = Entry::read(golden.as_bytes()).expect("valid");
        assert_eq!(entry.stage(), stage);
        assert_eq!(String::from_utf8(entry.write()).expect("JSON"), *golden);
    }
}

#[test]
fn counts_of_a_record_add_up() {
    let entry = Entry::read(GOLDEN[0].as_bytes()).expect("valid");
    let mut sum = Counts::default();
    entry.rows().iter().for_each(|row| sum += row.counts);
    assert_eq!(sum.read, sum.counted + sum.running + sum.duplicate + sum.dead_lettered.total());
    assert_eq!((sum.read, sum.dead_lettered.total()), (5, 2));
}

#[test]
fn a_newer_version_is_told_from_garbage() {
    assert!(matches!(Entry::read(br#"{"version":2,"stage":"other"}"#), Err(Error::Newer(2))));
    assert!(matches!(Entry::read(br#"{"version":900}"#), Err(Error::Newer(900))));
    assert!(matches!(Entry::read(br#"{"version":1,"stage":"other"}"#), Err(Error::Json(_))));
    assert!(matches!(Entry::read(b"garbage"), Err(Error::Json(_))));
}

#[test]
fn what_can_not_be_is_refused() {
    let with = |from: &str, to: &str| Entry::read(GOLDEN[0].replacen(from, to, 1).as_bytes());
    assert!(matches!(with(r#""from":7"#, r#""from":13"#), Err(Error::Impossible(_))));
    assert!(matches!(with(r#""partition":2"#, r#""partition":-1"#), Err(Error::Impossible(_))));
    assert!(matches!(with(r#""read":1"#, r#""read":-1"#), Err(Error::Impossible(_))));
    assert!(matches!(with(r#""read":1"#, r#""read":9000000000000000000"#), Err(Error::Impossible(_))));
    assert!(matches!(with("10:05:00Z", "10:05:01Z"), Err(Error::Json(_))));
}
