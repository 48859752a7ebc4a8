//! The ledger as a worker of a group member: batches what is read and stores the batches in order.

use super::{
    Error,
    entries::{Fault, FaultKind, Plan, Sources},
    metrics::LedgerMetrics,
    store::{self, Batch, Store},
};
use crate::sink::{
    drive::{Blocking, Failure, Step, Worker},
    member::Member,
    outage::Chain,
    reaction::Reaction,
};
use millrace_log::{NextOffset, is_closing};
use millrace_schemas::ledger::{self, Entry};
use rdkafka::{Message as _, message::BorrowedMessage};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// A transaction has no more entries.
const BATCH_ENTRIES_MAX: usize = 2_000;
/// One that has as many rows takes no further entry, which has some thousands at most.
const BATCH_ROWS_MAX: usize = 20_000;
/// The longest that an entry waits for others. Nobody waits for the ledger as for a window.
const LINGER: Duration = Duration::from_millis(250);
/// How long a worker without records may sleep.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one step may take; a transaction has its own, shorter limit.
const STEP_LIMIT: Duration = Duration::from_secs(45);
/// How often some old minutes are deleted, and how long that may take.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);
const FORGET_LIMIT: Duration = Duration::from_secs(5);
/// Of records that are no entries so many are logged one by one, and then every thousandth.
const SKIPPED_TOLD: u64 = 10;

pub struct Ledger {
    store: Store,
    sources: Sources,
    blocking: Blocking,
    metrics: LedgerMetrics,
    positions: BTreeMap<i32, Position>,
    filling: Batch,
    filling_rows: usize,
    /// When the first record of `filling` came.
    filling_since: Option<Instant>,
    /// The batch to store next.
    waiting: Option<Batch>,
    forget_at: Instant,
}

/// How far a partition is.
struct Position {
    stored: NextOffset,
    read: NextOffset,
    caught_up: bool,
}

impl Ledger {
    pub fn new(store: Store, sources: Sources, blocking: Blocking, metrics: LedgerMetrics) -> Self {
        Self {
            store,
            sources,
            blocking,
            metrics,
            positions: BTreeMap::new(),
            filling: Batch::default(),
            filling_rows: 0,
            filling_since: None,
            waiting: None,
            forget_at: Instant::now() + FORGET_INTERVAL,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.filling.entries.len() >= BATCH_ENTRIES_MAX
            || self.filling_rows >= BATCH_ROWS_MAX
            || self.filling_since.is_some_and(|since| now.saturating_duration_since(since) >= LINGER)
    }

    fn close_batch(&mut self) {
        self.filling_since = None;
        self.filling_rows = 0;
        self.waiting = Some(std::mem::take(&mut self.filling));
    }

    fn store_waiting(&mut self, member: &Member) -> Result<Step, Failure<Error>> {
        let Some(batch) = &self.waiting else { return Ok(Step::Idle) };
        let stored = self.blocking.run(STEP_LIMIT, self.store.store(batch));
        let plan = stored.unwrap_or(Err(store::Error::TimedOut)).map_err(failure)?;
        self.metrics.stored(&plan);
        tell_faults(&plan);
        for (partition, next) in &batch.to {
            if let Some(position) = self.positions.get_mut(partition) {
                position.stored = *next;
            }
        }
        member.tell_progress(batch.to.iter().map(|(partition, next)| (*partition, *next)));
        self.waiting = None;
        Ok(Step::Done)
    }

    /// Not being able to is no reason to stop: it is tried again soon.
    fn forget_old(&mut self, now: Instant) {
        if now < self.forget_at {
            return;
        }
        self.forget_at = now + FORGET_INTERVAL;
        let deleted = self.blocking.run(FORGET_LIMIT, self.store.forget());
        match deleted.unwrap_or(Err(store::Error::TimedOut)) {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "deleted old minutes of the ledger"),
            Err(error) => {
                tracing::debug!(error = %Chain(&error), "old minutes of the ledger are left for later")
            }
        }
    }

    /// `None` for what is no entry: anyone can write to a topic.
    fn read(&self, message: &BorrowedMessage<'_>) -> Result<Option<Entry>, Error> {
        let (partition, offset) = (message.partition(), message.offset());
        let why = match Entry::read(message.payload().unwrap_or_default()) {
            Ok(entry) if self.sources.has(&entry) => return Ok(Some(entry)),
            Ok(_) => "it is of a topic that is not read here".to_owned(),
            // To pass over it would lose counts.
            Err(source @ ledger::Error::Newer(_)) => return Err(Error::Newer { partition, offset, source }),
            Err(_) if is_closing(message) => return Ok(None),
            Err(error) => Chain(&error).to_string(),
        };
        self.metrics.skipped.inc();
        let count = self.metrics.skipped.get();
        if count <= SKIPPED_TOLD || count.is_multiple_of(1000) {
            tracing::warn!(partition, offset, count, why, "left out a record that is no ledger entry");
        }
        Ok(None)
    }
}

