//! Random keyed records, in transactions and without: after compaction a consumer ends with the same values, and no
//! record stays that a later one replaces.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

#[derive(Clone, Debug)]
enum Step {
    /// (key, has a value)
    Write {
        producer: usize,
        records: Vec<(u8, bool)>,
        codec: i16,
    },
    End {
        commit: bool,
    },
    Compact,
    Kill,
    KillAndScan,
}

fn step() -> impl Strategy<Value = Step> {
    let records = prop::collection::vec((0u8..6, prop::bool::weighted(0.8)), 1..5);
    prop_oneof![
        12 => (0usize..3, records, 0i16..5).prop_map(|(producer, records, codec)| Step::Write { producer, records, codec }),
        3 => any::<bool>().prop_map(|commit| Step::End { commit }),
        2 => Just(Step::Compact),
        1 => Just(Step::Kill),
        1 => Just(Step::KillAndScan),
    ]
}

/// Producer 0 writes in transactions, 1 idempotently, 2 without either.
struct World {
    folder: tempfile::TempDir,
    config: LogConfig,
    log: PartitionLog,
    now_ms: i64,
    written: usize,
    sequences: [i32; 2],
    /// What the open transaction wrote.
    open: Vec<(i64, u8, Option<Vec<u8>>)>,
    /// Offset and value of each key that a consumer ends with.
    view: BTreeMap<u8, (i64, Option<Vec<u8>>)>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = LogConfig {
            compact: true,
            delete: false,
            segment_bytes: 1024,
            min_cleanable_dirty_ratio: 0.0,
            delete_retention_ms: 100,
            ..LogConfig::default()
        };
        let log = open(folder.path(), &config);
        let (open, view) = (Vec::new(), BTreeMap::new());
        Self { folder, config, log, now_ms: NOW_MS, written: 0, sequences: [0; 2], open, view }
    }

    fn write(&mut self, producer: usize, keys: &[(u8, bool)], codec: i16) {
        let value = |i: usize| format!("value {}", self.written + i).into_bytes();
        let values: Vec<(u8, Option<Vec<u8>>)> =
            keys.iter().enumerate().map(|(i, (key, has))| (*key, has.then(|| value(i)))).collect();
        self.written += keys.len();
        let records = values.iter().map(|(key, value)| (Some(vec![*key]), value.clone())).collect();
        let mut made = Made { attributes: codec, records, ..Made::default() };
        if producer < 2 {
            made = made.of(producer as i64, 0, self.sequences[producer]);
            self.sequences[producer] += keys.len() as i32;
        }
        if producer == 0 {
            made = made.in_transaction();
        }
        let base = self.log.append(made.bytes(), self.now_ms).unwrap().base_offset;
        for (i, (key, value)) in values.into_iter().enumerate() {
            match producer {
                0 => self.open.push((base + i as i64, key, value)),
                _ => self.show(base + i as i64, key, value),
            }
        }
    }

    fn show(&mut self, offset: i64, key: u8, value: Option<Vec<u8>>) {
        if self.view.get(&key).is_none_or(|(shown, _)| *shown < offset) {
            self.view.insert(key, (offset, value));
        }
    }

    fn end(&mut self, commit: bool) {
        let outcome = if commit { Outcome::Commit } else { Outcome::Abort };
        self.log.append_marker(0, 0, outcome, self.now_ms).unwrap();
        for (offset, key, value) in std::mem::take(&mut self.open) {
            if commit {
                self.show(offset, key, value);
            }
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Write { producer, records, codec } => self.write(*producer, records, *codec),
            Step::End { commit } => self.end(*commit),
            Step::Compact => {
                self.now_ms += 150;
                self.log.maintain(self.now_ms).unwrap();
            }
            Step::Kill => self.log = open(self.folder.path(), &self.config),
            Step::KillAndScan => {
                files::remove(&self.folder.path().join("checkpoint")).unwrap();
                self.log = open(self.folder.path(), &self.config);
            }
        }
    }

    /// What a consumer ends with who reads all that is committed.
    fn check(&mut self) {
        let seen = read_all(&self.log, Isolation::ReadCommitted, 700);
        assert!(seen.is_sorted_by(|a, b| a.0 < b.0));
        let mut view = BTreeMap::new();
        for (offset, key, value) in &seen {
            view.insert(key.as_ref().unwrap()[0], (*offset, value.clone()));
        }
        let last_stable = self.log.bounds().last_stable;
        let expected: Vec<_> = self.view.iter().filter(|(_, (offset, _))| *offset < last_stable).collect();
        for (key, (offset, value)) in expected {
            match view.get(key) {
                Some((shown, same)) => assert_eq!((shown, same), (offset, value), "key {key}"),
                None => assert_eq!(*value, None, "a key is lost: {key}"),
            }
        }
        let cleaned = *self.log.core.cleaned();
        let mut last: HashMap<&[u8], i64> = HashMap::new();
        for (offset, key, _) in seen.iter().filter(|(offset, ..)| *offset < cleaned) {
            let earlier = last.insert(key.as_deref().unwrap(), *offset);
            assert_eq!(earlier, None, "a replaced record stayed before {cleaned}");
        }
        // Sequences survive: the next ones fit, others do not.
        for producer in 0..2 {
            let wrong = Made::values(1).of(producer, 0, self.sequences[producer as usize] + 7);
            if self.sequences[producer as usize] > 0 {
                assert!(
                    self.log
                        .append(Made { records: vec![(Some(vec![1]), None)], ..wrong }.bytes(), NOW_MS)
                        .is_err()
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_compacted_log_ends_with_the_same_values(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.check();
        }
    }
}

#[test]
fn tombstones_go_after_their_time_and_segments_are_joined() {
    let mut world = World::new();
    for i in 0..200u8 {
        world.write(2, &[(i % 6, i < 194)], 0);
    }
    world.take(&Step::Compact);
    let seen = read_all(&world.log, Isolation::ReadUncommitted, 1 << 20);
    assert!(seen.len() < 40, "{}", seen.len());
    // More, so that the tombstones come to be in sealed segments and their time passes.
    for round in 0..4u8 {
        for i in 0..30 {
            world.write(2, &[(10 + (round + i) % 3, true)], 0);
        }
        world.take(&Step::Compact);
    }
    let keys: Vec<u8> = read_all(&world.log, Isolation::ReadUncommitted, 1 << 20)
        .iter()
        .map(|(_, key, _)| key.as_ref().unwrap()[0])
        .collect();
    assert!(keys.iter().all(|key| *key >= 10), "{keys:?}");
    assert!(world.log.core.lock().sealed.len() <= 4, "{}", world.log.core.lock().sealed.len());
}

#[test]
fn a_swap_that_was_cut_short_is_finished() {
    let mut world = World::new();
    for i in 0..100u8 {
        world.write(2, &[(i % 6, true)], 0);
    }
    world.log.maintain(NOW_MS).unwrap();
    let before = read_all(&world.log, Isolation::ReadUncommitted, 1 << 20);
    // As if it had stopped right after the decision.
    let folder = world.folder.path();
    let first = world.log.core.lock().sealed[0].clone();
    let from = files::named(folder, first.base, "log");
    files::rename(&from, &folder.join(format!("{:020}-{:020}.swap", first.base, first.end))).unwrap();
    std::fs::write(&from, b"an old segment").unwrap();
    std::fs::write(files::named(folder, first.end - 1, "log"), b"another old one").unwrap();
    std::fs::write(files::named(folder, 7, "index.cleaned"), b"begun").unwrap();
    world.log = open(folder, &world.config);
    assert_eq!(read_all(&world.log, Isolation::ReadUncommitted, 1 << 20), before);
    assert!(!files::named(folder, 7, "index.cleaned").exists());
}
