//! Random histories, stopped at every point: what a prefix of them leaves is, after recovery, of each transaction all or
//! nothing, and nothing of what a client was told is lost.

use super::*;
use crate::coordinator::{event::Offset, offsets::Offsets};
use proptest::prelude::*;

const LOGS: usize = 3;
const IDS: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Initialize {
        id: usize,
    },
    Add {
        id: usize,
        log: usize,
    },
    Produce {
        id: usize,
        log: usize,
    },
    Offsets {
        id: usize,
    },
    /// A commit that is no part of a transaction.
    Plain {
        id: usize,
    },
    End {
        id: usize,
        commit: bool,
    },
    /// One step of writing markers.
    Finish {
        id: usize,
    },
    TimeOut,
}

fn step() -> impl Strategy<Value = Step> {
    let (id, log) = (0..IDS, 0..LOGS);
    prop_oneof![
        1 => id.clone().prop_map(|id| Step::Initialize { id }),
        3 => (id.clone(), log.clone()).prop_map(|(id, log)| Step::Add { id, log }),
        5 => (id.clone(), log).prop_map(|(id, log)| Step::Produce { id, log }),
        3 => id.clone().prop_map(|id| Step::Offsets { id }),
        1 => id.clone().prop_map(|id| Step::Plain { id }),
        3 => (id.clone(), any::<bool>()).prop_map(|(id, commit)| Step::End { id, commit }),
        6 => id.prop_map(|id| Step::Finish { id }),
        1 => Just(Step::TimeOut),
    ]
}

/// One thing that is written, in the order of writing.
#[derive(Clone, Debug)]
enum Write {
    Event(Event),
    /// A record of the given transaction.
    Record {
        log: usize,
        producer: i64,
        number: i64,
    },
    Marker {
        log: usize,
        producer: i64,
        outcome: Outcome,
    },
}

/// What is on the disk, and what follows from it.
#[derive(Default)]
struct Disk {
    transactions: Transactions,
    offsets: Offsets,
    /// Of each log the records that are not decided, and the numbers of those that are.
    open: [Vec<(i64, i64)>; LOGS],
    decided: [Vec<(i64, Outcome)>; LOGS],
}

impl Disk {
    fn write(&mut self, write: &Write) {
        match write {
            Write::Event(event) => {
                self.transactions.apply(event);
                self.offsets.apply(event);
            }
            Write::Record { log, producer, number } => self.open[*log].push((*producer, *number)),
            Write::Marker { log, producer, outcome } => {
                let ended = self.open[*log].extract_if(.., |(open, _)| open == producer);
                self.decided[*log].extend(ended.map(|(_, number)| (number, *outcome)));
            }
        }
    }

    fn recover(&mut self) {
        self.transactions.restored(0);
        for now_ms in [0, i64::from(TIMEOUT_MS_MAX) + 1_000] {
            let mut store = Memory::default();
            self.transactions.expire(&mut Turn { store: &mut store, now_ms });
            for id in self.transactions.decided() {
                let decided = self.transactions.get(&id).cloned().unwrap();
                self.offsets.apply(&Event::Transaction(decided.clone()));
                let outcome = decided.state.decided().unwrap();
                for (_, log) in &decided.partitions {
                    let log = usize::try_from(*log).unwrap();
                    self.write(&Write::Marker { log, producer: decided.producer_id, outcome });
                }
                self.transactions.completed(&mut Turn { store: &mut store, now_ms }, &id).unwrap();
            }
        }
    }

    fn committed_offset(&self, id: usize) -> Option<i64> {
        self.offsets.get("g", &("in".into(), i32::try_from(id).unwrap())).map(|known| known.offset)
    }
}

