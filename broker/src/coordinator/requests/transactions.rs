//! InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn, ListTransactions, DescribeTransactions.

mod showing;

use super::code;
use crate::{
    coordinator::{
        Coordinator,
        event::{Partition, Turn},
        journal::Written,
        state::State,
        transaction::{Ended, Initialized, Producer},
    },
    log::Outcome,
};
use kafka_protocol::{
    ResponseError,
    messages::{
        AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest,
        AddPartitionsToTxnResponse, EndTxnRequest, EndTxnResponse, InitProducerIdRequest,
        InitProducerIdResponse,
        add_partitions_to_txn_request::AddPartitionsToTxnTopic,
        add_partitions_to_txn_response::{AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult},
    },
};

impl Coordinator {
    pub async fn init_producer_id(
        &self,
        version: i16,
        request: InitProducerIdRequest,
    ) -> InitProducerIdResponse {
        let initialized = self.initialize(&request).await.map_err(|error| named_for(version, 4, error));
        match initialized {
            Ok(producer) => InitProducerIdResponse::default()
                .with_producer_id(producer.id.into())
                .with_producer_epoch(producer.epoch),
            Err(error) => InitProducerIdResponse::default()
                .with_error_code(error.code())
                .with_producer_id((-1).into())
                .with_producer_epoch(-1),
        }
    }

    async fn initialize(&self, request: &InitProducerIdRequest) -> Result<Producer, ResponseError> {
        let owner = owner(request)?;
        let (initialized, _) = self.decide(|state, now_ms| {
            let turn = &mut Turn { store: &mut state.ledger, now_ms };
            let Some(id) = request.transactional_id.as_deref() else {
                let id = state.transactions.allocate(turn)?;
                return Ok(Initialized::Ready(Producer { id, epoch: 0 }));
            };
            let initialized =
                state.transactions.initialize(turn, id, request.transaction_timeout_ms, owner)?;
            if initialized == Initialized::Fenced {
                state.finishing.insert(id.to_string());
            }
            Ok(initialized)
        })?;
        // Never only promised: an id that a power loss takes back would be given to another producer as well.
        let decided = self.shared.state().ledger.journal.forced();
        match (initialized, &request.transactional_id) {
            (Initialized::Ready(producer), _) => decided.wait().await.map(|()| producer),
            (Initialized::Fenced, Some(id)) => {
                drop(self.spawn_finishing(vec![id.to_string()], decided));
                Err(ResponseError::ConcurrentTransactions)
            }
            (Initialized::Fenced, None) => Err(ResponseError::InvalidRequest),
        }
    }

