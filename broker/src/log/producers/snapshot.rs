//! The producers' states as bytes and back; the reader trusts no count.

use super::{Batch, Producer, Producers};
use bytes::{Buf, BufMut};
use std::collections::VecDeque;

/// The fixed part of one producer, and one batch, in bytes.
const PRODUCER: usize = 8 + 2 + 8 + 8 + 8 + 1;
const BATCH: usize = 4 + 4 + 8 + 8 + 8;

pub fn encode(producers: &Producers, to: &mut Vec<u8>) {
    to.put_u32(u32::try_from(producers.known.len()).unwrap_or(u32::MAX));
    for (id, producer) in &producers.known {
        to.put_i64(*id);
        to.put_i16(producer.epoch);
        to.put_i64(producer.last_timestamp);
        to.put_i64(producer.seen_ms);
        to.put_i64(producer.transaction_start.unwrap_or(-1));
        to.put_u8(producer.batches.len() as u8);
        for batch in &producer.batches {
            to.put_i32(batch.first_sequence);
            to.put_i32(batch.last_sequence);
            to.put_i64(batch.base_offset);
            to.put_i64(batch.last_offset);
            to.put_i64(batch.timestamp);
        }
    }
}

/// None where the bytes are no snapshot.
pub fn decode(mut from: &[u8]) -> Option<Producers> {
    let mut producers = Producers::default();
    let count = from.try_get_u32().ok()?;
    for _ in 0..count {
        if from.len() < PRODUCER {
            return None;
        }
        let id = from.get_i64();
        let producer = Producer {
            epoch: from.get_i16(),
            last_timestamp: from.get_i64(),
            seen_ms: from.get_i64(),
            transaction_start: Some(from.get_i64()).filter(|offset| *offset >= 0),
            batches: decode_batches(&mut from)?,
        };
        if let Some(offset) = producer.transaction_start {
            producers.open.insert(offset, id);
        }
        producers.known.insert(id, producer);
    }
    from.is_empty().then_some(producers)
}

fn decode_batches(from: &mut &[u8]) -> Option<VecDeque<Batch>> {
    let count = usize::from(from.get_u8());
    if count > super::BATCHES || from.len() < count * BATCH {
        return None;
    }
    let one = |from: &mut &[u8]| Batch {
        first_sequence: from.get_i32(),
        last_sequence: from.get_i32(),
        base_offset: from.get_i64(),
        last_offset: from.get_i64(),
        timestamp: from.get_i64(),
    };
    Some((0..count).map(|_| one(from)).collect())
}
