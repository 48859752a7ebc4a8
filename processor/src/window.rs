//! The open windows of one `partials` partition: merges partial states, decides when windows close and what is emitted.
//! Pure but for the aggregation that it drives; time is an argument, and what it holds can be rebuilt from the log.
//!
//! For any state of the watermark a window is in one of three ages:
//! open (its end is ahead), held (closed, but within the late horizon: late records make a new revision), or left (further
//! back: late records are emitted as a delta for the stored row, at once). The age is a function of the window's end and
//! the watermark alone, and the watermark is committed with the offsets: so a restart puts every record where it was.
//!
//! However many keys close at once, outputs have a limit. The watermark stops at the end of the first window of which not
//! all keys have been emitted as final, so none has left before, and a restart finds in the rows which are still to come.

mod checkpoint;
mod reach;
mod slot;
mod watermark;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use watermark::{Source, Watermark};

use crate::{
    plan::{Plan, PlanError},
    settings::WindowSettings,
};
use arrow::array::RecordBatch;
use millrace_schemas::{
    AggregateRow, EventTime, Window, WorkspaceId, aggregate::Kind, partial::Header, progress,
};
use reach::Reach;
use slot::Slot;
use std::{collections::BTreeMap, time::Duration};

/// Identity of a slot: all keys of one window at one start.
type SlotId = (Window, EventTime);

/// Everything held for one partition.
pub struct Windows {
    plan: Plan,
    late_horizon: Duration,
    early_rows: usize,
    watermark: Watermark,
    reach: Reach,
    slots: BTreeMap<SlotId, Slot>,
    /// States of windows that have left, to be emitted with the next outputs.
    deltas: Vec<(SlotId, RecordBatch)>,
    /// Keys of late records, in deltas or slots, since the last outputs.
    late_keys: usize,
    /// Next offset of the partials partition.
    position: i64,
}

/// What is to be written in one transaction.
#[derive(Debug, Default)]
pub struct Outputs {
    pub rows: Vec<AggregateRow>,
}

/// Records of one frame whose window of 5 s had closed before, by workspace.
pub type Lateness = BTreeMap<WorkspaceId, Late>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Late {
    /// The window was still held.
    pub held: i64,
    /// It had left.
    pub left: i64,
}

/// When outputs are made.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The wall clock: it moves the watermark when all sources are idle.
    pub now: EventTime,
    /// Whether open windows that have changed are due.
    pub early: bool,
    /// The most rows, besides those that tell of late records: [`Windows::is_full`] is their limit.
    pub rows_max: usize,
    /// A lower bound of the offset that the next row gets in the aggregates partition.
    pub aggregates_end: i64,
}

impl Windows {
    pub fn new(plan: Plan, settings: &WindowSettings) -> Self {
        Self {
            plan,
            late_horizon: settings.late_horizon.into(),
            early_rows: usize::try_from(settings.early_rows).unwrap_or(usize::MAX),
            watermark: Watermark::new(settings.watermark_delay.into()),
            reach: Reach::default(),
            slots: BTreeMap::new(),
            deltas: Vec::new(),
            late_keys: 0,
            position: 0,
        }
    }

    /// Begins a rebuild: then [`Self::restore_states`] for each frame from `checkpoint.rebuild_from` up to `position`,
    /// then [`Self::restore_row`] for each row from `checkpoint.aggregates_from` on.
    pub fn resume(&mut self, checkpoint: &Checkpoint, position: i64) {
        self.watermark.resume(checkpoint);
        self.position = position;
    }

    /// Takes over what was told last of the raw offsets, up to the position of [`Self::resume`].
    pub fn restore_progress(&mut self, told: &[Option<progress::Source>]) {
        self.reach.resume(self.position, told);
    }

    pub fn restore_states(&mut self, offset: i64, states: &RecordBatch) -> Result<(), PlanError> {
        for (id, states) in slot::assign(states)? {
            if !self.has_left(id) {
                let slot = self.slots.entry(id).or_insert_with(|| Slot::new(offset));
                slot.add(offset + 1, states, false);
            }
        }
        Ok(())
    }

    /// `offset` is the row's own in the aggregates partition.
    pub fn restore_row(&mut self, offset: i64, row: &AggregateRow) {
        if row.kind == Kind::Row
            && let Some(slot) = self.slots.get_mut(&(row.window, row.window_start))
        {
            slot.restore_emitted(offset, row);
        }
    }

    /// Takes in one frame: its states first, so that its own progress does not make them late. Tells which are all the same.
    pub fn apply(
        &mut self,
        offset: i64,
        header: &Header,
        states: Option<&RecordBatch>,
    ) -> Result<Lateness, PlanError> {
        let mut lateness = Lateness::new();
        for (id, states) in states.map(slot::assign).transpose()?.into_iter().flatten() {
            let (closed, left) = (self.is_closed(id), self.has_left(id));
            if closed && id.0 == Window::FiveSeconds {
                for (key, count) in slot::counts(&states) {
                    let late = lateness.entry(key.workspace).or_default();
                    *if left { &mut late.left } else { &mut late.held } += count;
                }
            }
            if closed {
                self.late_keys += states.num_rows();
            }
            if left {
                self.deltas.push((id, states));
            } else {
                let slot = self.slots.entry(id).or_insert_with(|| Slot::new(offset));
                // A slot can begin its life closed: late, but not so late that it has left.
                slot.add(offset + 1, states, closed);
            }
        }
        self.watermark.observe(header);
        self.reach.observe(offset + 1, header);
        self.position = offset + 1;
        Ok(lateness)
    }

    /// So many keys are late that no more frames should be applied before the next outputs, which have all of them.
    pub fn is_full(&self, rows_max: usize) -> bool {
        self.late_keys >= rows_max
    }

