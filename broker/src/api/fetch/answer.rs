//! The answer to Fetch, in pieces: records go out as they were read, without being copied into a frame.
//!
//! The layout is Kafka's FetchResponse, versions 4 to 16, with no tagged field of its own.

use super::{Read, wanted::Topic, wanted::Wanted};
use crate::api::call::{Head, close};
use crate::{
    log::{Chunk, Isolation},
    net::{Answer, Close},
};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{ResponseError, messages::FetchResponse};

/// Records shorter than this are copied: a piece of their own would cost more.
const COPIED_MAX: usize = 4 << 10;
const FLEXIBLE: i16 = 12;
const TOPIC_IDS: i16 = 13;

/// An error of the whole request; before version 7 there is no place for one, but no sessions either.
pub fn refuse(head: Head, error: ResponseError) -> Result<Answer, Close> {
    head.answer(&FetchResponse::default().with_error_code(error.code()))
}

pub fn write(head: Head, topics: &[Topic], reads: &[Read], isolation: Isolation) -> Result<Answer, Close> {
    let mut pieces = Pieces { head: head.open(256)?, done: Vec::new(), version: head.version };
    pieces.head.put_i32(0); // throttle time
    if head.version >= 7 {
        pieces.head.put_i16(0); // error
        pieces.head.put_i32(0); // session: none
    }
    pieces.count(topics.len());
    let mut reads = reads.iter();
    for topic in topics {
        pieces.topic(topic);
        for (wanted, read) in topic.partitions.iter().zip(reads.by_ref()) {
            pieces.partition(wanted, read, isolation);
        }
        pieces.tags();
    }
    pieces.tags();
    pieces.finish()
}

struct Pieces {
    head: BytesMut,
    done: Vec<Bytes>,
    version: i16,
}

impl Pieces {
    fn topic(&mut self, topic: &Topic) {
        if self.version >= TOPIC_IDS {
            self.head.put_slice(topic.id.as_bytes());
        } else if self.version >= FLEXIBLE {
            self.varint(topic.name.len() + 1);
            self.head.put_slice(topic.name.as_bytes());
        } else {
            self.head.put_i16(i16::try_from(topic.name.len()).expect("it came with a length of 16 bits"));
            self.head.put_slice(topic.name.as_bytes());
        }
        self.count(topic.partitions.len());
    }

    fn partition(&mut self, wanted: &Wanted, read: &Read, isolation: Isolation) {
        self.head.put_i32(wanted.index);
        match read {
            Ok(chunk) => self.chunk(chunk, isolation),
            Err(error) => self.error(*error),
        }
        self.tags();
    }

    fn chunk(&mut self, chunk: &Chunk, isolation: Isolation) {
        self.head.put_i16(0);
        self.head.put_i64(chunk.bounds.high_watermark);
        self.head.put_i64(chunk.bounds.last_stable);
        if self.version >= 5 {
            self.head.put_i64(chunk.bounds.log_start);
        }
        match isolation {
            Isolation::ReadUncommitted => self.null(),
            Isolation::ReadCommitted => self.aborted(&chunk.aborted),
        }
        self.preferred_replica();
        self.records(&chunk.records);
    }

    fn error(&mut self, error: ResponseError) {
        self.head.put_i16(error.code());
        self.head.put_i64(-1); // high watermark
        self.head.put_i64(-1); // last stable offset
        if self.version >= 5 {
            self.head.put_i64(-1); // start of the log
        }
        self.null();
        self.preferred_replica();
        self.records(&Bytes::new());
    }

    fn aborted(&mut self, aborted: &[(i64, i64)]) {
        self.count(aborted.len());
        for (producer_id, first_offset) in aborted {
            self.head.put_i64(*producer_id);
            self.head.put_i64(*first_offset);
            self.tags();
        }
    }

    fn preferred_replica(&mut self) {
        if self.version >= 11 {
            self.head.put_i32(-1);
        }
    }

    fn records(&mut self, records: &Bytes) {
        self.count(records.len());
        if records.len() <= COPIED_MAX {
            self.head.put_slice(records);
        } else {
            self.done.push(self.head.split().freeze());
            self.done.push(records.clone());
        }
    }

    /// The count of an array, or the length of bytes.
    fn count(&mut self, count: usize) {
        if self.version >= FLEXIBLE {
            self.varint(count + 1);
        } else {
            self.head.put_i32(i32::try_from(count).expect("requests and answers are below 2 GiB"));
        }
    }

    fn null(&mut self) {
        if self.version >= FLEXIBLE { self.head.put_u8(0) } else { self.head.put_i32(-1) }
    }

    fn tags(&mut self) {
        if self.version >= FLEXIBLE {
            self.head.put_u8(0);
        }
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.head.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.head.put_u8(value as u8);
    }

    fn finish(mut self) -> Result<Answer, Close> {
        if self.done.is_empty() {
            close(&mut self.head, 0)?;
            return Ok(self.head.freeze().into());
        }
        if !self.head.is_empty() {
            self.done.push(self.head.split().freeze());
        }
        let more = self.done[1..].iter().map(Bytes::len).sum();
        let mut first = BytesMut::from(self.done[0].as_ref());
        close(&mut first, more)?;
        self.done[0] = first.freeze();
        Ok(Answer { pieces: self.done, held: None })
    }
}
