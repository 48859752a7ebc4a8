use super::{
    super::chunk::tests::{limits, metric},
    *,
};
use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;

const KNOWN: u128 = 1;

fn settings() -> AdmissionSettings {
    AdmissionSettings { dedupe_records: 10, ..AdmissionSettings::default() }
}

fn known() -> HashMap<WorkspaceId, EventTime> {
    HashMap::from([(WorkspaceId(Uuid::from_u128(KNOWN)), EventTime(0))])
}

fn judged<const N: usize>(to: i64, dead: [i64; N]) -> Judged {
    Judged { to: NextOffset::exclusive(to), dead: HashSet::from(dead) }
}

/// The bytes of record `id` of a workspace.
fn payload(workspace: u128, id: i64) -> Vec<u8> {
    serde_json::to_vec(&metric(workspace, 0, id)).expect("serializes")
}

fn feed(partition: &mut Partition, offset: i64, payload: &[u8]) {
    feed_at(EventTime(0), partition, offset, payload);
}

fn feed_at(append_time: EventTime, partition: &mut Partition, offset: i64, payload: &[u8]) {
    let mut texts = Texts::default();
    let content = partition.parse(offset, Some(payload), &mut texts);
    partition.take((Record { offset, append_time, content }, &texts), &known(), Instant::now());
}

fn archive(partition: &mut Partition) {
    let chunk = partition.hand_out();
    partition.written(chunk);
}

/// The offsets of the records that wait to be archived.
fn waiting(partition: &mut Partition) -> Vec<i64> {
    let groups = partition.chunk.groups();
    groups.iter().flat_map(|(_, rows)| rows.rows.iter().map(|row| row.archived.offset)).collect()
}

#[test]
fn what_became_a_dead_letter_is_not_remembered_though_it_would_count_today() {
    let next = NextOffset::exclusive(2);
    let mut partition = Partition::archived_to(next, None, &settings(), judged(2, [0]));
    feed(&mut partition, 0, &payload(KNOWN, 1));
    feed(&mut partition, 1, &payload(KNOWN, 2));
    feed(&mut partition, 2, &payload(KNOWN, 1));
    feed(&mut partition, 3, &payload(KNOWN, 2));
    assert_eq!(waiting(&mut partition), [2]);
}

/// A larger skew was allowed then.
#[test]
fn what_is_archived_is_remembered_though_it_would_be_a_dead_letter_today() {
    let later = EventTime(3_600_000_000);
    let mut metric = metric(KNOWN, 0, 1);
    metric.completed_at = later;
    let ahead = serde_json::to_vec(&metric).expect("serializes");
    let mut partition = Partition::archived_to(NextOffset::exclusive(1), None, &settings(), judged(1, []));
    feed(&mut partition, 0, &ahead);
    feed_at(later, &mut partition, 1, &ahead);
    feed_at(later, &mut partition, 2, &payload(KNOWN, 2));
    assert_eq!(waiting(&mut partition), [2]);
}

/// Combine has yet to write the letter.
#[test]
fn what_combine_has_not_judged_is_held_against_the_rules_of_today() {
    let later = EventTime(3_600_000_000);
    let mut metric = metric(KNOWN, 0, 1);
    metric.completed_at = later;
    let ahead = serde_json::to_vec(&metric).expect("serializes");
    let mut partition = Partition::archived_to(NextOffset::exclusive(1), None, &settings(), judged(0, []));
    feed(&mut partition, 0, &ahead);
    feed_at(later, &mut partition, 1, &ahead);
    assert_eq!(waiting(&mut partition), [1]);
}

#[test]
fn only_what_counts_is_archived() {
    let mut partition = Partition::archived_to(NextOffset::START, None, &settings(), judged(0, []));
    feed(&mut partition, 0, &payload(KNOWN, 1));
    feed(&mut partition, 1, &payload(KNOWN, 1));
    feed(&mut partition, 2, &payload(2, 3));
    feed(&mut partition, 3, b"garbage");
    feed(&mut partition, 4, &payload(KNOWN, 4));
    assert_eq!(waiting(&mut partition), [0, 4]);
    assert_eq!(partition.chunk.to(), NextOffset::after(4));
}

