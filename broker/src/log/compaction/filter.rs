//! What becomes of one batch: kept, dropped, or rewritten with fewer records.

use super::{keys::Keys, transactions::Transactions};
use crate::log::{
    batch::{CONTROL, DELETE_HORIZON, HEADER, Header, LOG_APPEND_TIME, compression, records},
    scan::Found,
};
use std::collections::HashMap;

pub struct Filter<'a> {
    pub keys: Keys,
    /// See `Producers::last_words`.
    pub last_words: &'a HashMap<i64, (Option<i64>, i16)>,
    pub transactions: Transactions,
    pub now_ms: i64,
    pub delete_retention_ms: i64,
}

pub enum Verdict {
    Keep,
    Drop,
    Rewrite(Header, Vec<u8>),
}

/// Records that stay.
#[derive(Default)]
struct Kept {
    /// As they lie in the new batch.
    bytes: Vec<u8>,
    count: i32,
    max_timestamp: i64,
    dropped: bool,
    tombstones: bool,
}

impl Filter<'_> {
    pub fn judge(&mut self, found: &Found<'_>) -> Verdict {
        let header = &found.header;
        let control = header.is(CONTROL);
        let needless = match control {
            true => self.transactions.on_control(header, found.bytes),
            false => self.transactions.on_data(header),
        };
        let expired = header.delete_horizon_ms().is_some_and(|horizon| horizon <= self.now_ms);
        // Markers stay as long as tombstones, for those who read slowly.
        let discard = needless && (!control || expired);
        if discard {
            return self.emptied(header);
        }
        let sets_horizon =
            |kept: &Kept| header.delete_horizon_ms().is_none() && (kept.tombstones || (control && needless));
        let Some(kept) = self.kept(found, header.base_timestamp) else { return Verdict::Keep };
        if kept.count == 0 {
            return self.emptied(header);
        }
        let (mut new, mut kept) = (*header, kept);
        if sets_horizon(&kept) {
            // The base timestamp is the horizon then: the records' own are relative to it.
            new.base_timestamp = self.now_ms.saturating_add(self.delete_retention_ms);
            new.attributes |= DELETE_HORIZON;
            match self.kept(found, new.base_timestamp) {
                Some(again) => kept = again,
                None => return Verdict::Keep,
            }
        } else if !kept.dropped {
            return Verdict::Keep;
        }
        rewritten(new, &kept)
    }

    /// Nothing of a batch stays but its header, where it holds a producer's last sequence.
    fn emptied(&self, header: &Header) -> Verdict {
        let last_word = match self.last_words.get(&header.producer_id) {
            _ if !header.has_producer() => false,
            Some((Some(offset), _)) => header.last_offset() == *offset,
            Some((None, epoch)) => header.is(CONTROL) && header.producer_epoch == *epoch,
            None => false,
        };
        if !last_word {
            return Verdict::Drop;
        }
        let attributes = header.attributes & !0x07;
        let header = Header { attributes, count: 0, size: HEADER, ..*header };
        Verdict::Rewrite(header, header.encode(&[]).to_vec())
    }

    /// None where the records can't be read: then they stay.
    fn kept(&self, found: &Found<'_>, base_timestamp: i64) -> Option<Kept> {
        let mut kept = Kept { max_timestamp: -1, ..Kept::default() };
        let walked = records::walk(found.bytes, &found.header, |record| {
            if self.stays(&found.header, &record) {
                kept.count += 1;
                kept.tombstones |= record.value.is_none();
                kept.max_timestamp = kept.max_timestamp.max(record.timestamp);
                records::put(&mut kept.bytes, &record, base_timestamp);
            } else {
                kept.dropped = true;
            }
            true
        });
        walked.ok().map(|()| kept)
    }

    fn stays(&self, header: &Header, record: &records::Record<'_>) -> bool {
        let offset = header.base_offset + i64::from(record.offset_delta);
        if header.is(CONTROL) || offset > self.keys.latest {
            return true;
        }
        let expired = || header.delete_horizon_ms().is_some_and(|horizon| horizon <= self.now_ms);
        // Without a key, from before the topic was compacted, nothing can be said of it: Kafka drops it.
        record.key.is_some_and(|key| !self.keys.is_replaced(key, offset))
            && (record.value.is_some() || !expired())
    }
}

fn rewritten(header: Header, kept: &Kept) -> Verdict {
    let Ok(body) = compression::compress(header.codec(), &kept.bytes) else { return Verdict::Keep };
    let of_broker = header.is(LOG_APPEND_TIME);
    let max_timestamp = if of_broker { header.max_timestamp } else { kept.max_timestamp };
    let header = Header { count: kept.count, size: HEADER + body.len(), max_timestamp, ..header };
    let bytes = [&header.encode(&body)[..], &body].concat();
    match Header::parse(&bytes) {
        Ok(header) => Verdict::Rewrite(header, bytes),
        Err(_) => Verdict::Keep,
    }
}
