//! Tests of a whole log, through what others may call.

use super::*;
use crate::Fsync;
use batch::{CONTROL, HEADER, Header, TRANSACTIONAL, records};

pub const NOW_MS: i64 = 1_760_000_000_000;

pub type KeyValue = (Option<Vec<u8>>, Option<Vec<u8>>);

/// A batch as a producer sends it.
#[derive(Clone, Debug)]
pub struct Made {
    pub producer: (i64, i16, i32),
    pub attributes: i16,
    pub timestamp: i64,
    pub records: Vec<KeyValue>,
}

impl Default for Made {
    fn default() -> Self {
        Self {
            producer: (-1, -1, -1),
            attributes: 0,
            timestamp: NOW_MS,
            records: vec![(None, Some(b"v".to_vec()))],
        }
    }
}

impl Made {
    pub fn values(count: usize) -> Self {
        let record = |i: usize| (None, Some(format!("value {i}").into_bytes()));
        Self { records: (0..count).map(record).collect(), ..Self::default() }
    }

    pub fn of(self, id: i64, epoch: i16, sequence: i32) -> Self {
        Self { producer: (id, epoch, sequence), ..self }
    }

    pub fn in_transaction(self) -> Self {
        Self { attributes: self.attributes | TRANSACTIONAL, ..self }
    }

    pub fn bytes(&self) -> Bytes {
        let mut plain = Vec::new();
        for (delta, (key, value)) in self.records.iter().enumerate() {
            let (key, value) = (key.as_deref(), value.as_deref());
            let timestamp = self.timestamp + delta as i64;
            let record = records::Record {
                attributes: 0,
                offset_delta: delta as i32,
                timestamp,
                key,
                value,
                headers: &[0],
            };
            records::put(&mut plain, &record, self.timestamp);
        }
        let count = self.records.len() as i32;
        let body = batch::compression::compress(self.attributes & 7, &plain).unwrap();
        let header = Header {
            base_offset: 0,
            size: HEADER + body.len(),
            leader_epoch: -1,
            crc: 0,
            attributes: self.attributes,
            last_offset_delta: count - 1,
            base_timestamp: self.timestamp,
            max_timestamp: self.timestamp + i64::from(count) - 1,
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            base_sequence: self.producer.2,
            count,
        };
        [&header.encode(&body)[..], &body].concat().into()
    }
}

pub fn syncer(fsync: Fsync) -> Arc<Syncer> {
    Syncer::start(fsync).unwrap()
}

pub fn open(folder: &Path, config: &LogConfig) -> PartitionLog {
    PartitionLog::open(folder.to_owned(), config.clone(), syncer(Fsync::Os), NOW_MS).unwrap()
}

/// (offset, key, value) of all records that a consumer sees.
pub type Seen = Vec<(i64, Option<Vec<u8>>, Option<Vec<u8>>)>;

pub fn read_all(log: &PartitionLog, isolation: Isolation, max_bytes: usize) -> Seen {
    let bounds = log.bounds();
    let (mut from, mut seen) = (bounds.log_start, Vec::new());
    loop {
        let chunk = log.read(from, max_bytes, true, isolation).unwrap();
        if chunk.records.is_empty() {
            return seen;
        }
        from = consume(&chunk, from, isolation, &mut seen);
    }
}

/// What a client does with an answer; the next offset.
fn consume(chunk: &Chunk, from: i64, isolation: Isolation, seen: &mut Seen) -> i64 {
    let (mut rest, mut next, mut aborted) = (&chunk.records[..], from, chunk.aborted.clone());
    let mut dropped = std::collections::HashSet::new();
    while !rest.is_empty() {
        let header = batch::check(rest).unwrap();
        while let Some((id, first)) =
            aborted.first().copied().filter(|(_, first)| *first <= header.last_offset())
        {
            assert!(first <= header.last_offset());
            dropped.insert(id);
            aborted.remove(0);
        }
        let control = header.is(CONTROL);
        if control && recovery::outcome_in(&header, rest) == Some(Outcome::Abort) {
            dropped.remove(&header.producer_id);
        }
        let hidden = isolation == Isolation::ReadCommitted
            && header.is(TRANSACTIONAL)
            && dropped.contains(&header.producer_id);
        records::walk(&rest[..header.size], &header, |record| {
            let offset = header.base_offset + i64::from(record.offset_delta);
            if offset >= from && !control && !hidden {
                seen.push((offset, record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec)));
            }
            true
        })
        .unwrap();
        next = header.next_offset();
        rest = &rest[header.size..];
    }
    next
}

mod basics;
mod compaction;
mod faults;
mod recovery_model;
mod transactions;