    /// Moves the watermark and gives the rows that are due: windows that closed, late revisions, deltas, and, when the
    /// moment is right, windows still open. Where there are as many as the limit, more follow with the next outputs.
    pub async fn outputs(&mut self, moment: Moment) -> Result<Outputs, PlanError> {
        for slot in self.slots.values_mut() {
            slot.compact_if_scattered(&self.plan).await?;
        }
        let mut rows = self.delta_rows().await?;
        self.late_keys = 0;
        loop {
            let closed = self.closed_to_emit();
            self.emit(&mut rows, &closed, moment).await?;
            let is_full = rows.len() >= moment.rows_max;
            if is_full || !self.watermark.advance(moment.now, self.first_unfinished()) {
                break;
            }
        }
        if moment.early {
            let rows_max = moment.rows_max.min(rows.len() + self.early_rows);
            self.emit(&mut rows, &self.open_to_emit(), Moment { rows_max, ..moment }).await?;
            self.reach.emitted(self.emitted_to());
        }
        self.evict();
        Ok(Outputs { rows })
    }

    async fn emit(
        &mut self,
        rows: &mut Vec<AggregateRow>,
        ids: &[SlotId],
        moment: Moment,
    ) -> Result<(), PlanError> {
        let Moment { rows_max, aggregates_end, .. } = moment;
        for id in ids {
            let (limit, closed) = (rows_max.saturating_sub(rows.len()), self.is_closed(*id));
            let slot = self.slots.get_mut(id).expect("listed just now");
            if limit > 0 || slot.has_late() {
                let emission =
                    slot::Emission { id: *id, closed, limit, position: self.position, aggregates_end };
                rows.extend(slot.emit(&self.plan, emission).await?);
            }
        }
        Ok(())
    }

    /// What to commit with the offsets.
    pub fn checkpoint(&self, aggregates_end: i64) -> Checkpoint {
        Checkpoint {
            watermark: self.watermark.current(),
            rebuild_from: self.slots.values().map(|slot| slot.first_offset).min().unwrap_or(self.position),
            aggregates_from: self
                .slots
                .values()
                .filter_map(|slot| slot.first_row)
                .min()
                .unwrap_or(aggregates_end),
            sources: self.watermark.sources().to_vec(),
        }
    }

    /// By raw partition, how far it is taken in and emitted; certain only once the last outputs are committed.
    pub fn sources(&self) -> Vec<Option<progress::Source>> {
        let told = self.watermark.sources().iter().enumerate();
        told.map(|(number, source)| {
            source.map(|source| progress::Source {
                taken: self.reach.taken(number),
                emitted: self.reach.emitted_of(number),
                max_event_time: source.max_event_time,
                idle: source.idle,
            })
        })
        .collect()
    }

    pub fn position(&self) -> i64 {
        self.position
    }

    pub fn watermark(&self) -> &Watermark {
        &self.watermark
    }

    /// Slots held: open ones and closed ones within the late horizon.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Closed windows with rows still to come, in the order of their ends.
    fn closed_to_emit(&self) -> Vec<SlotId> {
        let closed = self
            .slots
            .iter()
            .filter(|(id, slot)| self.is_closed(**id) && (!slot.closed || slot.needs_emission()));
        let mut ids: Vec<SlotId> = closed.map(|(id, _)| *id).collect();
        ids.sort_by_key(|(window, start)| window.end_of(*start));
        ids
    }

    /// Open windows that have changed, longest unchanged first: they share the early limit.
    fn open_to_emit(&self) -> Vec<SlotId> {
        let open = self.slots.iter().filter(|(id, slot)| !self.is_closed(**id) && slot.needs_emission());
        let mut ids: Vec<_> = open.map(|(id, slot)| (slot.last_emitted, *id)).collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// The end of the first window of which not all keys have been emitted as final.
    fn first_unfinished(&self) -> Option<EventTime> {
        let unfinished = self.slots.iter().filter(|(_, slot)| !slot.closed);
        unfinished.map(|((window, start), _)| window.end_of(*start)).min()
    }

    async fn delta_rows(&mut self) -> Result<Vec<AggregateRow>, PlanError> {
        rows_of(&self.plan, std::mem::take(&mut self.deltas), self.position).await
    }

    /// Everything before this offset of the partials partition is in rows.
    fn emitted_to(&self) -> i64 {
        self.slots.values().filter_map(Slot::dirty_since).min().unwrap_or(self.position)
    }

    fn evict(&mut self) {
        let left: Vec<_> = self.slots.keys().copied().filter(|id| self.has_left(*id)).collect();
        for id in left {
            self.slots.remove(&id);
        }
    }

    fn is_closed(&self, (window, start): SlotId) -> bool {
        self.watermark.has_passed(window.end_of(start))
    }

    fn has_left(&self, (window, start): SlotId) -> bool {
        self.watermark.has_passed(window.end_of(start).saturating_add(self.late_horizon))
    }
}

/// The rows that states make for windows of every size, each to be merged into what is stored.
pub(crate) async fn deltas(plan: &Plan, states: &RecordBatch) -> Result<Vec<AggregateRow>, PlanError> {
    rows_of(plan, slot::assign(states)?, 0).await
}

async fn rows_of(
    plan: &Plan,
    states: Vec<(SlotId, RecordBatch)>,
    position: i64,
) -> Result<Vec<AggregateRow>, PlanError> {
    let mut by_window = BTreeMap::<Window, Vec<RecordBatch>>::new();
    for ((window, _), states) in states {
        by_window.entry(window).or_default().push(states);
    }
    let mut rows = Vec::new();
    for (window, states) in by_window {
        rows.extend(slot::delta_rows(plan, window, &states, position).await?);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
