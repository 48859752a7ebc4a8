use super::*;
use millrace_schemas::{
    progress::{Source, VERSION},
    token::Origin,
};

/// Of one of two partitions: rows end there, and of one source so much is emitted.
fn progress(partition: i32, aggregates: Option<i64>, emitted: Option<i64>) -> Progress {
    let source = Source { taken: emitted, emitted, max_event_time: None, idle: false };
    Progress {
        version: VERSION,
        partition,
        partitions: 2,
        position: 0,
        aggregates,
        watermark: None,
        watermark_delay_ms: 2_000,
        late_horizon_ms: None,
        sources: vec![Some(source)],
    }
}

fn token(next: i64) -> CommitToken {
    CommitToken { origin: Origin::of("cluster", "topic"), next: [(0, next)].into() }
}

#[test]
fn stored_is_what_every_partition_has_told_and_the_sink_has_passed() {
    let reach = Reach::default();
    assert!(!reach.has_emitted(&token(0)), "nothing is known");
    reach.told(progress(0, Some(10), Some(5)));
    assert!(!reach.has_emitted(&token(5)), "the other partition has not told anything");
    reach.told(progress(1, Some(0), Some(5)));
    assert!(reach.has_emitted(&token(5)) && !reach.has_emitted(&token(6)));
    reach.sink_is_at(&[(0, 9)].into());
    assert!(!reach.has_stored(&token(5)));
    reach.sink_is_at(&[(0, 10)].into());
    assert!(reach.has_stored(&token(5)) && !reach.has_stored(&token(6)));
    assert_eq!(reach.stored(0), Some(5));
    assert_eq!(reach.stored(1), None, "a source that nobody told of");
}

#[test]
fn older_commits_are_stored_before_newer_ones() {
    let reach = Reach::default();
    reach.told(progress(1, Some(0), Some(100)));
    for step in 1..=5 {
        reach.told(progress(0, Some(step * 10), Some(step)));
    }
    reach.sink_is_at(&[(0, 39)].into());
    assert_eq!(reach.stored(0), Some(3));
}

#[test]
fn what_is_not_known_after_a_restart_stays_as_it_was() {
    let reach = Reach::default();
    for partition in [0, 1] {
        reach.told(progress(partition, Some(0), Some(5)));
        reach.told(progress(partition, Some(0), None));
        reach.told(progress(partition, None, Some(9)));
    }
    assert_eq!((reach.stored(0), reach.emitted(0)), (Some(5), Some(9)));
}

#[test]
fn a_database_from_a_backup_takes_back_what_was_stored() {
    let reach = Reach::default();
    reach.told(progress(1, Some(0), Some(9)));
    reach.told(progress(0, Some(10), Some(5)));
    reach.told(progress(0, Some(20), Some(9)));
    reach.sink_is_at(&[(0, 20)].into());
    assert_eq!(reach.stored(0), Some(9));
    reach.sink_is_at(&[(0, 10)].into());
    assert_eq!(reach.stored(0), None);
    reach.sink_is_at(&[(0, 20)].into());
    assert_eq!(reach.stored(0), Some(9));
}

#[test]
fn holds_a_bounded_number_of_commits_and_is_late_rather_than_early() {
    let reach = Reach::default();
    reach.told(progress(1, Some(0), Some(i64::MAX)));
    let commits = i64::try_from(WAITING_MAX).expect("small") + 10;
    for step in 1..=commits {
        reach.told(progress(0, Some(step), Some(step)));
    }
    assert_eq!(reach.partitions()[&0].waiting.len(), WAITING_MAX);
    reach.sink_is_at(&[(0, commits - 1)].into());
    assert_eq!(reach.stored(0), Some(commits - 11));
    reach.sink_is_at(&[(0, commits)].into());
    assert_eq!(reach.stored(0), Some(commits));
}
