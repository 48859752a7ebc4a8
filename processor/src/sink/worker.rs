//! The sink as a worker of a group member: batches what is read and stores the batches in order.

use super::{
    Error,
    batch::{Batch, Entry},
    drive::{Blocking, Failure, Step, Worker},
    member::Member,
    metrics::{SinkMetrics, Skipped},
    outage::Chain,
    reaction::Reaction,
    read,
    store::{self, Store},
};
use millrace_log::{NextOffset, is_closing};
use millrace_schemas::aggregate;
use rdkafka::{Message as _, message::BorrowedMessage};
use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// The most records in one transaction.
const BATCH_RECORDS_MAX: usize = 5_000;
/// The longest that a record waits for others.
const LINGER: Duration = Duration::from_millis(20);
/// How long a worker without records may sleep.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one step may take; a transaction has its own, shorter limit.
const STEP_LIMIT: Duration = Duration::from_secs(45);
/// Of unreadable records so many are logged one by one, and then every thousandth.
const UNREADABLE_TOLD: u64 = 10;

pub struct Sink {
    store: Store,
    blocking: Blocking,
    metrics: SinkMetrics,
    positions: BTreeMap<i32, Position>,
    filling: Batch,
    /// When the first record of `filling` came.
    filling_since: Option<Instant>,
    /// Batches to store, the first one first: more than one only while a refused row is searched for.
    waiting: VecDeque<Batch>,
    unreadable: u64,
}

/// How far a partition is.
struct Position {
    stored: NextOffset,
    read: NextOffset,
    caught_up: bool,
}

impl Sink {
    pub fn new(store: Store, blocking: Blocking, metrics: SinkMetrics) -> Self {
        Self {
            store,
            blocking,
            metrics,
            positions: BTreeMap::new(),
            filling: Batch::default(),
            filling_since: None,
            waiting: VecDeque::new(),
            unreadable: 0,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.filling.entries.len() >= BATCH_RECORDS_MAX
            || self.filling_since.is_some_and(|since| now.saturating_duration_since(since) >= LINGER)
    }

    fn close_batch(&mut self) {
        self.filling_since = None;
        self.waiting.push_back(std::mem::take(&mut self.filling));
    }

    /// Stores the first waiting batch.
    fn store_first(&mut self, member: &Member) -> Result<Step, Failure<Error>> {
        let Some(batch) = self.waiting.front() else { return Ok(Step::Idle) };
        let timer = self.metrics.seconds.start_timer();
        let result =
            self.blocking.run(STEP_LIMIT, self.store.store(batch)).unwrap_or(Err(store::Error::TimedOut));
        match result {
            Ok(stored) => {
                timer.observe_duration();
                self.metrics.rows.inc_by(stored.rows);
                self.metrics.merged.inc_by(stored.merged);
                self.stored_first(member);
                Ok(Step::Done)
            }
            Err(error) => {
                timer.stop_and_discard();
                self.react(error)
            }
        }
    }

    fn stored_first(&mut self, member: &Member) {
        let Some(batch) = self.waiting.pop_front() else { return };
        self.metrics.records.inc_by(u64::try_from(batch.rows().count()).unwrap_or(u64::MAX));
        let to = batch.to();
        for (partition, next) in &to {
            if let Some(position) = self.positions.get_mut(partition) {
                position.stored = *next;
            }
        }
        member.tell_progress(to);
    }

    fn react(&mut self, error: store::Error) -> Result<Step, Failure<Error>> {
        if matches!(error, store::Error::Moved(_)) {
            return Err(Failure::Restart);
        }
        match error.reaction() {
            Reaction::Retry => Err(Failure::Retry(error.into())),
            Reaction::Stop => Err(Failure::Stop(error.into())),
            Reaction::Refuse => {
                self.narrow_down(&error);
                Ok(Step::Done)
            }
        }
    }

    /// Puts the halves in place of the first batch, whose rows the database does not take together.
    fn narrow_down(&mut self, error: &store::Error) {
        let Some(batch) = self.waiting.pop_front() else { return };
        if let [entry] = batch.entries.as_slice() {
            self.metrics.skipped(Skipped::Refused);
            let (partition, offset) = (entry.partition, entry.offset);
            tracing::error!(partition, offset, error = %Chain(error), "an aggregate row can't be stored; left out");
        }
        for part in batch.split().into_iter().rev() {
            self.waiting.push_front(part);
        }
    }

    fn unreadable(&mut self, partition: i32, offset: i64, error: &read::Error) {
        self.metrics.skipped(Skipped::Unreadable);
        self.unreadable += 1;
        if self.unreadable <= UNREADABLE_TOLD || self.unreadable.is_multiple_of(1000) {
            let count = self.unreadable;
            tracing::warn!(partition, offset, count, error = %Chain(error), "left out a record that is no aggregate row");
        }
    }

    fn tell_lag(&self, partition: i32, end: i64) {
        if let Some(position) = self.positions.get(&partition) {
            let all = position.caught_up && position.stored == position.read;
            self.metrics.lag(partition, if all { 0 } else { (end - position.stored.get()).max(0) });
        }
    }
}

impl Worker for Sink {
    type Error = Error;
    const ROLE: &'static str = "sink";

