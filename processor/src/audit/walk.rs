//! One raw partition, record by record: the verdict, and whether letters and archive say the same.

use super::{
    Error, Observer,
    cells::Cells,
    finding::{Check, Findings},
    letters::Letters,
    minutes::Minutes,
    shelved::{Found, Shelved, is_same},
    start::Start,
};
use crate::{
    admission::{Admission, Verdict},
    history::{History, judged::Known},
    plan::Key,
    stage::{chunk::Record, combine::read_record, past::Range},
};
use millrace_log::NextOffset;
use millrace_schemas::{EventTime, dead_letter::Reason, ledger::FROM_OLDER_EDGE};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

/// Records whose workspaces are asked for at once.
const JUDGED_AT_ONCE: usize = 10_000;

/// What all partitions add to.
#[derive(Default)]
pub(super) struct Books {
    pub known: Known,
    pub letters: Letters,
    pub minutes: Minutes,
    pub cells: Cells,
    pub findings: Findings,
    pub other_rules: u64,
}

pub(super) struct Walk<'a> {
    pub history: &'a History,
    pub partition: i32,
    pub start: Start,
    pub to: NextOffset,
    pub shelved: Option<Shelved>,
    pub admission: Admission,
    /// When the newest record came that is not judged.
    pub unknown_until: Option<EventTime>,
}

impl Walk<'_> {
    pub(super) fn run(&mut self, books: &mut Books, observer: &mut dyn Observer) -> Result<(), Error> {
        let topic = self.history.log.topics().metrics;
        let range = Range { topic: &topic, partition: self.partition, from: self.start.read, to: self.to };
        let mut batch: Vec<Record> = Vec::new();
        let history = self.history;
        history.past()?.scan::<Error>(range, &history.shutdown, |message| {
            let mut record = read_record(message);
            record.from_edge |= is_from_older_edge(message);
            batch.push(record);
            if batch.len() < JUDGED_AT_ONCE {
                return Ok(());
            }
            observer.advance(batch.len() as u64);
            self.judge(&mut batch, books)
        })?;
        self.judge(&mut batch, books)?;
        if let Some(shelved) = &mut self.shelved {
            shelved.finish(self.to, &mut books.findings);
        }
        Ok(())
    }

    fn judge(&mut self, batch: &mut Vec<Record>, books: &mut Books) -> Result<(), Error> {
        books.known.learn(self.history, &*batch)?;
        for record in batch.drain(..) {
            if record.offset < self.start.exact.get() {
                self.remember(&record, books);
            } else {
                self.record(&record, books)?;
            }
        }
        Ok(())
    }

    /// For the duplicate memory alone; what became a dead letter is not in it.
    fn remember(&mut self, record: &Record, books: &mut Books) {
        self.unknown_until = self.unknown_until.max(Some(record.append_time));
        if books.letters.take(self.partition, record.offset).is_none() {
            self.verdict(record, &books.known);
        }
    }

    fn verdict(&mut self, record: &Record, known: &Known) -> Verdict {
        self.admission.judge(record.offset, record.append_time, record.identity(), |id| known.created(id))
    }

    /// Whether the rules let it in, be it new or not; else the reason.
    fn refused(&self, record: &Record, known: &Known) -> Option<Reason> {
        match self.admission.admit(record.append_time, record.identity(), |id| known.created(id)) {
            Err(Verdict::DeadLetter { reason, .. }) => Some(reason),
            _ => None,
        }
    }

    fn record(&mut self, record: &Record, books: &mut Books) -> Result<(), Error> {
        let (partition, offset) = (self.partition, record.offset);
        let found = match &mut self.shelved {
            Some(shelved) => self.history.handle.block_on(shelved.take(offset, &mut books.findings))?,
            None => Found::Unknown,
        };
        let letter = books.letters.take(partition, offset);
        let refused = self.refused(record, &books.known);
        let is_archived = matches!(found, Found::Yes(_));
        let verdict = match (letter, is_archived, refused) {
            // What the log and the archive agree on was so by the rules of its time.
            (Some(reason), false, refused) => {
                books.other_rules += u64::from(refused != Some(reason));
                Ending::Dead(reason)
            }
            (None, true, Some(_)) => {
                books.other_rules += 1;
                Ending::Counted
            }
            (letter, is_archived, Some(reason)) => {
                if is_archived {
                    books.findings.add(Check::ArchivedWrongly, || describe(record, reason.as_str()));
                } else if letter.is_none() && books.letters.complete_from <= Some(record.append_time) {
                    books.findings.add(Check::LetterMissing, || describe(record, reason.as_str()));
                }
                Ending::Dead(reason)
            }
            (letter, _, None) => {
                if letter.is_some() {
                    let example = books.letters.describe(partition, offset);
                    books.findings.add(Check::LetterOfCounted, || example);
                }
                match self.verdict(record, &books.known) {
                    Verdict::Duplicate => Ending::Duplicate,
                    _ => Ending::Counted,
                }
            }
        };
        check_archived(record, verdict, found, &mut books.findings);
        tally(record, verdict, self.shelved.is_some(), books);
        Ok(())
    }
}

/// Where a record has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Or accepted while it ran.
    Counted,
    Duplicate,
    Dead(Reason),
}

fn check_archived(record: &Record, ending: Ending, found: Found, findings: &mut Findings) {
    match (ending, found, &record.parsed) {
        (Ending::Counted, Found::No, _) => {
            findings.add(Check::NotArchived, || describe(record, "counted"));
        }
        (Ending::Counted, Found::Yes(archived), Ok((identity, measured)))
            if !is_same(&archived, identity, measured) =>
        {
            findings.add(Check::ArchivedOther, || describe(record, "counted"));
        }
        (Ending::Duplicate, Found::Yes(_), _) => {
            findings.add(Check::ArchivedWrongly, || describe(record, "duplicate"));
        }
        _ => {}
    }
}

fn is_from_older_edge(message: &BorrowedMessage<'_>) -> bool {
    message.headers().is_some_and(|headers| headers.iter().any(|header| header.key == FROM_OLDER_EDGE))
}

fn tally(record: &Record, ending: Ending, archive: bool, books: &mut Books) {
    let workspace = record.workspace().filter(|workspace| books.known.created(*workspace).is_some());
    let counts = books.minutes.row(record.append_time, workspace);
    counts.read += 1;
    counts.from_edge += i64::from(record.from_edge);
    match ending {
        Ending::Counted if record.is_running() => counts.running += 1,
        Ending::Counted => counts.counted += 1,
        Ending::Duplicate => counts.duplicate += 1,
        Ending::Dead(reason) => *counts.dead_lettered.of(reason) += 1,
    }
    counts.archived += i64::from(archive && ending == Ending::Counted);
    if let (Ending::Counted, false, Some((key, time))) = (ending, record.is_running(), cell(record)) {
        books.cells.counted(key, time);
    }
}

/// Of a valid record.
pub(super) fn cell(record: &Record) -> Option<(Key, EventTime)> {
    let (identity, measured) = record.parsed.as_ref().ok()?;
    Some((Key { workspace: identity.workspace, service: measured.service }, identity.completed_at))
}

fn describe(record: &Record, verdict: &str) -> String {
    let id = record.parsed.as_ref().map_or("none".to_owned(), |(identity, _)| identity.id.to_string());
    format!("record {}-{}, id {id}: {verdict}", record.partition, record.offset)
}
