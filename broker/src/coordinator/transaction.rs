//! Transactional ids and their transactions: Kafka's TransactionCoordinator as a pure state machine.
//!
//! It decides and stores its decision; markers are written by `finish` of the shell, which then calls `completed`.

mod deciding;
mod initializing;
#[cfg(test)]
mod tests;

pub use deciding::Ended;
pub use initializing::Initialized;

use super::event::{Event, Partition, Turn};
use crate::log::Outcome;
use kafka_protocol::ResponseError;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Kafka's transaction.max.timeout.ms.
pub const TIMEOUT_MS_MAX: i32 = 15 * 60 * 1000;
/// An id that is not used for so long is forgotten: Kafka's transactional.id.expiration.ms.
pub const IDLE_MS_MAX: i64 = 7 * 24 * 3600 * 1000;
/// More transactional ids are answered with PolicyViolation.
pub const TRANSACTIONAL_IDS_MAX: usize = 10_000;
/// The most partitions of one transaction; more are answered with PolicyViolation.
pub const PARTITIONS_MAX: usize = 10_000;
/// How many producer ids are taken with one event.
pub const PRODUCER_ID_BLOCK: i64 = 1000;
/// A step that the disk refused is tried again after this time.
const RETRY_MS: i64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

impl State {
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// As ListTransactions names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    /// What is decided but not yet marked in all partitions.
    pub fn decided(self) -> Option<Outcome> {
        match self {
            Self::PrepareCommit => Some(Outcome::Commit),
            Self::PrepareAbort => Some(Outcome::Abort),
            _ => None,
        }
    }
}

/// A producer as it names itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
}

/// One transactional id and the transaction that it is in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transaction {
    pub id: String,
    pub producer_id: i64,
    /// Before the epochs of this producer id were used up; -1 without one.
    pub previous_producer_id: i64,
    pub epoch: i16,
    /// The epoch that its owner bumped last, so that a repeated InitProducerId gets the same answer; -1 without one.
    pub last_epoch: i16,
    pub timeout_ms: i32,
    pub state: State,
    pub partitions: BTreeSet<Partition>,
    /// Groups whose offsets are part of it.
    pub groups: BTreeSet<String>,
    /// -1 where there was no transaction yet.
    pub start_ms: i64,
    pub updated_ms: i64,
}

impl Transaction {
    /// Whether it may have records there that are not decided, or not yet marked.
    pub fn is_open_in(&self, partition: &Partition) -> bool {
        let is_open = self.state == State::Ongoing || self.state.decided().is_some();
        is_open && self.partitions.contains(partition)
    }

    pub fn is_ongoing(&self) -> bool {
        self.state == State::Ongoing
    }

    fn deadline_ms(&self) -> Option<i64> {
        (self.state == State::Ongoing).then(|| self.start_ms.saturating_add(i64::from(self.timeout_ms)))
    }

    fn is_idle(&self, now_ms: i64) -> bool {
        let at_rest = matches!(self.state, State::Empty | State::CompleteCommit | State::CompleteAbort);
        at_rest && self.updated_ms.saturating_add(IDLE_MS_MAX) <= now_ms
    }
}

#[derive(Debug, Default)]
pub struct Transactions {
    by_id: BTreeMap<String, Transaction>,
    next_producer_id: i64,
    producer_ids_until: i64,
    /// No time-out is tried before this, after the disk refused one.
    retry_ms: i64,
}

impl Transactions {
    /// Takes over what an event says, when it happens and when it is read again.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::ProducerIds { until } => self.producer_ids_until = *until,
            Event::Transaction(transaction) => {
                self.by_id.insert(transaction.id.clone(), transaction.clone());
            }
            Event::TransactionExpired { id } => {
                self.by_id.remove(id);
            }
            Event::TopicDeleted { topic } => {
                for transaction in self.by_id.values_mut() {
                    transaction.partitions.retain(|(name, _)| name != topic);
                }
            }
            _ => {}
        }
    }

    /// After the journal was read: ids of a block that may have been given out are not given out again, and a start that
    /// lies in the future, after the clock was set back, does not lengthen a time-out.
    pub fn restored(&mut self, now_ms: i64) {
        self.next_producer_id = self.producer_ids_until;
        for transaction in self.by_id.values_mut() {
            transaction.start_ms = transaction.start_ms.min(now_ms);
            transaction.updated_ms = transaction.updated_ms.min(now_ms);
        }
    }

    /// Ids up to `last` are in some log, though the journal may have lost that they were given out.
    pub fn skip_ids_to(&mut self, last: i64) {
        self.next_producer_id = self.next_producer_id.max(last + 1);
    }

    pub fn snapshot(&self) -> impl Iterator<Item = Event> + '_ {
        let ids = Event::ProducerIds { until: self.producer_ids_until };
        std::iter::once(ids).chain(self.by_id.values().cloned().map(Event::Transaction))
    }

    pub fn get(&self, id: &str) -> Option<&Transaction> {
        self.by_id.get(id)
    }

    pub fn all(&self) -> impl Iterator<Item = &Transaction> {
        self.by_id.values()
    }

    /// The ids that are decided but not completed.
    pub fn decided(&self) -> Vec<String> {
        self.by_id.values().filter(|t| t.state.decided().is_some()).map(|t| t.id.clone()).collect()
    }

    /// When `expire` has something to do.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        let first = self.by_id.values().filter_map(Transaction::deadline_ms).min();
        first.map(|deadline_ms| deadline_ms.max(self.retry_ms))
    }

    /// Aborts transactions whose time is over, with a higher epoch that fences their producers; their ids.
    pub fn expire(&mut self, turn: &mut Turn<'_>) -> Vec<String> {
        let is_over =
            |t: &&Transaction| t.deadline_ms().is_some_and(|deadline_ms| deadline_ms <= turn.now_ms);
        let over: Vec<String> = self.by_id.values().filter(is_over).map(|t| t.id.clone()).collect();
        let mut aborted = Vec::new();
        for id in over {
            match self.fence(turn, &id) {
                Ok(()) => aborted.push(id),
                Err(_) => self.retry_ms = turn.now_ms + RETRY_MS,
            }
        }
        aborted
    }

    /// Forgets ids that nobody uses any more.
    pub fn forget_idle(&mut self, turn: &mut Turn<'_>) -> Result<(), ResponseError> {
        let idle: Vec<String> =
            self.by_id.values().filter(|t| t.is_idle(turn.now_ms)).map(|t| t.id.clone()).collect();
        idle.into_iter().try_for_each(|id| self.record(turn, Event::TransactionExpired { id }))
    }

    fn record(&mut self, turn: &mut Turn<'_>, event: Event) -> Result<(), ResponseError> {
        turn.store.store(&event)?;
        self.apply(&event);
        Ok(())
    }
}