#[test]
fn what_the_ledger_was_not_told_is_not_forgotten_when_more_is_archived() {
    let mut partition = Partition::archived_to(NextOffset::START, None, &settings(), judged(0, []));
    for offset in 0..3 {
        feed(&mut partition, offset, &payload(KNOWN, offset));
        archive(&mut partition);
    }
    let told: Vec<(i64, i64)> = partition.untold.iter().map(|span| (span.from, span.to)).collect();
    assert_eq!(told, [(0, 1), (1, 2), (2, 3)]);
}

#[test]
fn what_could_not_be_written_comes_before_what_was_read_meanwhile() {
    let mut partition = Partition::archived_to(NextOffset::START, None, &settings(), judged(0, []));
    let now = Instant::now();
    feed(&mut partition, 0, &payload(KNOWN, 0));
    let first = partition.hand_out();
    feed(&mut partition, 1, &payload(KNOWN, 1));
    assert!(!partition.is_due(&limits(), now) && !partition.is_empty());
    assert_eq!((partition.from(), first.to()), (NextOffset::START, NextOffset::exclusive(1)));
    partition.sweep = false;
    partition.failed(first);
    assert!(partition.has_failed() && partition.sweep);
    assert_eq!(partition.from(), NextOffset::START);
    let mut partition = partition.taken_back(Some(NextOffset::exclusive(1)));
    feed(&mut partition, 2, &payload(KNOWN, 0));
    partition.close_if_due(&limits(), now + limits().age);
    for (from, to) in [(0, 1), (1, 3)] {
        assert!(!partition.is_due(&limits(), now), "what was attempted is in the chunk that failed");
        let chunk = partition.hand_out();
        assert_eq!((chunk.from().get(), chunk.to().get()), (from, to));
        partition.written(chunk);
    }
    assert!(partition.is_empty() && !partition.has_failed());
    let told: Vec<(i64, i64)> = partition.untold.iter().map(|span| (span.from, span.to)).collect();
    assert_eq!(told, [(0, 1), (1, 3)]);
}

#[test]
fn an_interrupted_stretch_is_due_as_soon_as_it_is_read_again() {
    let mut partition =
        Partition::archived_to(NextOffset::START, Some(NextOffset::exclusive(2)), &settings(), judged(0, []));
    let now = Instant::now();
    feed(&mut partition, 0, &payload(KNOWN, 1));
    assert!(!partition.is_due(&limits(), now));
    feed(&mut partition, 1, &payload(KNOWN, 2));
    assert!(partition.is_due(&limits(), now));
    archive(&mut partition);
    feed(&mut partition, 2, &payload(KNOWN, 3));
    assert!(!partition.is_due(&limits(), now));
}

/// Odd values, for each of which both parsers must come to the same verdict.
fn odd_values() -> Vec<Value> {
    use serde_json::json;
    let long = "x".repeat(300_000);
    vec![
        json!(null),
        json!(-1),
        json!(1e300),
        json!(1.5),
        json!("x"),
        json!(""),
        json!([]),
        json!(["a"]),
        json!([null]),
        json!({}),
        json!(true),
        json!(long),
        json!([long]),
        json!("2026-01-01T00:00:00Z"),
        json!("9999-12-31T23:59:60Z"),
        json!("success"),
        json!("SUCCESS"),
        json!("\u{0}é\"\\"),
        json!(18_446_744_073_709_551_615_u64),
    ]
}

