//! Members of a consumer group, each on a thread of its own, as applications have them.

use super::{Backend, Consumer};
use anyhow::{Context as _, Result};
use rdkafka::{
    Message as _,
    consumer::{CommitMode, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// What a member has seen so far.
#[derive(Clone, Default)]
pub struct Seen {
    /// The partitions that it has now.
    pub assigned: BTreeSet<i32>,
    /// (partition, offset) in the order of arrival.
    pub records: Vec<(i32, i64)>,
    pub revocations: u32,
}

/// A running consumer that commits what it gets. Dropping it leaves the group.
pub struct Member {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Member {
    pub fn join(backend: &Backend, group: &str, topic: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let consumer = backend.consumer(group, settings)?;
        consumer.subscribe(&[topic])?;
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (theirs, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || consume(&consumer, &theirs, &stopped));
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Leaves the group; what it has seen.
    pub fn leave(mut self) -> Result<Seen> {
        self.end().context("a member of the group")?;
        Ok(self.seen())
    }

    fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(Ok(()), |thread| thread.join().expect("it does not panic"))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("a member of the group: {error:#}");
        }
    }
}

fn consume(consumer: &Consumer, seen: &Mutex<Seen>, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let message = consumer.poll(Duration::from_millis(50)).transpose().context("consume")?;
        let record = message.map(|message| (message.partition(), message.offset()));
        if record.is_some() {
            committed(consumer.commit_consumer_state(CommitMode::Async))?;
        }
        let assigned = consumer.assignment()?;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.records.extend(record);
        seen.assigned = assigned.elements().iter().map(|element| element.partition()).collect();
        seen.revocations = *consumer.context().revoked.lock().unwrap_or_else(PoisonError::into_inner);
    }
    committed(consumer.commit_consumer_state(CommitMode::Sync))
}

/// Nothing to commit is no failure, nor is a rebalance that comes between: the next member starts at the last commit.
fn committed(result: Result<(), KafkaError>) -> Result<()> {
    use RDKafkaErrorCode::{IllegalGeneration, NoOffset, RebalanceInProgress, UnknownMemberId};
    match result {
        Err(KafkaError::ConsumerCommit(
            NoOffset | RebalanceInProgress | IllegalGeneration | UnknownMemberId,
        )) => Ok(()),
        other => other.context("commit"),
    }
}
