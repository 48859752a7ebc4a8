//! ListOffsets and OffsetForLeaderEpoch: which offset belongs to a time, an end, or an epoch.

use super::{Api, LEADER_EPOCH, call::Call, check_epoch};
use crate::log::{Bounds, Refused};
use kafka_protocol::{
    ResponseError,
    messages::{
        ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
        list_offsets_request::ListOffsetsPartition,
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
        offset_for_leader_epoch_request::OffsetForLeaderPartition,
        offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
    },
};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// The earliest that is on this machine, which has all.
const EARLIEST_LOCAL: i64 = -4;
const READ_COMMITTED: i8 = 1;
/// Since this version answers name the epoch.
const WITH_EPOCH: i16 = 4;

pub async fn list(call: Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let committed = request.isolation_level == READ_COMMITTED;
    let epoch = if call.version >= WITH_EPOCH { LEADER_EPOCH } else { -1 };
    for topic in &request.topics {
        for partition in &topic.partitions {
            call.api.settled(&topic.name, partition.partition_index).await;
        }
    }
    let topics = request.topics.into_iter().map(|topic| {
        let answers = topic.partitions.iter().map(|asked| {
            let found = find(&call.api, &topic.name, asked, committed);
            answer(asked.partition_index, epoch, found)
        });
        let answers = answers.collect();
        ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(answers)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

type Found = Result<Option<(i64, i64)>, ResponseError>;

fn answer(index: i32, epoch: i32, found: Found) -> ListOffsetsPartitionResponse {
    let answer = ListOffsetsPartitionResponse::default().with_partition_index(index);
    match found {
        Ok(Some((offset, timestamp))) => {
            answer.with_offset(offset).with_timestamp(timestamp).with_leader_epoch(epoch)
        }
        Ok(None) => answer.with_offset(-1).with_timestamp(-1),
        Err(error) => answer.with_error_code(error.code()).with_offset(-1).with_timestamp(-1),
    }
}

/// The offset and its timestamp; None: no record is that late.
fn find(api: &Api, topic: &str, asked: &ListOffsetsPartition, committed: bool) -> Found {
    let log = api.partition(topic, asked.partition_index)?;
    check_epoch(asked.current_leader_epoch)?;
    let Bounds { log_start, last_stable, high_watermark, .. } = log.bounds();
    let end = if committed { last_stable } else { high_watermark };
    let error = |refused: Refused| refused.error;
    let found = match asked.timestamp {
        LATEST => return Ok(Some((end, -1))),
        EARLIEST | EARLIEST_LOCAL => return Ok(Some((log_start, -1))),
        MAX_TIMESTAMP => super::on_disk(|| log.latest_timestamp()).map_err(error)?,
        time if time >= 0 => super::on_disk(|| log.offset_for(time)).map_err(error)?,
        _ => return Err(ResponseError::UnsupportedVersion),
    };
    Ok(found.filter(|(offset, _)| *offset < end))
}

pub async fn for_leader_epoch(
    call: Call,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let answers = topic.partitions.iter().map(|asked| epoch_end(&call.api, &topic.topic, asked));
        let answers = answers.collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(answers)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

/// The one epoch ends at the end of the log; others have never been.
fn epoch_end(api: &Api, topic: &str, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let answer = EpochEndOffset::default().with_partition(asked.partition);
    let log = api.partition(topic, asked.partition);
    match log.and_then(|log| check_epoch(asked.current_leader_epoch).map(|()| log)) {
        Err(error) => answer.with_error_code(error.code()),
        Ok(log) if asked.leader_epoch == LEADER_EPOCH => {
            answer.with_leader_epoch(LEADER_EPOCH).with_end_offset(log.bounds().log_end)
        }
        Ok(_) => answer,
    }
}
