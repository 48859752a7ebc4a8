//! One chunk of raw records: the verdict on each, and what follows for progress, counts and dead letters. Pure.

use crate::{
    admission::{Admission, Identity, Mark, Verdict},
    ledger::{Span, Tally},
    plan::Raw,
    record::{self, Measured},
};
use hashbrown::HashMap;
use millrace_log::NextOffset;
use millrace_schemas::{EventTime, FieldError, WorkspaceId, ledger::EDGE_END, partial::Progress};

/// A raw record as it was read, parsed.
pub(crate) struct Record {
    pub partition: i32,
    pub offset: i64,
    pub append_time: EventTime,
    pub parsed: Result<(Identity, Measured), Broken>,
    pub from_edge: bool,
    /// Where it is certain that it is no dead letter: what the duplicate memory knows it by.
    pub admitted: Option<Mark>,
    /// What a dead letter would need: where it may become one, and only in combine.
    pub original: Option<Box<Original>>,
}

/// A record that can't be read.
pub(crate) struct Broken {
    pub error: FieldError,
    /// It may name one all the same.
    pub workspace: Option<WorkspaceId>,
}

/// What a dead letter repeats of its message.
pub(crate) struct Original {
    /// Both may be cut.
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    /// Of the whole payload.
    pub payload_bytes: usize,
}

impl Original {
    pub(super) fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.payload.as_ref().map_or(0, Vec::len)
    }

    pub(super) fn is_cut(&self) -> bool {
        self.payload.as_ref().is_some_and(|payload| payload.len() < self.payload_bytes)
    }
}

impl Record {
    pub(super) fn parse(partition: i32, offset: i64, append_time: EventTime, payload: Option<&[u8]>) -> Self {
        let parsed = match payload {
            Some(payload) => record::parse(payload)
                .map_err(|error| Broken { error, workspace: record::workspace(payload) }),
            None => Err(Broken { error: FieldError::new("", "a record without a value"), workspace: None }),
        };
        let from_edge = payload.is_some_and(|payload| payload.ends_with(EDGE_END));
        Self { partition, offset, append_time, parsed, from_edge, admitted: None, original: None }
    }

    /// As the rules want to see it.
    pub(crate) fn identity(&self) -> Result<Identity, FieldError> {
        match &self.parsed {
            Ok((identity, _)) => Ok(*identity),
            Err(broken) => Err(broken.error.clone()),
        }
    }

    /// The workspace that it names: also one that is not valid may do so.
    pub(crate) fn workspace(&self) -> Option<WorkspaceId> {
        match &self.parsed {
            Ok((identity, _)) => Some(identity.workspace),
            Err(broken) => broken.workspace,
        }
    }

    /// It has no outcome yet: accepted, but in no count.
    pub(crate) fn is_running(&self) -> bool {
        self.parsed.as_ref().is_ok_and(|(identity, _)| identity.running)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub counted: u64,
    pub running: u64,
    pub duplicate: u64,
    pub dead_letter: u64,
}

impl Counts {
    pub(super) fn records(self) -> u64 {
        self.counted + self.running + self.duplicate + self.dead_letter
    }
}

/// One raw partition as this worker knows it.
pub(super) struct Source {
    admission: Admission,
    pub next: NextOffset,
    max_event_time: Option<EventTime>,
    /// The offset after what was received last, judged or not.
    pub received: NextOffset,
    /// All of it has been read.
    at_end: bool,
    /// When the last record came, on the wall clock.
    last_record: EventTime,
    /// What was last told, to tell a change only.
    told: Option<bool>,
    changed: bool,
    tally: Tally,
    /// Where it goes on: also of a partition to which nothing comes the ledger knows how far it is.
    begun: Option<Span>,
}

impl Source {
    pub(super) fn new(admission: Admission, next: NextOffset) -> Self {
        let last_record = EventTime(i64::MIN);
        Self {
            admission,
            next,
            max_event_time: None,
            received: next,
            at_end: false,
            last_record,
            told: None,
            changed: false,
            tally: Tally::new(next),
            begun: None,
        }
    }

    /// A record came. It is judged later than it is received: the end may be told before.
    pub(super) fn receives(&mut self, offset: i64) {
        self.received = NextOffset::after(offset);
        self.at_end = false;
    }

