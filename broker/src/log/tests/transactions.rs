//! Random transactions of several producers: the last stable offset and what is read committed equal brute force.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Write { producer: usize, transactional: bool, count: usize },
    End { producer: usize, commit: bool },
    Maintain,
    Close,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0usize..4, any::<bool>(), 1usize..4)
            .prop_map(|(producer, transactional, count)| Step::Write { producer, transactional, count }),
        5 => (0usize..4, any::<bool>()).prop_map(|(producer, commit)| Step::End { producer, commit }),
        1 => Just(Step::Maintain),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Plain,
    Open(usize),
    Committed,
    Aborted,
}

#[derive(Default)]
struct Model {
    /// Of each offset; None for markers.
    fates: Vec<Option<Fate>>,
    sequences: [i32; 4],
}

impl Model {
    fn last_stable(&self) -> i64 {
        let open = self.fates.iter().position(|fate| matches!(fate, Some(Fate::Open(_))));
        open.unwrap_or(self.fates.len()) as i64
    }

    fn committed(&self) -> Vec<i64> {
        let shown = |(_, fate): &(usize, &Option<Fate>)| matches!(fate, Some(Fate::Plain | Fate::Committed));
        let before = self.fates.iter().enumerate().take(self.last_stable() as usize);
        before.filter(shown).map(|(offset, _)| offset as i64).collect()
    }

    fn is_open(&self, producer: usize) -> bool {
        self.fates.contains(&Some(Fate::Open(producer)))
    }

    fn write(&mut self, log: &PartitionLog, producer: usize, transactional: bool, count: usize) {
        let made = Made::values(count).of(producer as i64, 0, self.sequences[producer]);
        let made = if transactional { made.in_transaction() } else { made };
        let result = log.append(made.bytes(), NOW_MS);
        if self.is_open(producer) && !transactional {
            assert_eq!(result.unwrap_err().error, ResponseError::InvalidTxnState);
            return;
        }
        assert_eq!(result.unwrap().base_offset, self.fates.len() as i64);
        self.sequences[producer] += count as i32;
        let fate = if transactional { Fate::Open(producer) } else { Fate::Plain };
        self.fates.extend(std::iter::repeat_n(Some(fate), count));
    }

    fn end(&mut self, log: &PartitionLog, producer: usize, commit: bool) {
        let outcome = if commit { Outcome::Commit } else { Outcome::Abort };
        let marker = log.append_marker(producer as i64, 0, outcome, NOW_MS).unwrap();
        assert_eq!(marker.is_some(), self.is_open(producer));
        if marker.is_none() {
            return;
        }
        let decided = if commit { Fate::Committed } else { Fate::Aborted };
        for fate in self.fates.iter_mut().filter(|fate| **fate == Some(Fate::Open(producer))) {
            *fate = Some(decided);
        }
        self.fates.push(None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn only_what_is_committed_is_seen(steps in prop::collection::vec(step(), 1..80), max_bytes in 1usize..2000, fsync in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let config = LogConfig { segment_bytes: 1024, ..LogConfig::default() };
        let mut log = open(folder.path(), &config);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Write { producer, transactional, count } => model.write(&log, producer, transactional, count),
                Step::End { producer, commit } => model.end(&log, producer, commit),
                Step::Maintain => log.maintain(NOW_MS).unwrap(),
                Step::Close | Step::Kill => {
                    if matches!(step, Step::Close) {
                        log.close().unwrap();
                    }
                    drop(log);
                    if fsync {
                        // Without its checkpoint all is scanned.
                        files::remove(&folder.path().join("checkpoint")).unwrap();
                    }
                    log = open(folder.path(), &config);
                }
            }
            prop_assert_eq!(log.bounds().last_stable, model.last_stable());
            let seen = read_all(&log, Isolation::ReadCommitted, max_bytes);
            let offsets: Vec<i64> = seen.iter().map(|(offset, ..)| *offset).collect();
            prop_assert_eq!(offsets, model.committed());
        }
    }
}

#[test]
fn what_retention_took_meanwhile_is_not_current() {
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 1024, ..LogConfig::default() };
    let log = open(folder.path(), &config);
    log.append(Made::values(2).of(1, 0, 0).in_transaction().bytes(), NOW_MS).unwrap();
    log.append_marker(1, 0, Outcome::Abort, NOW_MS).unwrap();
    for _ in 0..30 {
        log.append(Made::values(1).bytes(), NOW_MS).unwrap();
    }
    let place = log.core.lock().place(0);
    assert!(log.core.is_current(&place, 0));
    assert_eq!(log.core.aborted_between(0, 2).unwrap(), [(1, 0)]);
    log.reconfigure(LogConfig { retention_bytes: Some(1000), ..config });
    log.maintain(NOW_MS).unwrap();
    assert!(log.core.aborted_between(0, 2).unwrap().is_empty());
    assert!(!log.core.is_current(&place, 0));
    assert_eq!(
        log.read(0, 100, true, Isolation::ReadCommitted).unwrap_err().error,
        ResponseError::OffsetOutOfRange
    );
}
