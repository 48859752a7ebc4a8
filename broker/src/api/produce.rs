//! Produce: appends batches in the order of the requests, and answers when they are as durable as is promised.

use super::call::Call;
use crate::{
    clock,
    log::{Appended, Durable},
    net::{Answering, Close, Pending},
};
use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        ProduceRequest, ProduceResponse,
        produce_request::PartitionProduceData,
        produce_response::{PartitionProduceResponse, TopicProduceResponse},
    },
    protocol::StrBytes,
};

/// Where a batch's header keeps its attributes, its producer's id and epoch.
const ATTRIBUTES: usize = 21;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const TRANSACTIONAL: u16 = 0x10;
const CODEC: u16 = 0x07;
const ZSTD: u16 = 4;
/// Those that ask in older versions can't know zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;

/// An answer's partition, and what it waits for.
struct Appending {
    answer: PartitionProduceResponse,
    durable: Option<Durable>,
}

/// Appends at once, so that the batches of a connection stay in order; only the disk is waited for afterwards.
pub fn begin(call: &Call) -> Result<Pending, Close> {
    let request: ProduceRequest = call.decode()?;
    let (acks, head) = (request.acks, call.head());
    let topics: Vec<_> = append_all(call, request);
    let answering: Answering = Box::pin(async move {
        let topics = acknowledge(topics).await;
        if acks == 0 {
            return nothing(&topics);
        }
        head.answer(&ProduceResponse::default().with_responses(topics)).map(Some)
    });
    Ok(Pending { answering, overlaps: true })
}

type Topic = (kafka_protocol::messages::TopicName, Vec<Appending>);

/// What holds for all batches of a request.
struct Terms<'a> {
    call: &'a Call,
    transactional_id: Option<&'a str>,
    acks: i16,
}

fn append_all(call: &Call, request: ProduceRequest) -> Vec<Topic> {
    let transactional_id = request.transactional_id.as_ref().map(|id| id.as_str());
    let terms = Terms { call, transactional_id, acks: request.acks };
    let topics = request.topic_data.into_iter().map(|topic| {
        let appended = topic.partition_data.into_iter().map(|data| append(&terms, &topic.name, data));
        (topic.name.clone(), appended.collect())
    });
    topics.collect()
}

fn append(terms: &Terms<'_>, topic: &str, data: PartitionProduceData) -> Appending {
    let index = data.index;
    match append_checked(terms, topic, data) {
        Ok(appended) => {
            let answer = PartitionProduceResponse::default()
                .with_index(index)
                .with_base_offset(appended.base_offset)
                .with_log_append_time_ms(appended.log_append_time.unwrap_or(-1))
                .with_log_start_offset(appended.log_start);
            Appending { answer, durable: Some(appended.durable) }
        }
        Err((error, message)) => refuse(index, error, message),
    }
}

type Refusal = (ResponseError, Option<String>);

fn append_checked(terms: &Terms<'_>, topic: &str, data: PartitionProduceData) -> Result<Appended, Refusal> {
    let call = terms.call;
    let log = call.api.partition(topic, data.index).map_err(|error| (error, None))?;
    let batch = data.records.unwrap_or_default();
    terms.check(&batch).map_err(|error| (error, None))?;
    let Some((producer_id, epoch)) = transaction_of(&batch) else {
        return log.append(batch, clock::now_ms()).map_err(|refused| (refused.error, Some(refused.message)));
    };
    let id = terms.transactional_id.ok_or((ResponseError::TransactionalIdAuthorizationFailed, None))?;
    let verified = call.api.coordinator.verify_transactional(id, producer_id, epoch, topic, data.index);
    let verified = verified.map_err(|error| (for_version(error, call.version), None))?;
    let appended = log.append(batch, clock::now_ms());
    drop(verified); // only now: no marker may overtake a batch that was let through
    appended.map_err(|refused| (refused.error, Some(refused.message)))
}

impl Terms<'_> {
    fn check(&self, batch: &Bytes) -> Result<(), ResponseError> {
        let zstd = attributes(batch).is_some_and(|attributes| attributes & CODEC == ZSTD);
        if zstd && self.call.version < ZSTD_SINCE {
            return Err(ResponseError::UnsupportedCompressionType);
        }
        (-1..=1).contains(&self.acks).then_some(()).ok_or(ResponseError::InvalidRequiredAcks)
    }
}

/// Newer producers are told to abort where older ones take it for fatal, as in Kafka.
fn for_version(error: ResponseError, version: i16) -> ResponseError {
    match error {
        ResponseError::InvalidTxnState if version >= 11 => ResponseError::TransactionAbortable,
        error => error,
    }
}

/// The producer's id and epoch of a batch that belongs to a transaction.
fn transaction_of(batch: &Bytes) -> Option<(i64, i16)> {
    let attributes = attributes(batch)?;
    let id = i64::from_be_bytes(*batch.get(PRODUCER_ID..)?.first_chunk()?);
    let epoch = i16::from_be_bytes(*batch.get(PRODUCER_EPOCH..)?.first_chunk()?);
    (attributes & TRANSACTIONAL != 0).then_some((id, epoch))
}

fn attributes(batch: &Bytes) -> Option<u16> {
    Some(u16::from_be_bytes(*batch.get(ATTRIBUTES..)?.first_chunk()?))
}

fn refuse(index: i32, error: ResponseError, message: Option<String>) -> Appending {
    let answer = refusal(PartitionProduceResponse::default().with_index(index), error, message);
    Appending { answer, durable: None }
}

fn refusal(
    answer: PartitionProduceResponse,
    error: ResponseError,
    message: Option<String>,
) -> PartitionProduceResponse {
    let message = message.map(StrBytes::from_string);
    let answer = answer.with_error_code(error.code()).with_error_message(message);
    answer.with_base_offset(-1).with_log_append_time_ms(-1).with_log_start_offset(-1)
}

async fn acknowledge(topics: Vec<Topic>) -> Vec<TopicProduceResponse> {
    let mut answers = Vec::with_capacity(topics.len());
    for (name, appended) in topics {
        let mut partitions = Vec::with_capacity(appended.len());
        for appending in appended {
            partitions.push(settle(appending).await);
        }
        answers.push(TopicProduceResponse::default().with_name(name).with_partition_responses(partitions));
    }
    answers
}

async fn settle(appending: Appending) -> PartitionProduceResponse {
    let Some(durable) = appending.durable else { return appending.answer };
    match durable.wait().await {
        Ok(()) => appending.answer,
        Err(refused) => refusal(appending.answer, refused.error, Some(refused.message)),
    }
}

/// A producer that asked for no answer learns of an error by its closed connection, as in Kafka.
fn nothing(topics: &[TopicProduceResponse]) -> Result<Option<crate::net::Answer>, Close> {
    let failed = topics.iter().flat_map(|topic| &topic.partition_responses).find(|one| one.error_code != 0);
    match failed {
        None => Ok(None),
        Some(one) => {
            Err(Close(format!("a produce request without acks failed with error {}", one.error_code)))
        }
    }
}