    /// All that was received so far is all there is.
    pub(super) fn reached_end(&mut self) {
        self.at_end = true;
    }

    /// Ends a restoration: what was read again is no news. Retention has left the records from `low` on.
    pub(super) fn restored(&mut self, next: NextOffset, low: NextOffset) {
        (self.next, self.received) = (next, next);
        self.changed = false;
        self.tally = Tally::new(next.max(low));
        self.begun = (next > NextOffset::START).then(|| Span::empty(next.max(low), None));
    }

    /// What retention has removed before `record`, unread, is not told as dealt with.
    pub(super) fn skips_to(&mut self, record: &Record, low: NextOffset) {
        let low = low.min(NextOffset::exclusive(record.offset));
        if low > self.next && self.tally.lose_to(low) {
            let Record { partition, .. } = *record;
            tracing::error!(partition, expected = %self.next, first = %low, "retention removed records before they were combined");
        }
    }

    /// What became of the records since it was asked last.
    pub(super) fn tallied(&mut self) -> Vec<Span> {
        self.begun.take().into_iter().chain(self.tally.take()).collect()
    }

    /// The mark of the record, if it is certain by now that it is no dead letter.
    pub(super) fn admits(&self, record: &Record, created: &HashMap<WorkspaceId, EventTime>) -> Option<Mark> {
        let Ok((identity, _)) = &record.parsed else { return None };
        let created = |workspace| created.get(&workspace).copied();
        let admitted = self.admission.admit(record.append_time, Ok(*identity), created);
        admitted.ok().map(|identity| self.admission.mark(&identity))
    }

    /// The record is judged soon.
    pub(super) fn look_ahead(&self, record: &Record) {
        if let Some(mark) = &record.admitted {
            self.admission.look_ahead(mark);
        }
    }

    /// Judges one record and adds it to `raw` if it counts.
    pub(super) fn take(
        &mut self,
        record: &Record,
        created: &HashMap<WorkspaceId, EventTime>,
        raw: &mut Raw,
        now: EventTime,
    ) -> Verdict {
        let verdict = match &record.admitted {
            Some(mark) => self.admission.judge_admitted(record.offset, mark),
            None => {
                let created = |workspace| created.get(&workspace).copied();
                self.admission.judge(record.offset, record.append_time, record.identity(), created)
            }
        };
        self.next = NextOffset::after(record.offset);
        self.last_record = now;
        self.changed = true;
        self.tally(record, &verdict, created);
        if let (Verdict::Counted, Ok((identity, measured))) = (&verdict, &record.parsed) {
            raw.push(identity, measured);
            // A clock that is ahead, within the allowed skew, must not close everybody's windows before their time.
            let event_time = identity.completed_at.min(record.append_time);
            self.max_event_time = self.max_event_time.max(Some(event_time));
        }
        verdict
    }

    fn tally(&mut self, record: &Record, verdict: &Verdict, created: &HashMap<WorkspaceId, EventTime>) {
        let exists = |workspace: &WorkspaceId| record.admitted.is_some() || created.contains_key(workspace);
        let workspace = record.workspace().filter(exists);
        let counts = self.tally.count(record.offset, record.append_time, workspace);
        counts.read += 1;
        counts.from_edge += i64::from(record.from_edge);
        match verdict {
            Verdict::Counted if record.is_running() => counts.running += 1,
            Verdict::Counted => counts.counted += 1,
            Verdict::Duplicate => counts.duplicate += 1,
            Verdict::DeadLetter { reason, .. } => *counts.dead_lettered.of(*reason) += 1,
        }
    }

    /// The progress to tell, if there is any since the last time. A source without records is idle at once.
    pub(super) fn progress(
        &mut self,
        partition: i32,
        now: EventTime,
        idle_after: std::time::Duration,
    ) -> Option<Progress> {
        let quiet = now >= self.last_record.saturating_add(idle_after);
        let idle = self.at_end && self.next >= self.received && quiet;
        // Before the end is reached for the first time nothing is known, and nothing is said.
        let news = self.changed || (self.told != Some(idle) && (idle || self.told.is_some()));
        if !news {
            return None;
        }
        self.changed = false;
        self.told = Some(idle);
        Some(Progress { partition, next_offset: self.next.get(), max_event_time: self.max_event_time, idle })
    }
}

#[cfg(test)]
mod tests;
