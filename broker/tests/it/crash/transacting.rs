//! Transactions while the broker dies: what each became, as far as its producer was told.

use super::PARTITIONS;
use crate::harness::{Backend, PATIENCE, Producer, Random};
use anyhow::{Context as _, Result};
use rdkafka::{
    error::KafkaError,
    producer::{BaseRecord, Producer as _},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

pub const TOPIC: &str = "transactions";
/// Each transaction has so many records, a share in each partition.
pub const RECORDS: i32 = 2 * PARTITIONS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Committed,
    Aborted,
    /// Its producer gave up before it knew.
    Unknown,
}

pub struct Transacting {
    stop: Arc<AtomicBool>,
    ended: Arc<AtomicUsize>,
    thread: JoinHandle<Result<Vec<Fate>>>,
}

impl Transacting {
    pub fn start(backend: &Backend, seed: u64) -> Self {
        let backend = Backend::new(backend.kind, &backend.bootstrap, "transacting");
        let stop = Arc::<AtomicBool>::default();
        let ended = Arc::<AtomicUsize>::default();
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&ended));
        let thread = thread::spawn(move || {
            let (backend, mut random) = (backend?, Random::new(seed));
            let mut fates = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                one_life(&backend, &mut fates, &mut random, (&stopped, &count))?;
            }
            Ok(fates)
        });
        Self { stop, ended, thread }
    }

    /// How many have ended so far.
    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }

    /// The fate of each transaction, in the order in which they were begun.
    pub fn end(self) -> Result<Vec<Fate>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the transactional producer panicked")?
    }
}

/// Until its producer can't go on.
fn one_life(
    backend: &Backend,
    fates: &mut Vec<Fate>,
    random: &mut Random,
    (stop, ended): (&AtomicBool, &AtomicUsize),
) -> Result<()> {
    let producer = backend.transactional("crash", 60_000)?;
    while !stop.load(Ordering::Relaxed) {
        let commits = !random.one_in(3);
        fates.push(Fate::Unknown);
        let Ok(fate) = transaction(&producer, fates.len() - 1, commits) else { return Ok(()) };
        *fates.last_mut().expect("it was pushed") = fate;
        ended.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn transaction(producer: &Producer, number: usize, commits: bool) -> Result<Fate> {
    producer.0.begin_transaction()?;
    for index in 0..RECORDS {
        let value = format!("{number} {index}");
        let record = BaseRecord::to(TOPIC).key(b"k".as_slice()).payload(value.as_bytes());
        producer.queue(record.partition(index % PARTITIONS))?;
    }
    if !commits {
        again(|| producer.0.abort_transaction(PATIENCE))?;
        return Ok(Fate::Aborted);
    }
    match again(|| producer.0.commit_transaction(PATIENCE)) {
        Ok(()) => Ok(Fate::Committed),
        Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
            again(|| producer.0.abort_transaction(PATIENCE))?;
            Ok(Fate::Aborted)
        }
        Err(error) => Err(error).context("commit"),
    }
}

/// What librdkafka says may be tried again is tried again.
fn again(mut attempt: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    loop {
        match attempt() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
            result => return result,
        }
    }
}
