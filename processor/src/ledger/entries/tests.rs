use super::*;
use crate::ledger::Span;
use millrace_schemas::{WorkspaceId, ledger::Accepted};
use proptest::prelude::*;

const WORKSPACE: WorkspaceId = WorkspaceId(Uuid::from_u128(1));
const NOW: EventTime = EventTime(600_000_000);

fn minute(number: i64) -> Minute {
    Minute::of(EventTime(number * 60_000_000))
}

/// One record an offset.
fn combine(from: i64, to: i64) -> Entry {
    let counts = Counts { read: to - from, counted: to - from, ..Counts::default() };
    let rows = vec![Row { workspace_id: Some(WORKSPACE), minute: minute(0), counts }];
    Entry::Combine(Span { from, to, arrived: Some(EventTime(to)), rows }.of("metrics", 3))
}

fn accepted(instance: u128, accepted: i64) -> Entry {
    let counts = Counts { accepted, ..Counts::default() };
    let rows = vec![Row { workspace_id: Some(WORKSPACE), minute: minute(0), counts }];
    let instance = Uuid::from_u128(instance);
    Entry::Edge(Accepted { version: 1, instance, topic: "metrics".to_owned(), rows })
}

fn at(next: i64) -> BTreeMap<Reader, Position> {
    let reader = Reader { stage: "combine".to_owned(), topic: "metrics".to_owned(), partition: 3 };
    let next = NextOffset::exclusive(next);
    BTreeMap::from([(reader, Position { next, arrived: Some(EventTime(1)), since: None })])
}

/// Records read by the plan, where it ends, and its faults.
fn summary(plan: &Plan) -> (i64, i64, Vec<FaultKind>) {
    let read = plan.minutes.values().map(|counts| counts.read).sum();
    let next = plan.positions.values().map(|position| position.next.get()).max().unwrap_or(0);
    (read, next, plan.faults.iter().map(|fault| fault.kind).collect())
}

#[test]
fn ranges_that_follow_each_other_are_added() {
    let plan = Plan::of(&[combine(5, 8), combine(8, 20)], at(5), NOW);
    assert_eq!(summary(&plan), (15, 20, vec![]));
    assert_eq!(plan.positions.values().next().and_then(|position| position.arrived), Some(EventTime(20)));
    assert_eq!(plan.added["combine"].counted, 15);
}

#[test]
fn a_range_that_is_missing_comes_twice_or_overlaps_is_told() {
    assert_eq!(summary(&Plan::of(&[combine(9, 12)], at(5), NOW)), (3, 12, vec![FaultKind::Gap]));
    assert_eq!(summary(&Plan::of(&[combine(2, 5)], at(5), NOW)), (0, 5, vec![FaultKind::Reread]));
    assert_eq!(summary(&Plan::of(&[combine(2, 7)], at(5), NOW)), (0, 7, vec![FaultKind::Torn]));
    let jump = Entry::Combine(Span::empty(NextOffset::exclusive(9), None).of("metrics", 3));
    assert_eq!(summary(&Plan::of(&[jump], at(5), NOW)), (0, 9, vec![FaultKind::Gap]));
    let twice = Plan::of(&[combine(5, 8), combine(5, 8), combine(8, 9)], at(5), NOW);
    assert_eq!(summary(&twice), (4, 9, vec![FaultKind::Reread]));
}

#[test]
fn an_empty_range_only_makes_a_stage_known() {
    let archive = |at| {
        let span = Span::empty(NextOffset::exclusive(at), None);
        Entry::Archive(span.of("metrics", 3))
    };
    assert_eq!(summary(&Plan::of(&[archive(7)], BTreeMap::new(), NOW)), (0, 7, vec![]));
    let known = Plan::of(&[archive(7), archive(7), archive(5)], BTreeMap::new(), NOW);
    assert_eq!(summary(&known), (0, 7, vec![]));
}

#[test]
fn where_the_ledger_begins_late_its_first_minutes_are_not_whole() {
    let since = |entry| {
        let plan = Plan::of(&[entry], BTreeMap::new(), NOW);
        plan.positions.into_values().next().expect("a position").since
    };
    assert_eq!(since(combine(0, 4)), None);
    assert_eq!(since(combine(2, 4)), Some(EventTime(4)));
    assert_eq!(
        since(Entry::Archive(Span::empty(NextOffset::exclusive(2), None).of("metrics", 3))),
        Some(NOW)
    );
}

#[test]
fn of_what_an_edge_tells_the_highest_counts() {
    let plan = Plan::of(&[accepted(1, 5), accepted(2, 2), accepted(1, 9), accepted(1, 7)], at(0), NOW);
    assert_eq!(plan.accepted.into_values().collect::<Vec<_>>(), [9, 2]);
    assert!(plan.minutes.is_empty());
}

#[test]
fn what_no_stage_of_this_installation_tells_is_known() {
    let sources = Sources { metrics: "metrics".to_owned(), partials: "partials".to_owned() };
    assert!(sources.has(&combine(0, 1)) && sources.has(&accepted(1, 1)));
    let other = Sources { metrics: "other".to_owned(), partials: "metrics".to_owned() };
    assert!(!other.has(&combine(0, 1)) && !other.has(&accepted(1, 1)));
}

proptest! {
    /// However the same log of entries is cut into batches, and wherever a batch is tried again from the log, the same
    /// counts are added.
    #[test]
    fn batches_and_repeats_add_the_same(
        lengths in prop::collection::vec(1_i64..5, 1..20), cuts in prop::collection::vec(0_usize..20, 0..6),
        repeats in prop::collection::vec(0_usize..20, 0..6),
    ) {
        let mut log = Vec::new();
        let mut end = 0;
        for (number, length) in lengths.iter().enumerate() {
            log.push(combine(end, end + length));
            end += length;
            if repeats.contains(&number) {
                log.push(combine(end - length, end));
            }
        }
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(log.len())).collect();
        cuts.extend([0, log.len()]);
        cuts.sort_unstable();
        let (mut read, mut positions) = (0, BTreeMap::new());
        for cut in cuts.windows(2) {
            let plan = Plan::of(&log[cut[0]..cut[1]], positions, NOW);
            read += summary(&plan).0;
            positions = plan.positions;
        }
        prop_assert_eq!(read, end);
    }
}
