//! From records to verdicts.

use super::{
    BLOCK_RECORDS, DIRECTORY_RETRY, POLL_WAIT, Worker,
    restoring::{Known, learn_workspaces, tell_outage},
};
use crate::{
    admission::{AHEAD, Verdict},
    plan::{Partials, Plan, PlanError, Raw},
    stage::{
        StageError,
        chunk::{Counts, Original, Record, Source},
        jumps::lows_after_jumps,
        positions::Positions,
    },
};
use millrace_schemas::{EventTime, dead_letter::Reason};
use std::{collections::BTreeMap, time::Instant};

/// What was judged since the last transaction.
pub(super) struct Open {
    pub began: Instant,
    /// Of the block that is judged.
    pub raw: Raw,
    pub partials: Partials,
    pub counts: Counts,
    pub dead: Vec<DeadLetter>,
    /// Of all dead letters.
    pub letters_bytes: usize,
    pub oldest_arrival: Option<EventTime>,
}

/// A record that goes to the dead-letter topic.
pub(super) struct DeadLetter {
    pub partition: i32,
    pub offset: i64,
    pub append_time: EventTime,
    pub original: Original,
    pub reason: Reason,
    pub error: String,
}

/// Judges records in the order in which they came, and adds them to what is open. None is left.
pub(super) fn judge(
    records: &mut Vec<Record>,
    sources: &mut BTreeMap<i32, Source>,
    (known, positions): (&Known, &Positions),
    open: &mut Open,
) -> Result<(), StageError> {
    let next = sources.iter().map(|(partition, source)| (*partition, source.next)).collect();
    let read = records.iter().map(|record| (record.partition, record.offset));
    let lows = lows_after_jumps(next, read, |partition| positions.low(partition))?;
    let now = EventTime::from(chrono::Utc::now());
    for block in records.chunks_mut(BLOCK_RECORDS) {
        for run in block.chunk_by_mut(|one, next| one.partition == next.partition) {
            let Some(source) = sources.get_mut(&run[0].partition) else { continue };
            let low = lows.get(&run[0].partition);
            run.iter().take(AHEAD).for_each(|record| source.look_ahead(record));
            for at in 0..run.len() {
                if let Some(later) = run.get(at + AHEAD) {
                    source.look_ahead(later);
                }
                let record = &mut run[at];
                let Record { partition, offset, .. } = *record;
                if offset < source.next.get() {
                    return Err(StageError::WentBack { partition, offset, next: source.next });
                }
                if let Some(low) = low {
                    source.skips_to(record, *low);
                }
                let verdict = source.take(record, known, &mut open.raw, now);
                open.add(record, verdict);
            }
        }
        open.partials.add(&mut open.raw)?;
    }
    records.clear();
    Ok(())
}

impl Worker<'_> {
    /// Of all that is not judged. Waits while the database is away, but keeps nobody in the group waiting: what was judged
    /// before is committed, and what it gives up meanwhile is no longer among the records.
    pub(super) fn learn_workspaces(&mut self, open: &mut Open) -> Result<(), StageError> {
        let asked = (&self.components.directory, self.runtime);
        let Err(error) = learn_workspaces(asked, &mut self.known, &self.unjudged) else { return Ok(()) };
        tell_outage(&error);
        let judged = std::mem::replace(open, Open::new(&self.components.plan)?);
        self.commit(judged)?;
        let paused = self.client.pause()?;
        while let Err(error) = learn_workspaces(asked, &mut self.known, &self.unjudged) {
            if self.components.shutdown.is_cancelled() {
                return Err(error);
            }
            self.poll_paused()?;
        }
        self.was_paused = true;
        self.client.resume(&paused)
    }

    fn poll_paused(&mut self) -> Result<(), StageError> {
        let deadline = Instant::now() + DIRECTORY_RETRY;
        while Instant::now() < deadline && !self.components.shutdown.is_cancelled() {
            self.poll_group(POLL_WAIT)?;
            self.follow_assignment()?;
        }
        Ok(())
    }
}

impl Open {
    pub(super) fn new(plan: &Plan) -> Result<Self, PlanError> {
        Ok(Self {
            began: Instant::now(),
            raw: Raw::default(),
            partials: plan.partials()?,
            counts: Counts::default(),
            dead: Vec::new(),
            letters_bytes: 0,
            oldest_arrival: None,
        })
    }

    fn add(&mut self, record: &mut Record, verdict: Verdict) {
        let oldest = self.oldest_arrival.map_or(record.append_time, |oldest| oldest.min(record.append_time));
        self.oldest_arrival = Some(oldest);
        match verdict {
            Verdict::Counted if record.is_running() => self.counts.running += 1,
            Verdict::Counted => self.counts.counted += 1,
            Verdict::Duplicate => self.counts.duplicate += 1,
            Verdict::DeadLetter { reason, error } => {
                self.counts.dead_letter += 1;
                let Record { partition, offset, append_time, .. } = *record;
                let original = *record.original.take().expect("it was kept where this was not certain");
                self.letters_bytes += original.bytes() + error.len();
                self.dead.push(DeadLetter { partition, offset, append_time, original, reason, error });
            }
        }
    }
}
