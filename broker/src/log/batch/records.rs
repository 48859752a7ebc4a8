//! The records in a batch: walked one by one over varints, decompressed as they come.
//!
//! It trusts no count and no length: memory follows what is there, and a bomb is refused.

use super::{HEADER, Header, LOG_APPEND_TIME, compression};
use std::io::{self, Read};

/// The most bytes a batch may decompress to, unless it is itself larger than a quarter of that.
const UNCOMPRESSED_MAX: u64 = 64 << 20;

/// One record; key and value as they lie in the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub attributes: i8,
    pub offset_delta: i32,
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// The headers with their count, as they lie in the batch.
    pub headers: &'a [u8],
}

#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error("record {0} is broken")]
    Record(i32),
    #[error("there are more bytes than the {0} records")]
    Trailing(i32),
    #[error("the records can't be decompressed")]
    Compression(#[source] io::Error),
}

/// Calls `each` for the records of a whole batch, until it returns false.
pub fn walk(
    batch: &[u8],
    header: &Header,
    mut each: impl FnMut(Record<'_>) -> bool,
) -> Result<(), Malformed> {
    let records = batch.get(HEADER..header.size).ok_or(Malformed::Record(0))?;
    match header.codec() {
        compression::NONE => walk_plain(records, header, &mut each),
        codec => {
            let limit = UNCOMPRESSED_MAX.max(4 * records.len() as u64);
            let reader = compression::reader(codec, records, limit).map_err(Malformed::Compression)?;
            walk_stream(io::BufReader::with_capacity(16 << 10, reader), header, &mut each)
        }
    }
}

fn walk_plain(
    mut at: &[u8],
    header: &Header,
    each: &mut impl FnMut(Record<'_>) -> bool,
) -> Result<(), Malformed> {
    for index in 0..header.count {
        let body =
            varint(&mut at).and_then(|length| split(&mut at, length)).ok_or(Malformed::Record(index))?;
        if !each(parse(body, header).ok_or(Malformed::Record(index))?) {
            return Ok(());
        }
    }
    if at.is_empty() { Ok(()) } else { Err(Malformed::Trailing(header.count)) }
}

fn walk_stream(
    mut from: impl io::BufRead,
    header: &Header,
    each: &mut impl FnMut(Record<'_>) -> bool,
) -> Result<(), Malformed> {
    let mut body = Vec::new();
    for index in 0..header.count {
        let length = read_varint(&mut from).map_err(Malformed::Compression)?;
        let length = u64::try_from(length).map_err(|_| Malformed::Record(index))?;
        body.clear();
        let read = from.by_ref().take(length).read_to_end(&mut body).map_err(Malformed::Compression)?;
        if read as u64 != length {
            return Err(Malformed::Record(index));
        }
        if !each(parse(&body, header).ok_or(Malformed::Record(index))?) {
            return Ok(());
        }
    }
    let rest = from.fill_buf().map_err(Malformed::Compression)?;
    if rest.is_empty() { Ok(()) } else { Err(Malformed::Trailing(header.count)) }
}

fn parse<'a>(mut at: &'a [u8], header: &Header) -> Option<Record<'a>> {
    let attributes = split(&mut at, 1)?[0].cast_signed();
    let timestamp_delta = varint(&mut at)?;
    let offset_delta = i32::try_from(varint(&mut at)?).ok()?;
    let key = nullable(&mut at)?;
    let value = nullable(&mut at)?;
    let headers = at;
    let count = varint(&mut at).filter(|count| *count >= 0)?;
    for _ in 0..count {
        let length = varint(&mut at)?;
        split(&mut at, length)?;
        nullable(&mut at)?;
    }
    let of_broker = header.is(LOG_APPEND_TIME);
    let timestamp =
        if of_broker { header.max_timestamp } else { header.base_timestamp.wrapping_add(timestamp_delta) };
    at.is_empty().then_some(Record { attributes, offset_delta, timestamp, key, value, headers })
}

/// A length of -1 (Kafka: any negative one) is null.
fn nullable<'a>(at: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = varint(at)?;
    if length < 0 { Some(None) } else { split(at, length).map(Some) }
}

fn split<'a>(at: &mut &'a [u8], length: i64) -> Option<&'a [u8]> {
    let (front, rest) = at.split_at_checked(usize::try_from(length).ok()?)?;
    *at = rest;
    Some(front)
}

/// A zigzag varint of at most 64 bits.
pub fn varint(at: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = at.split_first()?;
        *at = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(unzigzag(value));
        }
    }
    None
}

fn read_varint(from: &mut impl io::BufRead) -> io::Result<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Ok(unzigzag(value));
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "a varint is too long"))
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

pub fn put_varint(to: &mut Vec<u8>, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while left >= 0x80 {
        to.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    to.push(left as u8);
}

/// Appends the record as it lies in a batch whose base timestamp is `base_timestamp`.
pub fn put(to: &mut Vec<u8>, record: &Record<'_>, base_timestamp: i64) {
    let mut body = vec![record.attributes.cast_unsigned()];
    put_varint(&mut body, record.timestamp.wrapping_sub(base_timestamp));
    put_varint(&mut body, i64::from(record.offset_delta));
    for bytes in [record.key, record.value] {
        put_varint(&mut body, bytes.map_or(-1, |bytes| bytes.len() as i64));
        body.extend_from_slice(bytes.unwrap_or_default());
    }
    body.extend_from_slice(record.headers);
    put_varint(to, body.len() as i64);
    to.extend_from_slice(&body);
}

#[cfg(test)]
mod tests;
