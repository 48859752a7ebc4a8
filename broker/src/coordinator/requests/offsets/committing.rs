//! OffsetCommit and TxnOffsetCommit: what is good of a request is one event.

use super::code;
use crate::coordinator::{
    Coordinator,
    event::{Event, Offset},
    group::Caller,
    journal::Written,
    offsets::{METADATA_BYTES_MAX, PENDING_MAX},
    state::State,
    transaction::Producer,
};
use kafka_protocol::{
    ResponseError,
    messages::{
        OffsetCommitRequest, OffsetCommitResponse, TopicName, TxnOffsetCommitRequest,
        TxnOffsetCommitResponse,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic},
    },
    protocol::StrBytes,
};

/// One partition of a request.
struct Asked {
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: Option<StrBytes>,
}

/// The topics of a request, each partition with its error or none yet.
type Checked = Vec<(TopicName, Vec<(i32, Result<(), ResponseError>)>)>;

impl Coordinator {
    pub async fn offset_commit(&self, _version: i16, request: OffsetCommitRequest) -> OffsetCommitResponse {
        let topics = request.topics.into_iter().map(|topic| {
            let asked = topic.partitions.into_iter().map(|partition| Asked {
                partition: partition.partition_index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata,
            });
            (topic.name, asked.collect())
        });
        let (mut checked, offsets) = self.check_offsets(topics);
        if !offsets.is_empty() {
            let caller = Caller {
                member: &request.member_id,
                instance: request.group_instance_id.as_deref(),
                generation: request.generation_id_or_member_epoch,
            };
            let committed = match self.commit(&request.group_id, caller, offsets) {
                Ok(written) => written.wait().await,
                Err(error) => Err(error),
            };
            settle(&mut checked, committed);
        }
        let topics = checked.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|(partition, result)| {
                let answer = OffsetCommitResponsePartition::default().with_partition_index(partition);
                answer.with_error_code(code(&result))
            });
            OffsetCommitResponseTopic::default().with_name(name).with_partitions(partitions.collect())
        });
        OffsetCommitResponse::default().with_topics(topics.collect())
    }

    pub async fn txn_offset_commit(
        &self,
        _version: i16,
        request: TxnOffsetCommitRequest,
    ) -> TxnOffsetCommitResponse {
        let topics = request.topics.iter().cloned().map(|topic| {
            let asked = topic.partitions.into_iter().map(|partition| Asked {
                partition: partition.partition_index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata,
            });
            (topic.name, asked.collect())
        });
        let (mut checked, offsets) = self.check_offsets(topics);
        if !offsets.is_empty() {
            let held = match self.hold(&request, offsets) {
                Ok(written) => written.wait().await,
                Err(error) => Err(error),
            };
            settle(&mut checked, held);
        }
        let topics = checked.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|(partition, result)| {
                let answer = TxnOffsetCommitResponsePartition::default().with_partition_index(partition);
                answer.with_error_code(code(&result))
            });
            TxnOffsetCommitResponseTopic::default().with_name(name).with_partitions(partitions.collect())
        });
        TxnOffsetCommitResponse::default().with_topics(topics.collect())
    }

    /// What can be said without the group, and the offsets that are good so far.
    fn check_offsets(&self, topics: impl Iterator<Item = (TopicName, Vec<Asked>)>) -> (Checked, Vec<Offset>) {
        let committed_ms = self.shared.now_ms();
        let mut offsets = Vec::new();
        let mut check = |topic: &TopicName, asked: Asked| {
            let metadata = asked.metadata.unwrap_or_default();
            if !self.shared.exists(topic, asked.partition) {
                return (asked.partition, Err(ResponseError::UnknownTopicOrPartition));
            }
            if metadata.len() > METADATA_BYTES_MAX {
                return (asked.partition, Err(ResponseError::OffsetMetadataTooLarge));
            }
            offsets.push(Offset {
                topic: topic.to_string(),
                partition: asked.partition,
                offset: asked.offset,
                leader_epoch: asked.leader_epoch,
                metadata: metadata.to_string(),
                committed_ms,
            });
            (asked.partition, Ok(()))
        };
        let checked = topics.map(|(topic, asked)| {
            let partitions = asked.into_iter().map(|asked| check(&topic, asked)).collect();
            (topic, partitions)
        });
        (checked.collect(), offsets)
    }

    fn commit(&self, id: &str, caller: Caller<'_>, offsets: Vec<Offset>) -> Result<Written, ResponseError> {
        let now_ms = self.shared.now_ms();
        let state = &mut *self.shared.state();
        make_simple_group(state, id, caller, now_ms)?;
        let checked = state.with_group(id, now_ms, |group, _| group.check_commit(caller, now_ms));
        checked.unwrap_or(Err(ResponseError::IllegalGeneration))?;
        state.record(Event::Offsets { group: id.to_owned(), offsets })?;
        self.shared.arm(state, None);
        Ok(state.ledger.written())
    }

    fn hold(&self, request: &TxnOffsetCommitRequest, offsets: Vec<Offset>) -> Result<Written, ResponseError> {
        let id = request.group_id.as_str();
        if id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        let caller = Caller {
            member: &request.member_id,
            instance: request.group_instance_id.as_deref(),
            generation: request.generation_id,
        };
        let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        let now_ms = self.shared.now_ms();
        let state = &mut *self.shared.state();
        state.transactions.check_group(&request.transactional_id, producer, id)?;
        make_simple_group(state, id, caller, now_ms)?;
        let checked = state.with_group(id, now_ms, |group, _| group.check_transactional_commit(caller));
        checked.unwrap_or(Err(ResponseError::IllegalGeneration))?;
        if state.ledger.offsets.pending_len() + offsets.len() > PENDING_MAX {
            tracing::warn!(group = id, PENDING_MAX, "refused offsets of a transaction: too many wait");
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        state.record(Event::PendingOffsets { producer_id: producer.id, group: id.to_owned(), offsets })?;
        self.shared.arm(state, None);
        Ok(state.ledger.written())
    }
}

/// A consumer that assigns partitions itself makes its group with its first commit.
fn make_simple_group(
    state: &mut State,
    id: &str,
    caller: Caller<'_>,
    now_ms: i64,
) -> Result<(), ResponseError> {
    if caller.generation < 0 { state.make_group(id, now_ms) } else { Ok(()) }
}

/// What the coordinator said of all that was good so far.
fn settle(checked: &mut Checked, said: Result<(), ResponseError>) {
    for (_, result) in checked.iter_mut().flat_map(|(_, partitions)| partitions) {
        if result.is_ok() {
            *result = said;
        }
    }
}
