//! From messages to verdicts.

use super::{
    DIRECTORY_RETRY, POLL_WAIT, Worker, fetched_time,
    restoring::{learn_workspaces, tell_outage},
};
use crate::{
    admission::Verdict,
    plan::Raw,
    stage::{
        StageError,
        chunk::{Counts, Record},
        jumps::lows_after_jumps,
    },
};
use millrace_log::Fetched;
use millrace_schemas::{EventTime, dead_letter::Reason};
use std::{ffi::CStr, time::Instant};

/// Records that the duplicate memory is asked for at once: a core waits for some lines of memory as long as for one.
const LOOK_AHEAD: usize = 16;

/// What was judged since the last transaction.
pub(super) struct Open<'a> {
    pub began: Instant,
    pub raw: Raw,
    pub counts: Counts,
    pub dead: Vec<DeadLetter<'a>>,
    /// Of all payloads.
    pub bytes: usize,
    pub oldest_arrival: Option<EventTime>,
}

/// A message that goes to the dead-letter topic.
pub(super) struct DeadLetter<'a> {
    pub message: Fetched<'a>,
    pub reason: Reason,
    pub error: String,
}

impl<'a> Worker<'a> {
    /// Judges messages and adds them to what is open. They are given back to the client at once, but for dead letters.
    pub(super) fn judge(
        &mut self,
        open: &mut Open<'a>,
        mut messages: Vec<Fetched<'a>>,
    ) -> Result<(), StageError> {
        let mut records: Vec<Record> =
            messages.iter().map(|message| read_fetched(message, &self.from_edge)).collect();
        self.learn_workspaces(open, &mut messages, &mut records)?;
        let next = self.sources.iter().map(|(partition, source)| (*partition, source.next)).collect();
        let read = records.iter().map(|record| (record.partition, record.offset));
        let lows = lows_after_jumps(next, read, |partition| self.client.positions.low(partition))?;
        let now = EventTime::from(chrono::Utc::now());
        for (index, (message, record)) in messages.into_iter().zip(&records).enumerate() {
            if index % LOOK_AHEAD == 0 {
                self.look_ahead(&records[index..records.len().min(index + LOOK_AHEAD)]);
            }
            let Some(source) = self.sources.get_mut(&record.partition) else { continue };
            if record.offset < source.next.get() {
                let Record { partition, offset, .. } = *record;
                return Err(StageError::WentBack { partition, offset, next: source.next });
            }
            if let Some(low) = lows.get(&record.partition) {
                source.skips_to(record, *low);
            }
            let verdict = source.take(record, &self.known, &mut open.raw, now);
            open.add(message, record, verdict);
        }
        Ok(())
    }

    fn look_ahead(&self, records: &[Record]) {
        for record in records {
            self.sources.get(&record.partition).into_iter().for_each(|source| source.look_ahead(record));
        }
    }

    /// Waits while the database is away, but keeps nobody in the group waiting: what was judged before is committed, and
    /// what it gives up meanwhile is no longer among the messages and records.
    fn learn_workspaces(
        &mut self,
        open: &mut Open<'a>,
        messages: &mut Vec<Fetched<'a>>,
        records: &mut Vec<Record>,
    ) -> Result<(), StageError> {
        let asked = (&self.components.directory, self.runtime);
        let Err(error) = learn_workspaces(asked, &mut self.known, records) else { return Ok(()) };
        tell_outage(&error);
        self.commit(std::mem::replace(open, Open::new()))?;
        let paused = self.client.pause()?;
        while let Err(error) = learn_workspaces(asked, &mut self.known, records) {
            if self.components.shutdown.is_cancelled() {
                return Err(error);
            }
            let changed = self.poll_paused()?;
            messages.retain(|message| !changed.contains(&message.partition()));
            records.retain(|record| !changed.contains(&record.partition));
        }
        self.client.resume(&paused)
    }

    /// The partitions that came or went in a while without records.
    fn poll_paused(&mut self) -> Result<Vec<i32>, StageError> {
        let (mut changed, deadline) = (Vec::new(), Instant::now() + DIRECTORY_RETRY);
        while Instant::now() < deadline && !self.components.shutdown.is_cancelled() {
            self.poll_group(POLL_WAIT)?;
            changed.extend(self.follow_assignment()?);
        }
        Ok(changed)
    }
}

impl<'a> Open<'a> {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            raw: Raw::default(),
            counts: Counts::default(),
            dead: Vec::new(),
            bytes: 0,
            oldest_arrival: None,
        }
    }

    fn add(&mut self, message: Fetched<'a>, record: &Record, verdict: Verdict) {
        let oldest = self.oldest_arrival.map_or(record.append_time, |oldest| oldest.min(record.append_time));
        self.oldest_arrival = Some(oldest);
        self.bytes += message.payload_len();
        match verdict {
            Verdict::Counted if record.is_running() => self.counts.running += 1,
            Verdict::Counted => self.counts.counted += 1,
            Verdict::Duplicate => self.counts.duplicate += 1,
            Verdict::DeadLetter { reason, error } => {
                self.counts.dead_letter += 1;
                self.dead.push(DeadLetter { message, reason, error });
            }
        }
    }
}

fn read_fetched(message: &Fetched<'_>, from_edge: &CStr) -> Record {
    let record =
        Record::parse(message.partition(), message.offset(), fetched_time(message), message.payload());
    Record { from_edge: message.has_header(from_edge), ..record }
}
