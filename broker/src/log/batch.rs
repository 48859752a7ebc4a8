//! The header of Kafka's v2 record batch: parsed, checked, patched, and control batches made.
//!
//! Pure functions over bytes; nothing here knows of files, offsets' order or producers' states.

use super::{Outcome, Refused};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;

pub mod compression;
pub mod records;

/// Bytes before the records of a batch.
pub const HEADER: usize = 61;
/// Base offset and length: what the length field does not count.
pub const PREFIX: usize = 12;
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;

const COMPRESSION: i16 = 0x07;
pub const LOG_APPEND_TIME: i16 = 0x08;
pub const TRANSACTIONAL: i16 = 0x10;
pub const CONTROL: i16 = 0x20;
pub const DELETE_HORIZON: i16 = 0x40;

/// The header of one batch, in the order of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub base_offset: i64,
    /// Of the whole batch in bytes, prefix included.
    pub size: usize,
    pub leader_epoch: i32,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
}

/// Why bytes are no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it is cut short")]
    Short,
    #[error("its length field says {0}")]
    Length(i32),
    #[error("its magic is {0}, not 2")]
    Magic(i8),
    #[error("its checksum is wrong")]
    Crc,
    #[error("its offsets are out of order")]
    Offsets,
}

impl Header {
    /// Reads the header at the front of `bytes`; the rest of the batch need not be there.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut at = bytes.get(..HEADER).ok_or(Malformed::Short)?;
        let base_offset = at.get_i64();
        let length = at.get_i32();
        let leader_epoch = at.get_i32();
        let magic = at.get_i8();
        if magic != 2 {
            return Err(Malformed::Magic(magic));
        }
        let size = usize::try_from(length).ok().map(|length| length + PREFIX);
        let size = size.filter(|size| *size >= HEADER).ok_or(Malformed::Length(length))?;
        Ok(Self {
            base_offset,
            size,
            leader_epoch,
            crc: at.get_u32(),
            attributes: at.get_i16(),
            last_offset_delta: at.get_i32(),
            base_timestamp: at.get_i64(),
            max_timestamp: at.get_i64(),
            producer_id: at.get_i64(),
            producer_epoch: at.get_i16(),
            base_sequence: at.get_i32(),
            count: at.get_i32(),
        })
    }

    /// Writes the header; the checksum is that of `records` and of this.
    pub fn encode(&self, records: &[u8]) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut at = &mut bytes[..];
        at.put_i64(self.base_offset);
        at.put_i32(length_field(self.size));
        at.put_i32(self.leader_epoch);
        at.put_i8(2);
        at.put_u32(0);
        at.put_i16(self.attributes);
        at.put_i32(self.last_offset_delta);
        at.put_i64(self.base_timestamp);
        at.put_i64(self.max_timestamp);
        at.put_i64(self.producer_id);
        at.put_i16(self.producer_epoch);
        at.put_i32(self.base_sequence);
        at.put_i32(self.count);
        seal(&mut bytes, records);
        bytes
    }

    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// The sequence of the last record; it wraps to 0 after `i32::MAX`.
    pub fn last_sequence(&self) -> i32 {
        sequence_after(self.base_sequence, self.last_offset_delta)
    }

    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    pub fn is(&self, attribute: i16) -> bool {
        self.attributes & attribute != 0
    }

    pub fn codec(&self) -> i16 {
        self.attributes & COMPRESSION
    }

    /// When tombstones and markers in this batch may go, once compaction has set it.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        self.is(DELETE_HORIZON).then_some(self.base_timestamp)
    }
}

fn length_field(size: usize) -> i32 {
    i32::try_from(size.saturating_sub(PREFIX)).unwrap_or(i32::MAX)
}

pub fn sequence_after(sequence: i32, by: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(by);
    let wrapped = if sum > i64::from(i32::MAX) { sum - i64::from(i32::MAX) - 1 } else { sum };
    i32::try_from(wrapped).unwrap_or(-1)
}

/// Whether the checksum of a whole batch is right.
pub fn crc_is_right(batch: &[u8], header: &Header) -> bool {
    batch.get(CRC_FROM..header.size).is_some_and(|covered| crc32c::crc32c(covered) == header.crc)
}

/// Parses and checks the batch at the front of `bytes`, wholly there.
pub fn check(bytes: &[u8]) -> Result<Header, Malformed> {
    let header = Header::parse(bytes)?;
    if bytes.len() < header.size {
        return Err(Malformed::Short);
    }
    if header.last_offset_delta < 0 || header.base_offset < 0 {
        return Err(Malformed::Offsets);
    }
    if crc_is_right(bytes, &header) { Ok(header) } else { Err(Malformed::Crc) }
}

