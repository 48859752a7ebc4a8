//! A member of a group that commits all the time, and notes what was said to be committed.

use super::{PARTITIONS, load::TOPIC};
use crate::harness::{Backend, Consumer, PATIENCE, list, offset_of, until};
use anyhow::{Context as _, Result, ensure};
use rdkafka::{
    Offset,
    consumer::{CommitMode, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

const GROUP: &str = "readers";

/// What was committed of each partition, and how many commits there were.
#[derive(Clone, Default)]
struct Committed {
    offsets: BTreeMap<i32, i64>,
    count: usize,
}

pub struct Reader {
    committed: Arc<Mutex<Committed>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Reader {
    pub fn start(backend: &Backend) -> Result<Self> {
        let consumer = backend.consumer(GROUP, &[])?;
        consumer.subscribe(&[TOPIC])?;
        let (committed, stop) = (Arc::<Mutex<Committed>>::default(), Arc::<AtomicBool>::default());
        let (theirs, stopped) = (Arc::clone(&committed), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                step(&consumer, &theirs)?;
            }
            Ok(())
        });
        Ok(Self { committed, stop, thread })
    }

    pub fn commits(&self) -> usize {
        self.now().count
    }

    /// Whether the broker still has all that it said is committed.
    pub fn not_gone_back(&self, backend: &Backend) -> Result<()> {
        let said = self.now().offsets;
        let consumer = backend.consumer(GROUP, &[])?;
        let asked = (0..PARTITIONS).map(|partition| (partition, Offset::Invalid)).collect::<Vec<_>>();
        let found = until("the committed offsets", PATIENCE, || {
            consumer
                .committed_offsets(list(TOPIC, &asked)?, Duration::from_secs(5))
                .context("committed offsets")
        })?;
        for (partition, said) in said {
            let found = offset_of(&found, TOPIC, partition);
            ensure!(found >= Some(said), "partition {partition}: {said} was committed, now it is {found:?}");
        }
        Ok(())
    }

    pub fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the reader panicked")?
    }

    fn now(&self) -> Committed {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes what has arrived and commits the position after it.
fn step(consumer: &Consumer, committed: &Mutex<Committed>) -> Result<()> {
    let Some(message) = consumer.poll(Duration::from_millis(50)) else { return Ok(()) };
    match message {
        Ok(_) => {}
        Err(KafkaError::MessageConsumption(code)) if passes(code) => return Ok(()),
        Err(error) => return Err(error).context("consume"),
    }
    while consumer.poll(Duration::ZERO).is_some_and(|message| message.is_ok()) {}
    let position = consumer.position()?;
    match consumer.commit(&position, CommitMode::Sync) {
        Ok(()) => {}
        // The broker is gone, or the session was over while it was.
        Err(_) => return Ok(()),
    }
    let mut committed = committed.lock().unwrap_or_else(PoisonError::into_inner);
    committed.count += 1;
    for partition in 0..PARTITIONS {
        if let Some(offset) = offset_of(&position, TOPIC, partition) {
            let known = committed.offsets.entry(partition).or_default();
            *known = offset.max(*known);
        }
    }
    Ok(())
}

fn passes(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, Resolve};
    matches!(code, AllBrokersDown | BrokerTransportFailure | Resolve)
}