/// The live system, and all that it has written.
#[derive(Default)]
struct Live {
    disk: Disk,
    writes: Vec<Write>,
    producers: [Option<Producer>; IDS],
    /// The number of the transaction that each id is in.
    numbers: [i64; IDS],
    last_number: i64,
    /// What ended how: number and outcome, and after how many writes.
    ended: Vec<(i64, Outcome, usize)>,
    /// Transactions that hold offsets, with their id.
    with_offsets: Vec<(i64, usize)>,
    /// Marked partitions of the decided transaction of each id.
    marked: [usize; IDS],
    /// Of each id the last plain commit, as a number of the same count.
    now_ms: i64,
}

impl Live {
    fn write(&mut self, write: Write) {
        self.disk.write(&write);
        self.writes.push(write);
    }

    /// A step of the machine; its events go to the disk.
    fn decide<T>(&mut self, step: impl FnOnce(&mut Transactions, &mut Turn<'_>) -> T) -> T {
        let mut store = Memory::default();
        let now_ms = self.now_ms;
        let done = step(&mut self.disk.transactions, &mut Turn { store: &mut store, now_ms });
        for event in store.events {
            self.disk.offsets.apply(&event);
            if let Event::Transaction(Transaction { id, state, .. }) = &event
                && let Some(outcome) = state.decided()
            {
                let number = self.numbers[id.parse::<usize>().unwrap()];
                self.ended.push((number, outcome, self.writes.len() + 1));
            }
            self.writes.push(Write::Event(event));
        }
        done
    }

    fn next_number(&mut self) -> i64 {
        self.last_number += 1;
        self.last_number
    }

    fn offset_event(&self, id: usize, number: i64) -> Offset {
        let partition = i32::try_from(id).unwrap();
        let (topic, metadata) = ("in".into(), String::new());
        Offset { topic, partition, offset: number, leader_epoch: -1, metadata, committed_ms: 0 }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Initialize { id } => {
                let name = id.to_string();
                if let Ok(Initialized::Ready(producer)) =
                    self.decide(|all, turn| all.initialize(turn, &name, TIMEOUT_MS_MAX, None))
                {
                    self.producers[id] = Some(producer);
                }
            }
            Step::TimeOut => {
                self.now_ms += i64::from(TIMEOUT_MS_MAX) / 2;
                self.decide(|all, turn| all.expire(turn));
            }
            Step::Finish { id } => self.finish(id),
            Step::Plain { id } => {
                let number = self.next_number();
                let offsets = vec![self.offset_event(id, number)];
                self.write(Write::Event(Event::Offsets { group: "g".into(), offsets }));
            }
            Step::Add { id, .. } | Step::Produce { id, .. } | Step::Offsets { id } | Step::End { id, .. } => {
                if let Some(producer) = self.producers[id] {
                    self.in_transaction(id, producer, step);
                }
            }
        }
    }

    fn in_transaction(&mut self, id: usize, producer: Producer, step: Step) {
        let name = id.to_string();
        let begins = self.disk.transactions.get(&name).is_some_and(|known| known.state != State::Ongoing);
        if begins && matches!(step, Step::Add { .. } | Step::Offsets { .. }) && self.is_at_rest(&name) {
            self.numbers[id] = self.next_number();
        }
        match step {
            Step::Add { log, .. } => {
                let partition = ("out".to_owned(), i32::try_from(log).unwrap());
                self.decide(|all, turn| all.add_partitions(turn, &name, producer, &[partition])).ok();
            }
            Step::Produce { log, .. } => {
                let partition = i32::try_from(log).unwrap();
                if self.disk.transactions.check_partition(&name, producer, "out", partition).is_ok() {
                    self.write(Write::Record { log, producer: producer.id, number: self.numbers[id] });
                }
            }
            Step::Offsets { .. } => {
                self.decide(|all, turn| all.add_group(turn, &name, producer, "g")).ok();
                if self.disk.transactions.check_group(&name, producer, "g").is_ok() {
                    let number = self.numbers[id];
                    let offsets = vec![self.offset_event(id, number)];
                    let group = "g".into();
                    self.write(Write::Event(Event::PendingOffsets {
                        producer_id: producer.id,
                        group,
                        offsets,
                    }));
                    self.with_offsets.push((number, id));
                }
            }
            Step::End { commit, .. } => {
                let outcome = if commit { Outcome::Commit } else { Outcome::Abort };
                self.decide(|all, turn| all.end(turn, &name, producer, outcome)).ok();
            }
            _ => {}
        }
    }