/// Puts the checksum of header and `records` into the header.
fn seal(header: &mut [u8; HEADER], records: &[u8]) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[CRC_FROM..]), records);
    header[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
}

/// The header of `batch` with the offset it gets; leader epoch 0. Both are outside the checksum.
pub fn assigned(batch: &[u8], base_offset: i64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header.copy_from_slice(&batch[..HEADER]);
    header[..8].copy_from_slice(&base_offset.to_be_bytes());
    header[12..16].fill(0);
    header
}

/// Sets the greatest timestamp, and that it is the broker's own, under a new checksum.
pub fn set_timestamp(header: &mut [u8; HEADER], records: &[u8], max_timestamp: i64, of_broker: bool) {
    let flag = if of_broker { 0x08 } else { 0 };
    header[22] = (header[22] & !0x08) | flag;
    header[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&max_timestamp.to_be_bytes());
    seal(header, records);
}

/// Checks what a producer sent as far as the header tells: exactly one batch, well formed, not a control batch.
pub fn check_produced(batch: &[u8], max_bytes: u32) -> Result<Header, Refused> {
    let header = Header::parse(batch).map_err(|malformed| refusal(batch, malformed))?;
    if header.base_offset != 0 {
        return invalid(format!("the base offset of a produced batch is 0, not {}", header.base_offset));
    }
    if header.size > max_bytes as usize {
        let message = format!("a batch of {} bytes; max.message.bytes is {max_bytes}", header.size);
        return Err(Refused::new(ResponseError::MessageTooLarge, message));
    }
    if batch.len() < header.size {
        return Err(refusal(batch, Malformed::Short));
    }
    if !crc_is_right(batch, &header) {
        return Err(refusal(batch, Malformed::Crc));
    }
    if batch.len() > header.size {
        return invalid("there is more than one batch for this partition".to_owned());
    }
    if header.count <= 0 || i64::from(header.last_offset_delta) + 1 != i64::from(header.count) {
        return invalid(format!(
            "{} records with last offset delta {}",
            header.count, header.last_offset_delta
        ));
    }
    if header.is(CONTROL) {
        return invalid("producers must not write control records".to_owned());
    }
    if header.is(LOG_APPEND_TIME) {
        let message = "producers must not set the timestamp type to LogAppendTime".to_owned();
        return Err(Refused::new(ResponseError::InvalidTimestamp, message));
    }
    if header.has_producer() && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return invalid(format!("producer {} without epoch or sequence", header.producer_id));
    }
    if header.is(TRANSACTIONAL) && !header.has_producer() {
        return invalid("a transactional batch without a producer id".to_owned());
    }
    Ok(header)
}

fn invalid<T>(message: String) -> Result<T, Refused> {
    Err(Refused::new(ResponseError::InvalidRecord, message))
}

fn refusal(batch: &[u8], malformed: Malformed) -> Refused {
    let error = match malformed {
        Malformed::Magic(_) | Malformed::Short => ResponseError::InvalidRecord,
        _ => ResponseError::CorruptMessage,
    };
    Refused::new(error, format!("a batch in {} bytes is refused: {malformed}", batch.len()))
}

/// The batch that ends a transaction, as Kafka writes it.
pub fn marker(producer_id: i64, epoch: i16, outcome: Outcome, now_ms: i64) -> Bytes {
    let kind: u8 = if outcome == Outcome::Commit { 1 } else { 0 };
    // length 16 | attributes 0 | timestamp delta 0 | offset delta 0
    // | key of 4: version 0, kind | value of 6: version 0, coordinator epoch 0 | no headers; lengths are zigzag
    let records = [32, 0, 0, 0, 8, 0, 0, 0, kind, 12, 0, 0, 0, 0, 0, 0, 0];
    let header = Header {
        base_offset: 0,
        size: HEADER + records.len(),
        leader_epoch: 0,
        crc: 0,
        attributes: TRANSACTIONAL | CONTROL,
        last_offset_delta: 0,
        base_timestamp: now_ms,
        max_timestamp: now_ms,
        producer_id,
        producer_epoch: epoch,
        base_sequence: -1,
        count: 1,
    };
    let mut batch = BytesMut::with_capacity(header.size);
    batch.put_slice(&header.encode(&records));
    batch.put_slice(&records);
    batch.freeze()
}

/// What a control record's key says; None where it ends no transaction.
pub fn outcome_of(key: &[u8]) -> Option<Outcome> {
    match key {
        [_, _, 0, 0, ..] => Some(Outcome::Abort),
        [_, _, 0, 1, ..] => Some(Outcome::Commit),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
