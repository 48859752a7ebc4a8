//! What happens within a transaction, and its end.

use super::{PARTITIONS_MAX, Producer, State, Transaction, Transactions};
use crate::{
    coordinator::event::{Event, Partition, Turn},
    log::Outcome,
};
use kafka_protocol::ResponseError;

/// What became of EndTxn.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It has ended so before.
    Already,
    /// Markers are to be written.
    Decided,
}

impl Transactions {
    pub fn add_partitions(
        &mut self,
        turn: &mut Turn<'_>,
        id: &str,
        producer: Producer,
        partitions: &[Partition],
    ) -> Result<(), ResponseError> {
        let known = self.open_for(id, producer)?;
        let is_part = |partition| known.partitions.contains(partition);
        if known.state == State::Ongoing && partitions.iter().all(is_part) {
            return Ok(());
        }
        let mut ongoing = known.ongoing(turn.now_ms);
        ongoing.partitions.extend(partitions.iter().cloned());
        if ongoing.partitions.len() > PARTITIONS_MAX {
            tracing::warn!(id, PARTITIONS_MAX, "refused partitions for a transaction: they are too many");
            return Err(ResponseError::PolicyViolation);
        }
        self.record(turn, Event::Transaction(ongoing))
    }

    pub fn add_group(
        &mut self,
        turn: &mut Turn<'_>,
        id: &str,
        producer: Producer,
        group: &str,
    ) -> Result<(), ResponseError> {
        let known = self.open_for(id, producer)?;
        if known.state == State::Ongoing && known.groups.contains(group) {
            return Ok(());
        }
        let mut ongoing = known.ongoing(turn.now_ms);
        ongoing.groups.insert(group.to_owned());
        self.record(turn, Event::Transaction(ongoing))
    }

    /// Whether this transaction may hold offsets of this group.
    pub fn check_group(&self, id: &str, producer: Producer, group: &str) -> Result<(), ResponseError> {
        let known = self.verified(id, producer)?;
        if known.state.decided().is_some() {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        let is_part = known.state == State::Ongoing && known.groups.contains(group);
        is_part.then_some(()).ok_or(ResponseError::InvalidTxnState)
    }

    /// Whether a batch of this producer may be appended to this partition.
    pub fn check_partition(
        &self,
        id: &str,
        producer: Producer,
        topic: &str,
        partition: i32,
    ) -> Result<(), ResponseError> {
        let known = self.verified(id, producer)?;
        if known.state.decided().is_some() {
            return Err(ResponseError::NotEnoughReplicas); // as Kafka: the producer tries again
        }
        let is_part =
            known.state == State::Ongoing && known.partitions.contains(&(topic.to_owned(), partition));
        is_part.then_some(()).ok_or(ResponseError::InvalidTxnState)
    }

    /// Decides: after this the outcome never changes.
    pub fn end(
        &mut self,
        turn: &mut Turn<'_>,
        id: &str,
        producer: Producer,
        outcome: Outcome,
    ) -> Result<Ended, ResponseError> {
        let known = self.owned(id, producer)?;
        let state = match (known.state, outcome) {
            (State::Ongoing, Outcome::Commit) => State::PrepareCommit,
            (State::Ongoing, Outcome::Abort) => State::PrepareAbort,
            (State::CompleteCommit, Outcome::Commit) | (State::CompleteAbort, Outcome::Abort) => {
                return Ok(Ended::Already);
            }
            (State::PrepareCommit, Outcome::Commit) | (State::PrepareAbort, Outcome::Abort) => {
                return Err(ResponseError::ConcurrentTransactions);
            }
            _ => return Err(ResponseError::InvalidTxnState),
        };
        let decided = Transaction { state, updated_ms: turn.now_ms, ..known.clone() };
        self.record(turn, Event::Transaction(decided))?;
        Ok(Ended::Decided)
    }

    /// All markers are written.
    pub fn completed(&mut self, turn: &mut Turn<'_>, id: &str) -> Result<(), ResponseError> {
        let Some(known) = self.by_id.get(id) else { return Ok(()) };
        let state = match known.state.decided() {
            Some(Outcome::Commit) => State::CompleteCommit,
            Some(Outcome::Abort) => State::CompleteAbort,
            None => return Ok(()),
        };
        let (partitions, groups) = Default::default();
        let completed = Transaction { state, partitions, groups, updated_ms: turn.now_ms, ..known.clone() };
        self.record(turn, Event::Transaction(completed))
    }

    fn owned(&self, id: &str, producer: Producer) -> Result<&Transaction, ResponseError> {
        if id.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        let known = self.by_id.get(id).filter(|known| known.producer_id == producer.id);
        let known = known.ok_or(ResponseError::InvalidProducerIdMapping)?;
        let is_current = known.epoch == producer.epoch;
        is_current.then_some(known).ok_or(ResponseError::ProducerFenced)
    }

    fn open_for(&self, id: &str, producer: Producer) -> Result<&Transaction, ResponseError> {
        let known = self.owned(id, producer)?;
        let is_open = known.state.decided().is_none();
        is_open.then_some(known).ok_or(ResponseError::ConcurrentTransactions)
    }

    /// As Kafka checks where an append or an offset names a transaction: a fenced producer hears of its epoch.
    fn verified(&self, id: &str, producer: Producer) -> Result<&Transaction, ResponseError> {
        self.owned(id, producer).map_err(|error| match error {
            ResponseError::ProducerFenced => ResponseError::InvalidProducerEpoch,
            other => other,
        })
    }
}

impl Transaction {
    fn ongoing(&self, now_ms: i64) -> Self {
        let start_ms = if self.state == State::Ongoing { self.start_ms } else { now_ms };
        Self { state: State::Ongoing, start_ms, updated_ms: now_ms, ..self.clone() }
    }
}
