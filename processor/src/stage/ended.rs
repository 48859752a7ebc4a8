//! How the last transaction ended of those who had a producer's id before, by what the log has of it.
//!
//! Kafka may have left parts of it open ([`super::left_open`]). They must end as the rest has, and no client of librdkafka can
//! ask how that was. So each transaction has a name: the first record that it writes to a partition carries it, each of its
//! entries in the ledger, and, as a number, the offsets that it commits. Who reads only what is committed finds a record or
//! does not: that tells. Where nothing tells, nobody has read any of it, and it is given up, to be done again.
//!
//! Offsets that are not told as yet are judged by the ledger: it has an entry of what lies behind the committed one if the
//! transaction that would move it came so far. Without one it was given up before, or would not have moved it.

use super::{
    StageError,
    entries::told_in,
    left_open::Open,
    past::{Past, Patience},
    positions::{Committed, Positions, SOON},
    settled::text,
};
use chrono::{TimeDelta, Utc};
use millrace_log::{LogSettings, NextOffset, is_closing};
use millrace_schemas::{key::TRANSACTION, ledger::Entry};
use rdkafka::{
    Message,
    message::{BorrowedMessage, Header, OwnedHeaders},
};
use std::{collections::BTreeMap, ops::ControlFlow, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Longer than any transaction; and the clocks of two brokers may differ.
const SPAN: TimeDelta = TimeDelta::minutes(10);
/// How far back the ledger is read for a partition that an older build has committed.
const UNSIGNED: TimeDelta = TimeDelta::days(1);
/// Base64 has none.
const BEFORE_NUMBER: char = '|';

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Committed,
    Aborted,
}

/// What one place in the log tells of the transaction that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trace {
    Ended(Outcome),
    Open,
    /// It lies behind another one that is open.
    Hidden,
}

/// How what is open must end; `None` where nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    pub records: Option<Outcome>,
    pub offsets: Option<Outcome>,
}

/// What a transaction is called: its number, a partition whose offset it commits, its producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    number: Uuid,
    partition: i32,
    producer: String,
}

impl Name {
    /// Of the next one.
    pub(super) fn new(partition: i32, producer: String) -> Self {
        Self { number: Uuid::now_v7(), partition, producer }
    }

    /// For a record.
    pub(super) fn add_to(&self, headers: Option<OwnedHeaders>) -> OwnedHeaders {
        let value = format!("{} {} {}", self.number, self.partition, self.producer);
        headers.unwrap_or_default().insert(Header { key: TRANSACTION, value: Some(&value) })
    }

    /// For the metadata of an offset.
    pub(super) fn sign(&self, metadata: &str) -> String {
        format!("{metadata}{BEFORE_NUMBER}{}", self.number)
    }

    pub(super) fn of(message: &BorrowedMessage<'_>) -> Option<Self> {
        let mut parts = text(message, TRANSACTION)?.splitn(3, ' ');
        let (number, partition) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { number, partition, producer: parts.next()?.to_owned() })
    }

    /// Whether its offsets are those that are committed. If they are not, others may have gone on behind them.
    fn is_in(&self, committed: &BTreeMap<i32, Committed>) -> bool {
        committed.get(&self.partition).is_some_and(|committed| committed.number == Some(self.number))
    }
}

/// The metadata that were signed, and the number; none where an older build committed them.
pub(super) fn signed(metadata: &str) -> (&str, Option<Uuid>) {
    let parts = metadata.split_once(BEFORE_NUMBER);
    parts.map_or((metadata, None), |(payload, number)| (payload, number.parse().ok()))
}

/// Those who had the producer's id before, and what they wrote: the ledger's topic comes last.
pub(super) struct Forerunners<'a> {
    pub id: String,
    pub log: &'a LogSettings,
    pub writes: &'a [String; 3],
    pub positions: &'a Positions,
    pub shutdown: &'a CancellationToken,
}

/// A transaction, and when the log had its first record there.
struct Found {
    name: Name,
    time_ms: i64,
}

/// What may be open of theirs.
#[derive(Default)]
struct Remains {
    /// The last transaction that has records.
    last: Option<Found>,
    /// There is one that was to close others.
    closes: bool,
    /// A transaction is open that has no name.
    is_unnamed: bool,
}

