//! How a producer's last transaction ended, by what the log has of it.
//!
//! Where Kafka has left a part of one open ([`super::left_open`]), that must end as the rest has, and no client of librdkafka
//! can ask how that was. So each transaction has a name: the first record that it writes to a partition carries it, and so do
//! the offsets that it commits. Who reads only what is committed finds it or does not, which tells how it ended. Where nothing
//! tells, nobody has seen any of it, and it is given up: what was killed may not have written all of it.

use super::{StageError, left_open::Open, past::Past, positions::Positions};
use chrono::Utc;
use millrace_log::NextOffset;
use millrace_schemas::key::TRANSACTION;
use rdkafka::{
    Message,
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
};
use std::{
    ops::ControlFlow,
    thread,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// No transaction takes so long, and no two clocks of a cluster differ so much.
const SPAN_MS: i64 = 60_000;
/// How far back the last one is looked for, step by step; whoever was away for longer has lost its name, too.
const BACK: [Duration; 4] = [
    Duration::from_secs(60),
    Duration::from_secs(600),
    Duration::from_secs(3_600),
    Duration::from_secs(7 * 24 * 3_600),
];
/// For so long it is waited until others have closed what hides the end of this one, and looked so often.
const HIDDEN_MAX: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Base64 has none.
const BEFORE_NUMBER: char = '|';

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Committed,
    Aborted,
}

/// What one partition tells of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trace {
    Ended(Outcome),
    /// It lies behind another one that is open.
    Hidden,
    /// It is open there, or retention has removed it, or it was never there.
    None,
}

/// How what may be open must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub records: Outcome,
    pub offsets: Outcome,
}

impl Ended {
    pub(super) fn both(outcome: Outcome) -> Self {
        Self { records: outcome, offsets: outcome }
    }
}

/// What a transaction is called; of one producer's the later one is the larger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    number: Uuid,
    producer: String,
}

impl Name {
    /// Of the next one.
    pub(super) fn new(producer: String) -> Self {
        Self { number: Uuid::now_v7(), producer }
    }

    /// For the first record in a partition.
    pub(super) fn add_to(&self, headers: Option<OwnedHeaders>) -> OwnedHeaders {
        let value = format!("{} {}", self.number, self.producer);
        headers.unwrap_or_default().insert(Header { key: TRANSACTION, value: Some(&value) })
    }

    /// For the metadata of an offset.
    pub(super) fn sign(&self, metadata: &str) -> String {
        format!("{metadata}{BEFORE_NUMBER}{}", self.number)
    }

    pub(super) fn number(&self) -> Uuid {
        self.number
    }

    /// What a record carries.
    pub(super) fn of(message: &BorrowedMessage<'_>) -> Option<Self> {
        let headers = message.headers()?;
        let value = headers.iter().find(|header| header.key == TRANSACTION)?.value?;
        let (number, producer) = std::str::from_utf8(value).ok()?.split_once(' ')?;
        Some(Self { number: number.parse().ok()?, producer: producer.to_owned() })
    }
}

/// The metadata that were signed, and the number; none where an older build committed them.
pub(super) fn signed(metadata: &str) -> (&str, Option<Uuid>) {
    let parts = metadata.split_once(BEFORE_NUMBER);
    parts.map_or((metadata, None), |(payload, number)| (payload, number.parse().ok()))
}

/// A producer that begins, and what it writes: the ledger's topic comes last.
pub(super) struct Producer<'a> {
    pub id: String,
    pub writes: &'a [String; 3],
    pub positions: &'a Positions,
}

/// A transaction, and when the log had a record of it.
type Found = (Name, i64);

impl Producer<'_> {
    /// How the last transaction ended of those who had this id before. `open`: where some of it may be open.
    pub(super) fn last_ended(&self, past: &mut Past, open: &Open) -> Result<Ended, StageError> {
        let last = match self.last_of(past, open)? {
            None => self.last_told(past)?,
            found => found,
        };
        let Some(last) = last else { return Ok(Ended::both(Outcome::Aborted)) };
        if self.positions.has(last.0.number())? {
            // Offsets that are open are those of a later one, which was given up before it had a record.
            return Ok(Ended { records: Outcome::Committed, offsets: Outcome::Aborted });
        }
        let deadline = Instant::now() + HIDDEN_MAX;
        loop {
            match self.trace(past, &last)? {
                Trace::Ended(outcome) => return Ok(Ended::both(outcome)),
                Trace::Hidden if Instant::now() < deadline => thread::sleep(LOOK_AGAIN),
                Trace::Hidden | Trace::None => return Ok(Ended::both(Outcome::Aborted)),
            }
        }
    }

    /// What the partitions tell together.
    fn trace(&self, past: &mut Past, last: &Found) -> Result<Trace, StageError> {
        let mut seen = Trace::None;
        for topic in self.writes {
            for (partition, at) in first_records(past, topic, last)? {
                match past.trace(topic, partition, at)? {
                    Trace::Ended(outcome) => return Ok(Trace::Ended(outcome)),
                    Trace::Hidden => seen = Trace::Hidden,
                    Trace::None => {}
                }
            }
        }
        Ok(seen)
    }

    /// By what is open.
    fn last_of(&self, past: &mut Past, open: &Open) -> Result<Option<Found>, StageError> {
        let mut last = None;
        for ((topic, partition), at) in open {
            past.walk_all(topic, *partition, *at, |record| self.take(record, &mut last))?;
        }
        Ok(last)
    }

    /// By the ledger: each that is whole has told it something.
    fn last_told(&self, past: &mut Past) -> Result<Option<Found>, StageError> {
        let [.., ledger] = self.writes;
        let mut last = None;
        for back in BACK {
            let from = past.any_since(ledger, (Utc::now() - back).timestamp_millis())?;
            for (partition, from) in from {
                past.walk_all(ledger, partition, from, |record| self.take(record, &mut last))?;
            }
            if last.is_some() {
                break;
            }
        }
        Ok(last)
    }

    fn take(&self, record: &BorrowedMessage<'_>, last: &mut Option<Found>) -> ControlFlow<()> {
        let name = Name::of(record).filter(|name| name.producer == self.id);
        let newer = name.filter(|name| last.as_ref().is_none_or(|(last, _)| name > last));
        if let Some(name) = newer {
            *last = Some((name, time_of(record)));
        }
        ControlFlow::Continue(())
    }
}

/// Where the first record of it is in each partition that has any.
fn first_records(
    past: &mut Past,
    topic: &str,
    (name, time): &Found,
) -> Result<Vec<(i32, NextOffset)>, StageError> {
    let mut found = Vec::new();
    for (partition, from) in past.any_since(topic, time - SPAN_MS)? {
        past.walk_all(topic, partition, from, |record| {
            let is_it = Name::of(record).as_ref() == Some(name);
            found.extend(is_it.then(|| (partition, NextOffset::exclusive(record.offset()))));
            let is_over = is_it || time_of(record) > time + SPAN_MS;
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
    }
    Ok(found)
}

fn time_of(record: &BorrowedMessage<'_>) -> i64 {
    record.timestamp().to_millis().unwrap_or(0)
}

#[cfg(test)]
mod tests;
