//! What a produced batch must be beyond its header: whole records, keys where the topic is compacted, timestamps in range.

use crate::log::{
    LogConfig, Refused,
    batch::{self, HEADER, Header, records},
};
use kafka_protocol::ResponseError;

/// Checks the records, and gives the header as it is stored but for its offset. The greatest timestamp is our own, as
/// retention and searches by time go by it.
pub fn prepare(
    batch: &[u8],
    header: &Header,
    config: &LogConfig,
    now_ms: i64,
) -> Result<[u8; HEADER], Refused> {
    if header.size > config.segment_bytes as usize {
        let message = format!("a batch of {} bytes; segment.bytes is {}", header.size, config.segment_bytes);
        return Err(Refused::new(ResponseError::RecordListTooLarge, message));
    }
    let max_timestamp = check_records(batch, header, config, now_ms)?;
    let mut bytes = batch::assigned(batch, 0);
    if config.log_append_time {
        batch::set_timestamp(&mut bytes, &batch[HEADER..], now_ms, true);
    } else if max_timestamp != header.max_timestamp {
        batch::set_timestamp(&mut bytes, &batch[HEADER..], max_timestamp, false);
    }
    Ok(bytes)
}

/// The greatest timestamp of the records.
fn check_records(batch: &[u8], header: &Header, config: &LogConfig, now_ms: i64) -> Result<i64, Refused> {
    let (mut index, mut max_timestamp) = (0, -1);
    let mut wrong: Option<(ResponseError, String)> = None;
    let walked = records::walk(batch, header, |record| {
        if record.offset_delta != index {
            wrong = Some((
                ResponseError::InvalidRecord,
                format!("record {index} has offset delta {}", record.offset_delta),
            ));
        } else if config.compact && record.key.is_none() {
            wrong = Some((
                ResponseError::InvalidRecord,
                format!("record {index} has no key; the topic is compacted"),
            ));
        } else if !config.log_append_time && !in_range(record.timestamp, config, now_ms) {
            let message = format!("the timestamp {} of record {index} is out of range", record.timestamp);
            wrong = Some((ResponseError::InvalidTimestamp, message));
        }
        index += 1;
        max_timestamp = max_timestamp.max(record.timestamp);
        wrong.is_none()
    });
    if let Some((error, message)) = wrong {
        return Err(Refused::new(error, message));
    }
    walked.map_err(|malformed| Refused::new(ResponseError::InvalidRecord, malformed.to_string()))?;
    Ok(max_timestamp)
}

/// -1 is no timestamp.
fn in_range(timestamp: i64, config: &LogConfig, now_ms: i64) -> bool {
    let (ahead, behind) = (timestamp.saturating_sub(now_ms), now_ms.saturating_sub(timestamp));
    timestamp == -1 || (ahead <= config.timestamp_after_max_ms && behind <= config.timestamp_before_max_ms)
}
