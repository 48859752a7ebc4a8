//! Record batches as a fetch brings them, read so that those of two brokers can be compared.

use bytes::{Buf as _, Bytes};
use std::{collections::BTreeMap, fmt::Write as _};

const HEADER: usize = 61;

/// The last offset of the whole batches, -1 without any.
pub fn last_offset(mut bytes: Bytes) -> i64 {
    let mut last = -1;
    while let Some(mut batch) = whole_batch(&mut bytes) {
        let base = batch.get_i64();
        batch.advance(15); // to the offset delta
        last = base + i64::from(batch.get_i32());
    }
    last
}

/// Each whole batch in words; a last one that is cut off does not count: Kafka cuts where the limit is.
pub fn describe(mut bytes: Bytes, words: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    while let Some(batch) = whole_batch(&mut bytes) {
        let mut fields = batch.clone();
        let base = fields.get_i64();
        fields.advance(4); // length
        fields.advance(4); // the leader's epoch is the broker's own
        let (magic, _checksum, attributes) = (fields.get_i8(), fields.get_u32(), fields.get_i16());
        let (delta, first, last) = (fields.get_i32(), fields.get_i64(), fields.get_i64());
        let (id, epoch, sequence) = (fields.get_i64(), fields.get_i16(), fields.get_i32());
        let count = fields.get_i32();
        let producer = format!("producer_id: {id},");
        let producer = words.get(&producer).unwrap_or(&producer);
        // Times of markers, and those of LogAppendTime, are the broker's.
        let by_broker = attributes & 0x28 != 0;
        let times = if by_broker { String::new() } else { format!("{first}..{last}") };
        let valid = crc32c::crc32c(&batch[21..]) == batch.slice(17..21).get_u32();
        let written = write!(
            text,
            "[{base}+{delta} v{magic} {attributes:#x} {times} {producer} {epoch} {sequence} n{count} {valid} {:08x}]",
            crc32c::crc32c(&fields)
        );
        written.expect("a string takes it");
    }
    text
}

fn whole_batch(bytes: &mut Bytes) -> Option<Bytes> {
    let length = bytes.get(8..12)?.try_into().ok().map(i32::from_be_bytes)?;
    let length = usize::try_from(length).ok()? + 12;
    (length >= HEADER && length <= bytes.len()).then(|| bytes.split_to(length))
}
