//! The dead letters, by the record that they are of.

use super::finding::{Check, Findings};
use crate::{
    history::{History, ends::bounds},
    stage::{StageError, past::Range, settled::text},
};
use hashbrown::HashMap;
use millrace_log::is_closing;
use millrace_schemas::{
    EventTime,
    dead_letter::{REASON, Reason, SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC},
};
use rdkafka::{Message as _, message::BorrowedMessage};

/// What the topic has of one record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Letter {
    pub reason: Reason,
    /// Where its letter is: partition and offset.
    at: (i32, i64),
    seen: bool,
}

/// By raw partition and offset; some 50 bytes a letter.
#[derive(Debug, Default)]
pub(super) struct Letters {
    of: HashMap<(i32, i64), Letter>,
    /// Retention has removed letters that are older.
    pub complete_from: Option<EventTime>,
}

impl Letters {
    pub(super) fn read(history: &History, findings: &mut Findings) -> Result<Self, StageError> {
        let (mut letters, mut past) = (Self::default(), history.past()?);
        let topics = history.log.topics();
        for (partition, bounds) in (0..).zip(bounds(&past, &topics.dead_letters)?) {
            let range = Range { topic: &topics.dead_letters, partition, from: bounds.low, to: bounds.end };
            let mut first = (bounds.low.get() > 0).then_some(EventTime(i64::MAX));
            past.scan::<StageError>(range, &history.shutdown, |message| {
                if is_closing(message) {
                    return Ok(());
                }
                let time = EventTime::from_millis(message.timestamp().to_millis().unwrap_or(0));
                first = first.map(|first| first.min(time));
                letters.add(&topics.metrics, message, findings);
                Ok(())
            })?;
            letters.complete_from = letters.complete_from.max(first);
        }
        Ok(letters)
    }

    fn add(&mut self, topic: &str, message: &BorrowedMessage<'_>, findings: &mut Findings) {
        let at = (message.partition(), message.offset());
        let number = |name| text(message, name);
        let reason = number(REASON).and_then(|text| Reason::ALL.into_iter().find(|r| r.as_str() == text));
        let partition = number(SOURCE_PARTITION).and_then(|text| text.parse().ok());
        let offset = number(SOURCE_OFFSET).and_then(|text| text.parse().ok());
        let (Some(reason), Some(partition), Some(offset)) = (reason, partition, offset) else {
            findings.add(Check::LetterOfNothing, || {
                format!("letter {}-{} does not say of which record it is", at.0, at.1)
            });
            return;
        };
        if number(SOURCE_TOPIC) != Some(topic) {
            return;
        }
        let letter = Letter { reason, at, seen: false };
        if let Some(before) = self.of.insert((partition, offset), letter) {
            findings.add(Check::LetterTwice, || {
                let (first, second) = (before.at, at);
                format!(
                    "record {partition}-{offset}: letters {}-{} and {}-{}",
                    first.0, first.1, second.0, second.1
                )
            });
        }
    }

    /// That of a record, which has been found with it.
    pub(super) fn take(&mut self, partition: i32, offset: i64) -> Option<Reason> {
        let letter = self.of.get_mut(&(partition, offset))?;
        letter.seen = true;
        Some(letter.reason)
    }

    pub(super) fn describe(&self, partition: i32, offset: i64) -> String {
        let at = self.of.get(&(partition, offset)).map_or((-1, -1), |letter| letter.at);
        format!("letter {}-{} of record {partition}-{offset}", at.0, at.1)
    }

    /// Those of records that were not found: `read` tells which stretch was read of a partition, and how many records
    /// it has by now. How many letters are there at all.
    pub(super) fn finish(
        &self,
        read: impl Fn(i32) -> Option<(std::ops::Range<i64>, i64)>,
        findings: &mut Findings,
    ) -> u64 {
        for ((partition, offset), _) in self.of.iter().filter(|(_, letter)| !letter.seen) {
            let impossible = match read(*partition) {
                Some((range, end)) => range.contains(offset) || *offset >= end || *offset < 0,
                None => true,
            };
            if impossible {
                findings.add(Check::LetterOfNothing, || self.describe(*partition, *offset));
            }
        }
        self.of.len() as u64
    }
}