    fn is_at_rest(&self, id: &str) -> bool {
        self.disk.transactions.get(id).is_some_and(|known| known.state.decided().is_none())
    }

    fn finish(&mut self, id: usize) {
        let name = id.to_string();
        let Some(known) = self.disk.transactions.get(&name).cloned() else { return };
        let Some(outcome) = known.state.decided() else { return };
        match known.partitions.iter().nth(self.marked[id]) {
            Some((_, log)) => {
                self.marked[id] += 1;
                let log = usize::try_from(*log).unwrap();
                self.write(Write::Marker { log, producer: known.producer_id, outcome });
            }
            None => {
                self.marked[id] = 0;
                self.decide(|all, turn| all.completed(turn, &name)).unwrap();
            }
        }
    }

    /// What the disk holds after the first writes and recovery.
    fn crash(&self, writes: usize) -> Disk {
        let mut disk = Disk::default();
        self.writes[..writes].iter().for_each(|write| disk.write(write));
        disk.recover();
        disk
    }

    fn check(&self, writes: usize) {
        let disk = self.crash(writes);
        assert!(disk.open.iter().all(Vec::is_empty), "every transaction is decided in every log");
        let told = |number: i64| {
            let ended = self.ended.iter().find(|(ended, _, after)| *ended == number && *after <= writes);
            ended.map_or(Outcome::Abort, |(_, outcome, _)| *outcome)
        };
        for (number, outcome) in disk.decided.iter().flatten() {
            assert_eq!(*outcome, told(*number), "transaction {number} after {writes} writes");
        }
        for id in 0..IDS {
            assert_eq!(disk.committed_offset(id), self.expected_offset(id, writes, told), "{writes} writes");
        }
    }

    /// The latest commit of those that count: a transaction's counts from when its offset came.
    fn expected_offset(&self, id: usize, writes: usize, told: impl Fn(i64) -> Outcome) -> Option<i64> {
        let partition = i32::try_from(id).unwrap();
        let commit = |write: &Write| match write {
            Write::Event(Event::Offsets { offsets, .. }) if offsets[0].partition == partition => {
                Some(offsets[0].offset)
            }
            Write::Event(Event::PendingOffsets { offsets, .. }) if offsets[0].partition == partition => {
                Some(offsets[0].offset).filter(|number| told(*number) == Outcome::Commit)
            }
            _ => None,
        };
        self.writes[..writes].iter().filter_map(commit).next_back()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_transaction_is_all_or_nothing(steps in prop::collection::vec(step(), 1..60)) {
        let mut live = Live::default();
        live.apply(Step::Initialize { id: 0 });
        live.apply(Step::Initialize { id: 1 });
        steps.into_iter().for_each(|step| live.apply(step));
        (0..=live.writes.len()).for_each(|writes| live.check(writes));
    }

    #[test]
    fn a_snapshot_is_the_same_state(steps in prop::collection::vec(step(), 1..60)) {
        let mut live = Live::default();
        live.apply(Step::Initialize { id: 0 });
        live.apply(Step::Initialize { id: 1 });
        steps.into_iter().for_each(|step| live.apply(step));
        let events = |disk: &Disk| {
            disk.transactions.snapshot().chain(disk.offsets.snapshot()).collect::<Vec<_>>()
        };
        let mut again = Disk::default();
        let snapshot = events(&live.disk);
        snapshot.iter().for_each(|event| {
            again.transactions.apply(event);
            again.offsets.apply(event);
        });
        prop_assert_eq!(snapshot, events(&again));
    }
}
