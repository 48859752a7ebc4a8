//! Producer ids and epochs: InitProducerId and what fences a producer.

use super::{
    PRODUCER_ID_BLOCK, Producer, State, TIMEOUT_MS_MAX, TRANSACTIONAL_IDS_MAX, Transaction, Transactions,
};
use crate::coordinator::event::{Event, Turn};
use kafka_protocol::ResponseError;

/// What became of InitProducerId.
#[derive(Debug, PartialEq, Eq)]
pub enum Initialized {
    Ready(Producer),
    /// An open transaction is aborted first; the client asks again until its markers are written.
    Fenced,
}

impl Transactions {
    /// A producer id that nobody had before.
    pub fn allocate(&mut self, turn: &mut Turn<'_>) -> Result<i64, ResponseError> {
        if self.next_producer_id >= self.producer_ids_until {
            let until = self.next_producer_id.saturating_add(PRODUCER_ID_BLOCK);
            self.record(turn, Event::ProducerIds { until })?;
        }
        self.next_producer_id += 1;
        Ok(self.next_producer_id - 1)
    }

    /// `owner` is who the client says it is (KIP-360), None at its first start.
    pub fn initialize(
        &mut self,
        turn: &mut Turn<'_>,
        id: &str,
        timeout_ms: i32,
        owner: Option<Producer>,
    ) -> Result<Initialized, ResponseError> {
        if id.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        if !(1..=TIMEOUT_MS_MAX).contains(&timeout_ms) {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        let Some(known) = self.by_id.get(id).cloned() else {
            return self.first(turn, id, timeout_ms).map(Initialized::Ready);
        };
        if owner.is_some_and(|owner| !known.is_owned_by(owner)) {
            return Err(ResponseError::ProducerFenced);
        }
        match known.state {
            State::PrepareCommit | State::PrepareAbort => Err(ResponseError::ConcurrentTransactions),
            State::Ongoing => self.fence(turn, id).map(|()| Initialized::Fenced),
            State::Empty | State::CompleteCommit | State::CompleteAbort => {
                let ready = self.bumped(turn, &known, owner)?;
                let ready = Transaction { timeout_ms, updated_ms: turn.now_ms, ..ready };
                let producer = Producer { id: ready.producer_id, epoch: ready.epoch };
                self.record(turn, Event::Transaction(ready))?;
                Ok(Initialized::Ready(producer))
            }
        }
    }

    fn first(&mut self, turn: &mut Turn<'_>, id: &str, timeout_ms: i32) -> Result<Producer, ResponseError> {
        if self.by_id.len() >= TRANSACTIONAL_IDS_MAX {
            self.forget_idle(turn)?;
        }
        if self.by_id.len() >= TRANSACTIONAL_IDS_MAX {
            tracing::warn!(id, TRANSACTIONAL_IDS_MAX, "refused a transactional id: there are too many");
            return Err(ResponseError::PolicyViolation);
        }
        let producer = Producer { id: self.allocate(turn)?, epoch: 0 };
        let transaction = Transaction {
            id: id.to_owned(),
            producer_id: producer.id,
            previous_producer_id: -1,
            epoch: producer.epoch,
            last_epoch: -1,
            timeout_ms,
            state: State::Empty,
            partitions: Default::default(),
            groups: Default::default(),
            start_ms: -1,
            updated_ms: turn.now_ms,
        };
        self.record(turn, Event::Transaction(transaction))?;
        Ok(producer)
    }

    /// At rest with the next epoch, or with a new producer id where epochs are used up.
    fn bumped(
        &mut self,
        turn: &mut Turn<'_>,
        known: &Transaction,
        owner: Option<Producer>,
    ) -> Result<Transaction, ResponseError> {
        let rest = Transaction {
            state: State::Empty,
            partitions: Default::default(),
            groups: Default::default(),
            start_ms: -1,
            previous_producer_id: known.producer_id,
            ..known.clone()
        };
        if is_exhausted(known.epoch) && owner.is_none_or(|owner| owner.epoch == known.epoch) {
            let last_epoch = if owner.is_some() { known.epoch } else { -1 };
            return Ok(Transaction { producer_id: self.allocate(turn)?, epoch: 0, last_epoch, ..rest });
        }
        match owner {
            None => Ok(Transaction { epoch: known.epoch + 1, last_epoch: -1, ..rest }),
            Some(owner) if owner.epoch == known.epoch => {
                Ok(Transaction { epoch: known.epoch + 1, last_epoch: known.epoch, ..rest })
            }
            // Its last answer was lost: the same again.
            Some(owner) if owner.epoch == known.last_epoch => {
                Ok(Transaction { previous_producer_id: known.previous_producer_id, ..rest })
            }
            Some(_) => Err(ResponseError::ProducerFenced),
        }
    }

    /// After a power loss a log has a transaction of this producer that the journal does not know: whoever is in it is
    /// fenced, else it would go on, or commit, without those records. The epoch for the markers.
    pub fn disown(&mut self, turn: &mut Turn<'_>, stray: Producer) -> Result<i16, ResponseError> {
        let Some(known) = self.by_id.values().find(|known| known.producer_id == stray.id) else {
            return Ok(stray.epoch);
        };
        let epoch = known.epoch.max(stray.epoch);
        let state = match known.state {
            State::PrepareCommit | State::PrepareAbort => return Ok(epoch),
            State::Ongoing => State::PrepareAbort,
            State::Empty | State::CompleteCommit | State::CompleteAbort => known.state,
        };
        let epoch = epoch.saturating_add(1);
        let fenced = Transaction { epoch, last_epoch: -1, state, updated_ms: turn.now_ms, ..known.clone() };
        self.record(turn, Event::Transaction(fenced))?;
        Ok(epoch)
    }

    /// Decides to abort an open transaction with a higher epoch. Its producer, when it asks as the one that it was, goes on
    /// with that epoch (as in Kafka from transaction.version 2 on): librdkafka does so after its own time-outs.
    pub(super) fn fence(&mut self, turn: &mut Turn<'_>, id: &str) -> Result<(), ResponseError> {
        let open = self.by_id.get(id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        let aborted = Transaction {
            epoch: open.epoch.saturating_add(1),
            last_epoch: open.epoch,
            state: State::PrepareAbort,
            updated_ms: turn.now_ms,
            ..open.clone()
        };
        self.record(turn, Event::Transaction(aborted))
    }
}

impl Transaction {
    fn is_owned_by(&self, owner: Producer) -> bool {
        let before = owner.id == self.previous_producer_id && is_exhausted(owner.epoch);
        owner.id == self.producer_id || before
    }
}

/// The last epoch is kept for fencing.
fn is_exhausted(epoch: i16) -> bool {
    epoch >= i16::MAX - 1
}