impl Forerunners<'_> {
    /// To be asked once none of their transactions is under way.
    pub(super) fn ended(&self) -> Result<Ended, StageError> {
        let mut past = Past::connect(self.log)?;
        let began = Instant::now();
        let open = past.still_open(self.writes, Patience { limit: SOON, shutdown: self.shutdown })?;
        let unsettled = self.positions.not_told(began + SOON, self.shutdown)?;
        if open.is_empty() && unsettled.is_empty() {
            return Ok(Ended::default());
        }
        let committed = self.positions.whatever_is_committed()?;
        let Remains { last, closes, is_unnamed } = self.remains(&mut past, &open)?;
        let records = match &last {
            Some(last) => Some(self.of_records(&mut past, last, &committed)?),
            // They say nothing, so it does not matter.
            None if closes => Some(Outcome::Aborted),
            // As an older build did, of which it may be.
            None if is_unnamed => Some(Outcome::Committed),
            None => None,
        };
        let offsets = if unsettled.is_empty() {
            None
        } else {
            let known = last.map(|last| last.name).zip(records);
            let told = self.of_offsets(&mut past, &unsettled, &committed, known)?;
            Some(told.or(records).unwrap_or(Outcome::Aborted))
        };
        Ok(Ended { records, offsets })
    }

    fn remains(&self, past: &mut Past, open: &Open) -> Result<Remains, StageError> {
        let mut remains = Remains::default();
        for ((topic, partition), at) in open {
            past.walk_all((topic, *partition, *at), self.shutdown, |record| {
                let name = self.name_of(record);
                let last = remains.last.as_ref().map(|last| last.name.number);
                match name {
                    Some(_) if is_closing(record) => remains.closes = true,
                    Some(name) if Some(name.number) > last => {
                        remains.last = Some(Found { name, time_ms: time_of(record) });
                    }
                    Some(_) => {}
                    None => {
                        let is_first = NextOffset::exclusive(record.offset()) == *at;
                        remains.is_unnamed |= is_first && Name::of(record).is_none();
                    }
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(remains)
    }

    fn of_records(
        &self,
        past: &mut Past,
        last: &Found,
        committed: &BTreeMap<i32, Committed>,
    ) -> Result<Outcome, StageError> {
        if last.name.is_in(committed) {
            return Ok(Outcome::Committed);
        }
        let mut hidden = None;
        for topic in self.writes {
            for (partition, at) in self.first_records(past, topic, last)? {
                match past.trace(topic, partition, at, self.shutdown)? {
                    Trace::Ended(outcome) => return Ok(outcome),
                    Trace::Hidden => hidden = Some((topic, partition)),
                    Trace::Open => {}
                }
            }
        }
        hidden.map_or(Ok(Outcome::Aborted), |(topic, partition)| Err(unsettled(topic, partition)))
    }

    /// Where its first record is in each partition that has any.
    fn first_records(
        &self,
        past: &mut Past,
        topic: &str,
        Found { name, time_ms }: &Found,
    ) -> Result<Vec<(i32, NextOffset)>, StageError> {
        let span_ms = SPAN.num_milliseconds();
        let mut found = Vec::new();
        for (partition, from) in past.any_since(topic, time_ms - span_ms)? {
            past.walk_all((topic, partition, from), self.shutdown, |record| {
                let is_it = Name::of(record).as_ref() == Some(name);
                found.extend(is_it.then(|| (partition, NextOffset::exclusive(record.offset()))));
                let is_over = is_it || time_of(record) > time_ms + span_ms;
                if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        }
        Ok(found)
    }

    /// By the last entries that would have moved these partitions; `None` where no end of one is seen. Of one transaction it is
    /// known how it must end.
    fn of_offsets(
        &self,
        past: &mut Past,
        partitions: &[i32],
        committed: &BTreeMap<i32, Committed>,
        known: Option<(Name, Outcome)>,
    ) -> Result<Option<Outcome>, StageError> {
        let [.., ledger] = self.writes;
        let count = past.partitions(ledger)?;
        let mut wanted: BTreeMap<i32, BTreeMap<i32, Committed>> = BTreeMap::new();
        for read in partitions {
            let from = committed.get(read).copied().unwrap_or_default();
            wanted.entry(told_in(*read, count)).or_default().insert(*read, from);
        }
        for (partition, wanted) in wanted {
            let since = wanted.values().map(Committed::since_ms).min().unwrap_or_default();
            let Some(start) = past.any_since(ledger, since)?.get(&partition).copied() else { continue };
            let mut moved: BTreeMap<i32, (Name, NextOffset)> = BTreeMap::new();
            past.walk_all((ledger, partition, start), self.shutdown, |record| {
                if let Some((read, name)) = self.moved(record, &wanted) {
                    moved.insert(read, (name, NextOffset::exclusive(record.offset())));
                }
                ControlFlow::Continue(())
            })?;
            for (name, at) in moved.into_values() {
                match (past.trace(ledger, partition, at, self.shutdown)?, &known) {
                    (Trace::Ended(outcome), _) => return Ok(Some(outcome)),
                    (_, Some((known, outcome))) if *known == name => return Ok(Some(*outcome)),
                    (Trace::Hidden, _) => return Err(unsettled(ledger, partition)),
                    (Trace::Open, _) => {}
                }
            }
        }
        Ok(None)
    }

    /// The partition of what they read that this entry of theirs is of, if it leads behind what is committed.
    fn moved(&self, record: &BorrowedMessage<'_>, wanted: &BTreeMap<i32, Committed>) -> Option<(i32, Name)> {
        let name = self.name_of(record)?;
        let entry = Entry::read(record.payload()?).ok()?;
        let stretch = entry.stretch()?;
        let committed = wanted.get(&stretch.partition)?;
        (stretch.to > stretch.from && stretch.to > committed.next.get()).then_some((stretch.partition, name))
    }

    /// The name of a record of theirs.
    fn name_of(&self, record: &BorrowedMessage<'_>) -> Option<Name> {
        Name::of(record).filter(|name| name.producer == self.id)
    }
}

impl Committed {
    /// No transaction that is open began before.
    fn since_ms(&self) -> i64 {
        let signed_at = self.number.and_then(|number| number.get_timestamp());
        let seconds = signed_at.and_then(|time| i64::try_from(time.to_unix().0).ok());
        seconds.map_or_else(
            || (Utc::now() - UNSIGNED).timestamp_millis(),
            |seconds| seconds * 1_000 - SPAN.num_milliseconds(),
        )
    }
}

fn unsettled(topic: &str, partition: i32) -> StageError {
    StageError::Unsettled {
        what: "how its last transaction ended, which lies behind another one,",
        topic: topic.to_owned(),
        partition,
    }
}

fn time_of(record: &BorrowedMessage<'_>) -> i64 {
    record.timestamp().to_millis().unwrap_or(0)
}

#[cfg(test)]
mod tests;
