//! The file: what is written is read again, whatever a crash leaves of its end.

use super::*;
use crate::Fsync;
use proptest::prelude::*;

fn event(number: i64) -> Event {
    let text = "x".repeat(usize::try_from(number % 50).unwrap());
    match number % 3 {
        0 => Event::ProducerIds { until: number },
        _ => Event::TopicDeleted { topic: format!("{number}{text}") },
    }
}

fn open(folder: &Path) -> Result<(Journal, Vec<Event>), Error> {
    let syncer = Syncer::start(Fsync::Os).unwrap();
    let mut events = Vec::new();
    let journal = Journal::open(folder, &syncer, |event| events.push(event))?;
    Ok((journal, events))
}

/// A journal of so many events, as bytes, and where each ends.
fn written(count: i64) -> (Vec<u8>, Vec<usize>) {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path()).unwrap();
    let mut ends = vec![usize::try_from(journal.len).unwrap()];
    for number in 0..count {
        journal.append(&event(number)).unwrap();
        ends.push(usize::try_from(journal.len).unwrap());
    }
    (std::fs::read(folder.path().join(FILE_NAME)).unwrap(), ends)
}

fn reopen(bytes: &[u8]) -> Result<Vec<Event>, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE_NAME), bytes).unwrap();
    let (mut journal, events) = open(folder.path()).map_err(|error| format!("{error:?}"))?;
    // It goes on where it was cut.
    journal.append(&event(1000)).unwrap();
    drop(journal);
    let (_, again) = open(folder.path()).map_err(|error| format!("{error:?}"))?;
    assert_eq!(again.len(), events.len() + 1);
    Ok(events)
}

#[test]
fn any_cut_leaves_the_whole_events_before_it() {
    let (bytes, ends) = written(6);
    for cut in 0..=bytes.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
        let expected: Vec<Event> = (0..i64::try_from(whole).unwrap()).map(event).collect();
        assert_eq!(reopen(&bytes[..cut]), Ok(expected), "cut at {cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_torn_tail_of_anything_is_cut_off(cut in 8usize..300, tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let (bytes, ends) = written(6);
        let cut = cut.min(bytes.len());
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        let torn = [&bytes[..ends[whole]], &tail].concat();
        let expected: Vec<Event> = (0..i64::try_from(whole).unwrap()).map(event).collect();
        prop_assert_eq!(reopen(&torn), Ok(expected));
    }

    #[test]
    fn damage_before_good_events_is_refused(at in 8usize..200, flip in 1u8..) {
        let (mut bytes, ends) = written(6);
        let at = at.min(ends[5] - 1);
        bytes[at] ^= flip;
        let refused = reopen(&bytes).expect_err("it is damaged");
        prop_assert!(refused.contains("damaged"), "{}", refused);
    }
}

#[test]
fn a_tail_of_zeros_is_cut_off() {
    let (mut bytes, _) = written(2);
    bytes.extend([0; 5000]);
    assert_eq!(reopen(&bytes).unwrap().len(), 2);
}

#[test]
fn a_newer_or_another_file_is_refused_and_left_as_it_is() {
    let (bytes, _) = written(1);
    let newer = [&b"MLRGRP\0\x02"[..], &bytes[8..]].concat();
    assert!(reopen(&newer).unwrap_err().contains("newer Millrace"));
    assert!(reopen(b"something else").unwrap_err().contains("no journal"));
}

#[test]
fn an_event_that_is_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path()).unwrap();
    let large = Event::TopicDeleted { topic: "x".repeat(EVENT_BYTES_MAX) };
    assert_eq!(journal.append(&large).err(), Some(ResponseError::UnknownServerError));
    assert!(journal.append(&event(1)).is_ok());
    drop(journal);
    assert_eq!(open(folder.path()).unwrap().1, [event(1)]);
}

#[test]
fn a_rewriting_keeps_what_is_written_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let syncer = Syncer::start(Fsync::Always).unwrap();
    let mut journal = Journal::open(folder.path(), &syncer, |_| {}).unwrap();
    (0..100).for_each(|number| drop(journal.append(&event(number)).unwrap()));
    let live = [event(1), event(2)];
    let replacement = journal.begin_rewrite(live.iter().cloned()).unwrap();
    journal.append(&event(3)).unwrap();
    replacement.sync().unwrap();
    journal.append(&event(4)).unwrap();
    journal.finish_rewrite(Ok(replacement)).unwrap();
    journal.append(&event(5)).unwrap();
    assert_eq!(open(folder.path()).unwrap().1, (1..6).map(event).collect::<Vec<_>>());
    assert!(!folder.path().join("coordinator.new").exists());
}

#[tokio::test]
async fn a_decision_is_on_the_disk_also_where_others_wait_for_an_interval() {
    for fsync in [Fsync::Always, Fsync::Within(std::time::Duration::from_millis(5)), Fsync::Os] {
        let folder = tempfile::tempdir().unwrap();
        let syncer = Syncer::start(fsync).unwrap();
        let mut journal = Journal::open(folder.path(), &syncer, |_| {}).unwrap();
        journal.forced().wait().await.unwrap();
        journal.append(&event(1)).unwrap().wait().await.unwrap();
        let replacement = journal.begin_rewrite([event(1)].into_iter()).unwrap();
        journal.append(&event(2)).unwrap();
        journal.forced().wait().await.unwrap();
        replacement.sync().unwrap();
        journal.finish_rewrite(Ok(replacement)).unwrap();
        journal.append(&event(4)).unwrap();
        journal.forced().wait().await.unwrap();
    }
}

#[test]
fn a_crash_in_a_rewriting_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let syncer = Syncer::start(Fsync::Os).unwrap();
    let mut journal = Journal::open(folder.path(), &syncer, |_| {}).unwrap();
    journal.append(&event(1)).unwrap();
    journal.begin_rewrite([event(7)].into_iter()).unwrap();
    journal.append(&event(2)).unwrap();
    drop(journal);
    assert_eq!(open(folder.path()).unwrap().1, [event(1), event(2)]);
    assert!(!folder.path().join("coordinator.new").exists());
}

#[test]
fn it_is_rewritten_when_it_has_grown_to_several_times_its_state() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path()).unwrap();
    assert!(!journal.is_worth_rewriting());
    let large = Event::TopicDeleted { topic: "x".repeat(1 << 20) };
    (0..9).for_each(|_| drop(journal.append(&large).unwrap()));
    assert!(journal.is_worth_rewriting());
    drop(journal);
    let (journal, _) = open(folder.path()).unwrap();
    assert!(journal.is_worth_rewriting(), "also when it has grown before it was opened");
}

#[test]
fn nothing_is_written_where_a_power_loss_may_bring_back_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path()).unwrap();
    let unsynced = Error::io("syncing", folder.path())(std::io::Error::other("as asked"));
    assert!(journal.switched(Err(unsynced)).is_err());
    assert!(journal.is_broken());
    assert_eq!(journal.append(&event(1)).err(), Some(ResponseError::CoordinatorNotAvailable));
}