    pub async fn add_partitions_to_txn(
        &self,
        version: i16,
        request: AddPartitionsToTxnRequest,
    ) -> AddPartitionsToTxnResponse {
        let topics = &request.v3_and_below_topics;
        let unknown = |topic: &str, partition: i32| !self.shared.exists(topic, partition);
        let has_unknown = topics
            .iter()
            .any(|topic| topic.partitions.iter().any(|partition| unknown(&topic.name, *partition)));
        let added = if has_unknown { Ok(()) } else { self.add_partitions(&request).await };
        let added = added.map_err(|error| named_for(version, 2, error));
        // All or nothing, as in Kafka.
        let result = |topic: &str, partition: i32| match has_unknown {
            true if unknown(topic, partition) => Err(ResponseError::UnknownTopicOrPartition),
            true => Err(ResponseError::OperationNotAttempted),
            false => added,
        };
        let of_topic = |topic: &AddPartitionsToTxnTopic| {
            let of_partition = |partition: &i32| {
                AddPartitionsToTxnPartitionResult::default()
                    .with_partition_index(*partition)
                    .with_partition_error_code(code(&result(&topic.name, *partition)))
            };
            let results = topic.partitions.iter().map(of_partition).collect();
            AddPartitionsToTxnTopicResult::default()
                .with_name(topic.name.clone())
                .with_results_by_partition(results)
        };
        let results = topics.iter().map(of_topic).collect();
        AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results)
    }

    async fn add_partitions(&self, request: &AddPartitionsToTxnRequest) -> Result<(), ResponseError> {
        let topics = request.v3_and_below_topics.iter();
        let partitions: Vec<Partition> = topics
            .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.name.to_string(), *partition)))
            .collect();
        let id = request.v3_and_below_transactional_id.as_str();
        let producer =
            Producer { id: request.v3_and_below_producer_id.0, epoch: request.v3_and_below_producer_epoch };
        let (settled, written) = self.decide(|state, now_ms| {
            let settled = state.settled(id);
            let turn = &mut Turn { store: &mut state.ledger, now_ms };
            state.transactions.add_partitions(turn, id, producer, &partitions).map(|()| settled)
        })?;
        settled.wait().await?;
        written.wait().await
    }

    pub async fn add_offsets_to_txn(
        &self,
        version: i16,
        request: AddOffsetsToTxnRequest,
    ) -> AddOffsetsToTxnResponse {
        let added = self.add_group(&request).await.map_err(|error| named_for(version, 2, error));
        AddOffsetsToTxnResponse::default().with_error_code(code(&added))
    }

    async fn add_group(&self, request: &AddOffsetsToTxnRequest) -> Result<(), ResponseError> {
        let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        let id = request.transactional_id.as_str();
        let (settled, written) = self.decide(|state, now_ms| {
            let settled = state.settled(id);
            let turn = &mut Turn { store: &mut state.ledger, now_ms };
            state.transactions.add_group(turn, id, producer, &request.group_id).map(|()| settled)
        })?;
        settled.wait().await?;
        written.wait().await
    }

    pub async fn end_txn(&self, version: i16, request: EndTxnRequest) -> EndTxnResponse {
        let ended = self.end(&request).await.map_err(|error| named_for(version, 2, error));
        EndTxnResponse::default().with_error_code(code(&ended))
    }

    /// The decision is in the journal, then markers are in all partitions, then the client hears of it.
    async fn end(&self, request: &EndTxnRequest) -> Result<(), ResponseError> {
        let id = request.transactional_id.as_str();
        let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        let outcome = if request.committed { Outcome::Commit } else { Outcome::Abort };
        let (ended, written) = self.decide(|state, now_ms| {
            let turn = &mut Turn { store: &mut state.ledger, now_ms };
            let ended = state.transactions.end(turn, id, producer, outcome)?;
            if ended == Ended::Decided {
                state.finishing.insert(id.to_owned());
            }
            Ok(ended)
        })?;
        if ended == Ended::Already {
            return written.wait().await;
        }
        let decided = self.shared.state().ledger.journal.forced();
        let finished = self.spawn_finishing(vec![id.to_owned()], decided);
        // Decided, but not everywhere yet: the client asks again, and waits for its end.
        let finished = finished.await.unwrap_or(Err(ResponseError::CoordinatorNotAvailable));
        finished.map_err(|_| ResponseError::CoordinatorNotAvailable)
    }

    fn decide<T>(
        &self,
        step: impl FnOnce(&mut State, i64) -> Result<T, ResponseError>,
    ) -> Result<(T, Written), ResponseError> {
        let now_ms = self.shared.now_ms();
        let mut state = self.shared.state();
        let decided = step(&mut state, now_ms)?;
        let deadline_ms = state.transactions.next_deadline_ms();
        self.shared.arm(&state, deadline_ms);
        Ok((decided, state.ledger.written()))
    }
}

/// Who the client says it is: both fields or none (KIP-360).
fn owner(request: &InitProducerIdRequest) -> Result<Option<Producer>, ResponseError> {
    match (request.producer_id.0, request.producer_epoch) {
        (-1, -1) => Ok(None),
        (-1, _) | (_, -1) => Err(ResponseError::InvalidRequest),
        (id, epoch) => Ok(Some(Producer { id, epoch })),
    }
}

/// Versions before `since` do not know ProducerFenced.
fn named_for(version: i16, since: i16, error: ResponseError) -> ResponseError {
    match error {
        ResponseError::ProducerFenced if version < since => ResponseError::InvalidProducerEpoch,
        other => other,
    }
}