    fn start(
        &mut self,
        member: &Member,
        partitions: &[i32],
    ) -> Result<Vec<(i32, NextOffset)>, Failure<Error>> {
        let positions = self.blocking.run(STEP_LIMIT, self.store.positions(partitions));
        let stored =
            positions.unwrap_or(Err(store::Error::TimedOut)).map_err(|error| match error.reaction() {
                Reaction::Retry => Failure::Retry(Error::from(error)),
                Reaction::Refuse | Reaction::Stop => Failure::Stop(error.into()),
            })?;
        for (partition, next) in &stored {
            check_bounds(member, *partition, *next)?;
        }
        let position = |next| Position { stored: next, read: next, caught_up: false };
        self.positions = stored.iter().map(|(partition, next)| (*partition, position(*next))).collect();
        Ok(stored.into_iter().collect())
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) -> Result<(), Error> {
        let (partition, offset) = (message.partition(), message.offset());
        let Some(position) = self.positions.get_mut(&partition) else { return Ok(()) };
        if offset < position.read.get() {
            return Ok(());
        }
        let from = std::mem::replace(&mut position.read, NextOffset::after(offset));
        position.caught_up = false;
        let row = match read::read(message.payload().unwrap_or_default()) {
            Ok(row) => Some(row),
            Err(source @ read::Error::Row(aggregate::Error::Newer(_))) => {
                return Err(Error::Newer { partition, offset, source });
            }
            Err(_) if is_closing(message) => None,
            Err(error) => {
                self.unreadable(partition, offset, &error);
                None
            }
        };
        self.filling_since.get_or_insert_with(Instant::now);
        self.filling.push(from, Entry { partition, offset, row });
        Ok(())
    }

    fn work(&mut self, member: &Member, now: Instant) -> Result<Step, Failure<Error>> {
        if self.waiting.is_empty() && self.is_due(now) {
            self.close_batch();
        }
        self.store_first(member)
    }

    fn patience(&self, now: Instant) -> Duration {
        let waited = |since| LINGER.saturating_sub(now.saturating_duration_since(since));
        if self.waiting.is_empty() { self.filling_since.map_or(PATIENCE, waited) } else { Duration::ZERO }
    }

    fn give_up(&mut self) {
        self.positions.clear();
        self.filling = Batch::default();
        self.filling_since = None;
        self.waiting.clear();
        self.metrics.forget_lags();
    }

    fn caught_up(&mut self, partition: i32) {
        if let Some(position) = self.positions.get_mut(&partition) {
            position.caught_up = true;
        }
    }

    fn ends(&mut self, ends: &BTreeMap<i32, i64>) {
        ends.iter().for_each(|(partition, end)| self.tell_lag(*partition, *end));
    }

    fn finish(&mut self, member: &Member) {
        if !self.filling.is_empty() {
            self.close_batch();
        }
        while !self.waiting.is_empty() {
            match self.store_first(member) {
                Ok(_) => {}
                Err(Failure::Restart) => return,
                Err(Failure::Retry(error) | Failure::Stop(error)) => {
                    tracing::warn!(error = %Chain(&error), "the last aggregates will be stored after the next start");
                    return;
                }
            }
        }
    }
}

/// The stored offset must be one that the log has: otherwise rows are lost, or those of another topic come.
fn check_bounds(member: &Member, partition: i32, stored: NextOffset) -> Result<(), Failure<Error>> {
    let bounds = member.bounds(partition).map_err(|error| Failure::Retry(error.into()))?;
    let topic = member.topic().to_owned();
    if stored > bounds.end {
        return Err(Failure::Stop(Error::Recreated { topic, partition, stored, end: bounds.end }));
    }
    if stored < bounds.low && stored != NextOffset::START {
        tracing::error!(topic, partition, %stored, first = %bounds.low, "retention removed aggregates before they were stored");
    }
    Ok(())
}