fn failure(error: store::Error) -> Failure<Error> {
    if matches!(error, store::Error::Moved(_)) {
        return Failure::Restart;
    }
    match error.reaction() {
        Reaction::Retry => Failure::Retry(error.into()),
        Reaction::Refuse | Reaction::Stop => Failure::Stop(error.into()),
    }
}

fn tell_faults(plan: &Plan) {
    for Fault { reader, expected, from, to, kind } in &plan.faults {
        let (stage, topic, partition) = (reader.stage.as_str(), reader.topic.as_str(), reader.partition);
        match kind {
            FaultKind::Gap => {
                tracing::error!(stage, topic, partition, %expected, from, "nobody tells what became of these records");
            }
            FaultKind::Torn => {
                tracing::error!(stage, topic, partition, %expected, from, to, "a range begins before the last one's end: the rest of it is not in the ledger");
            }
            // It was the archive's last before a restart, most likely.
            FaultKind::Reread => {
                tracing::info!(stage, topic, partition, %expected, from, to, "the ledger has these records already");
            }
        }
    }
}

impl Worker for Ledger {
    type Error = Error;
    const ROLE: &'static str = "ledger";

    fn start(
        &mut self,
        member: &Member,
        partitions: &[i32],
    ) -> Result<Vec<(i32, NextOffset)>, Failure<Error>> {
        let positions = self.blocking.run(STEP_LIMIT, self.store.positions(partitions));
        let stored = positions.unwrap_or(Err(store::Error::TimedOut)).map_err(failure)?;
        for (partition, next) in &stored {
            check_bounds(member, *partition, *next)?;
        }
        let position = |next| Position { stored: next, read: next, caught_up: false };
        self.positions = stored.iter().map(|(partition, next)| (*partition, position(*next))).collect();
        Ok(stored.into_iter().collect())
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) -> Result<(), Error> {
        let (partition, offset) = (message.partition(), message.offset());
        let Some(stands) = self.positions.get(&partition).map(|position| position.read) else {
            return Ok(());
        };
        if offset < stands.get() {
            return Ok(());
        }
        let entry = self.read(message)?;
        if let Some(position) = self.positions.get_mut(&partition) {
            position.read = NextOffset::after(offset);
            position.caught_up = false;
        }
        self.filling_since.get_or_insert_with(Instant::now);
        self.filling.from.entry(partition).or_insert(stands);
        self.filling.to.insert(partition, NextOffset::after(offset));
        self.filling_rows += entry.as_ref().map_or(0, |entry| entry.rows().len());
        self.filling.entries.extend(entry);
        Ok(())
    }

    fn work(&mut self, member: &Member, now: Instant) -> Result<Step, Failure<Error>> {
        self.forget_old(now);
        if self.waiting.is_none() && self.is_due(now) {
            self.close_batch();
        }
        self.store_waiting(member)
    }

    fn patience(&self, now: Instant) -> Duration {
        let waited = |since| LINGER.saturating_sub(now.saturating_duration_since(since));
        if self.waiting.is_none() { self.filling_since.map_or(PATIENCE, waited) } else { Duration::ZERO }
    }

    fn give_up(&mut self) {
        self.positions.clear();
        self.filling = Batch::default();
        self.filling_rows = 0;
        self.filling_since = None;
        self.waiting = None;
        self.metrics.forget_lags();
    }

    fn caught_up(&mut self, partition: i32) {
        if let Some(position) = self.positions.get_mut(&partition) {
            position.caught_up = true;
        }
    }

    fn ends(&mut self, ends: &BTreeMap<i32, i64>) {
        for (partition, end) in ends {
            if let Some(position) = self.positions.get(partition) {
                let all = position.caught_up && position.stored == position.read;
                self.metrics.lag(*partition, if all { 0 } else { (end - position.stored.get()).max(0) });
            }
        }
    }

    fn finish(&mut self, member: &Member) {
        loop {
            match self.store_waiting(member) {
                Ok(_) if self.filling_since.is_none() => return,
                Ok(_) => self.close_batch(),
                Err(Failure::Restart) => return,
                Err(Failure::Retry(error) | Failure::Stop(error)) => {
                    tracing::warn!(error = %Chain(&error), "the last ledger entries will be stored after the next start");
                    return;
                }
            }
        }
    }
}

/// The stored offset must be one that the log has: otherwise entries are lost, or those of another topic come.
fn check_bounds(member: &Member, partition: i32, stored: NextOffset) -> Result<(), Failure<Error>> {
    let bounds = member.bounds(partition).map_err(|error| Failure::Retry(error.into()))?;
    let topic = member.topic().to_owned();
    if stored > bounds.end {
        return Err(Failure::Stop(Error::Recreated { topic, partition, stored, end: bounds.end }));
    }
    if stored < bounds.low && stored != NextOffset::START {
        tracing::error!(topic, partition, %stored, first = %bounds.low, "retention removed ledger entries before they were stored");
    }
    Ok(())
}