/// Whether a record counts must not depend on how much of it is read: combine reads less than the archive.
#[test]
fn both_ways_of_reading_agree_on_what_is_valid() {
    let archived = Partition::archived_to(NextOffset::exclusive(100), None, &settings(), judged(0, []));
    let valid: Value = serde_json::from_slice(&payload(KNOWN, 1)).expect("JSON");
    let fields: Vec<String> = valid.as_object().expect("an object").keys().cloned().collect();
    for (field, odd) in fields.iter().flat_map(|field| odd_values().into_iter().map(move |odd| (field, odd)))
    {
        let mut event = valid.clone();
        event[field] = odd.clone();
        let bytes = serde_json::to_vec(&event).expect("serializes");
        let mut texts = Texts::default();
        let lean = archived.parse(1, Some(&bytes), &mut texts).map(|content| content.identity());
        let whole = archived.parse(100, Some(&bytes), &mut texts).map(|content| content.identity());
        assert_eq!(lean.is_ok(), whole.is_ok(), "{field}: {odd:.60}");
        assert_eq!(lean.ok(), whole.ok(), "{field}");
    }
}

proptest! {
    /// Wherever an archiver is cut short, and wherever chunks end, every counted record is archived exactly once, and
    /// the same ones.
    #[test]
    fn restarts_and_chunks_archive_the_same_records(
        ids in prop::collection::vec(0_i64..12, 1..80),
        ends in prop::collection::btree_set(0_usize..80, 0..6),
        lost in any::<bool>(),
    ) {
        let log: Vec<(i64, Vec<u8>)> = (0..).zip(ids.iter().map(|id| payload(KNOWN, *id))).collect();
        let mut straight = Partition::archived_to(NextOffset::START, None, &settings(), judged(0, []));
        log.iter().for_each(|(offset, bytes)| feed(&mut straight, *offset, bytes));
        let expected = waiting(&mut straight);

        let (mut archived, mut found) = (NextOffset::START, Vec::new());
        for end in ends.into_iter().chain([log.len()]) {
            let end = i64::try_from(end.min(log.len())).expect("small");
            let mut partition = Partition::archived_to(archived, None, &settings(), judged(0, []));
            let from = usize::try_from(partition.reached().get()).expect("not negative");
            for (offset, bytes) in log[from..].iter().take_while(|(offset, _)| *offset < end) {
                feed(&mut partition, *offset, bytes);
            }
            if lost && usize::try_from(end).expect("not negative") < log.len() {
                continue; // cut short before the manifest: the next one reads it all again
            }
            found.extend(waiting(&mut partition));
            archived = archived.max(partition.chunk.to());
        }
        found.sort_unstable();
        let mut expected = expected;
        expected.sort_unstable();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn what_retention_took_before_it_was_read_is_not_told_as_archived() {
    let mut partition = Partition::archived_to(NextOffset::START, None, &settings(), judged(0, []));
    partition.chunk.begins_at(NextOffset::exclusive(3));
    assert!(!partition.skips_to(3, NextOffset::exclusive(3)), "it begins where the log does");
    feed(&mut partition, 3, &payload(KNOWN, 3));
    assert!(!partition.skips_to(5, NextOffset::exclusive(4)), "a mark of a transaction");
    feed(&mut partition, 5, &payload(KNOWN, 5));
    assert!(partition.skips_to(10, NextOffset::exclusive(9)));
    feed(&mut partition, 10, &payload(KNOWN, 10));
    let ranges: Vec<_> = partition.chunk.spans().iter().map(|span| (span.from, span.to)).collect();
    assert_eq!(ranges, [(3, 6), (9, 11)]);
    assert_eq!((partition.chunk.from(), waiting(&mut partition)), (NextOffset::START, vec![3, 5, 10]));
}

#[test]
fn who_comes_back_does_what_another_had_begun_and_removes_its_orphans() {
    let limits = limits();
    let mut partition = Partition::archived_to(NextOffset::START, None, &settings(), judged(0, []));
    partition.sweep = false;
    let mut partition = partition.taken_back(Some(NextOffset::exclusive(2)));
    assert!(partition.sweep);
    feed(&mut partition, 0, &payload(KNOWN, 0));
    assert!(!partition.is_due(&limits, Instant::now()));
    feed(&mut partition, 1, &payload(KNOWN, 1));
    assert!(partition.is_due(&limits, Instant::now()));
}
