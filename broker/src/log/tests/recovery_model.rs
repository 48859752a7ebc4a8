//! Random appends, restarts and torn tails: what is there equals a simple model.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        count: usize,
        codec: i16,
        size: usize,
    },
    Maintain,
    DeleteBefore {
        per_mille: i64,
    },
    Close,
    Kill,
    /// The file ends at some byte.
    Cut {
        per_mille: usize,
    },
    /// A byte that was not synced has another value.
    Damage {
        per_mille: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1usize..8, 0i16..5, 0usize..400).prop_map(|(count, codec, size)| Step::Append { count, codec, size }),
        2 => Just(Step::Maintain),
        1 => (0i64..1000).prop_map(|per_mille| Step::DeleteBefore { per_mille }),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        1 => (0usize..1000).prop_map(|per_mille| Step::Cut { per_mille }),
        1 => (0usize..1000).prop_map(|per_mille| Step::Damage { per_mille }),
    ]
}

struct World {
    folder: tempfile::TempDir,
    config: LogConfig,
    log: Option<PartitionLog>,
    /// (first offset, values)
    batches: Vec<(i64, Vec<Vec<u8>>)>,
    start: i64,
    end: i64,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = LogConfig { segment_bytes: 3000, ..LogConfig::default() };
        let log = Some(open(folder.path(), &config));
        Self { folder, config, log, batches: Vec::new(), start: 0, end: 0 }
    }

    fn log(&self) -> &PartitionLog {
        self.log.as_ref().unwrap()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append { count, codec, size } => self.append(count, codec, size),
            Step::Maintain => self.log().maintain(NOW_MS).unwrap(),
            Step::DeleteBefore { per_mille } => {
                self.start = self.log().delete_before(self.end * per_mille / 1000).unwrap();
            }
            Step::Close => {
                self.log().close().unwrap();
                self.reopen();
            }
            Step::Kill => self.reopen(),
            Step::Cut { per_mille } => self.harm(per_mille, true),
            Step::Damage { per_mille } => self.harm(per_mille, false),
        }
    }

    fn append(&mut self, count: usize, codec: i16, size: usize) {
        let values: Vec<Vec<u8>> = (0..count).map(|i| vec![(self.end as usize + i) as u8; size]).collect();
        let records = values.iter().map(|value| (None, Some(value.clone()))).collect();
        let appended = self
            .log()
            .append(Made { attributes: codec, records, ..Made::default() }.bytes(), NOW_MS)
            .unwrap();
        assert_eq!(appended.base_offset, self.end);
        self.batches.push((self.end, values));
        self.end += count as i64;
    }

    fn reopen(&mut self) {
        self.log = None;
        self.log = Some(open(self.folder.path(), &self.config));
    }

    /// The last file is cut or damaged where no checkpoint covers it, while nobody has it open.
    fn harm(&mut self, per_mille: usize, cut: bool) {
        self.log = None;
        let base = *recovery::bases(self.folder.path()).unwrap().last().unwrap();
        let path = files::named(self.folder.path(), base, "log");
        let mut bytes = std::fs::read(&path).unwrap();
        let synced =
            checkpoint::Checkpoint::load(self.folder.path()).filter(|checkpoint| checkpoint.base == base);
        let synced = synced.map_or(0, |checkpoint| checkpoint.position as usize);
        let at = synced + (bytes.len() - synced) * per_mille / 1000;
        let mut kept = 0;
        while let Ok(header) = batch::check(&bytes[kept..]) {
            if kept + header.size > at {
                break;
            }
            kept += header.size;
        }
        let lost = batch::check(&bytes[kept..]).map_or(self.end, |header| header.base_offset);
        // The leader epoch is not under the checksum, nor is the upper part of the offset checked: hit what is.
        match cut {
            true => bytes.truncate(at),
            false if at < bytes.len() => bytes[kept + 20] ^= 0x55,
            false => return self.reopen(),
        }
        std::fs::write(&path, &bytes).unwrap();
        self.reopen();
        self.batches.retain(|(first, _)| *first < lost);
        self.end = lost.max(self.start);
    }

    fn check(&self, max_bytes: usize) {
        let bounds = self.log().bounds();
        let start = bounds.log_start;
        assert_eq!((start >= self.start.min(bounds.log_end), bounds.log_end), (true, self.end));
        let values = self.batches.iter().flat_map(|(first, values)| {
            values.iter().enumerate().map(|(i, value)| (*first + i as i64, value.clone()))
        });
        let expected: Seen = values
            .filter(|(offset, _)| *offset >= start)
            .map(|(offset, value)| (offset, None, Some(value)))
            .collect();
        assert_eq!(read_all(self.log(), Isolation::ReadUncommitted, max_bytes), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_what_was_appended_and_not_torn_away(steps in prop::collection::vec(step(), 1..60), max_bytes in 1usize..5000) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            world.check(max_bytes);
        }
    }
}
