//! The open windows of one `partials` partition: merges partial states, decides when windows close and what is emitted.
//! Pure but for the aggregation that it drives; time is an argument, and what it holds can be rebuilt from the log.
//!
//! For any state of the watermark a window is in one of three ages:
//! open (its end is ahead), held (closed, but within the late horizon: late records make a new revision), or left (further
//! back: late records are emitted as a delta for the stored row, at once). The age is a function of the window's end and
//! the watermark alone, and the watermark is committed with the offsets: so a restart puts every record where it was.

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
                let closed = self.is_closed(id);
                let slot = self.slots.entry(id).or_insert_with(|| Slot::new(offset));
                slot.add(offset + 1, states, false);
                slot.closed = closed;
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

    /// Moves the watermark and gives the rows that are due: windows that closed, late revisions, deltas, and, when the
    /// moment is right, windows still open.
    pub async fn outputs(&mut self, moment: Moment) -> Result<Outputs, PlanError> {
        self.watermark.advance(moment.now);
        for slot in self.slots.values_mut() {
            slot.compact_if_scattered(&self.plan).await?;
        }
        let mut rows = self.delta_rows().await?;
        let mut early_left = if moment.early { self.early_rows } else { 0 };
        let ids: Vec<SlotId> = self.emission_order();
        for id in ids {
            let closed = self.is_closed(id);
            if !closed && early_left == 0 {
                continue;
            }
            let slot = self.slots.get_mut(&id).expect("listed just now");
            let limit = if closed { usize::MAX } else { early_left };
            let emission = slot::Emission {
                id,
                closed,
                limit,
                position: self.position,
                aggregates_end: moment.aggregates_end,
            };
            let emitted = slot.emit(&self.plan, emission).await?;
            if !closed {
                early_left -= emitted.len().min(early_left);
            }
            rows.extend(emitted);
        }
        self.evict();
        if moment.early {
            self.reach.emitted(self.emitted_to());
        }
        Ok(Outputs { rows })
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

    /// Closed windows have no limit and come in any order; open ones share the early limit: longest unchanged first.
    fn emission_order(&self) -> Vec<SlotId> {
        let mut ids: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.needs_emission())
            .map(|(id, slot)| (slot.last_emitted, *id))
            .collect();
        ids.sort_unstable();
        let newly_closed =
            self.slots.iter().filter(|(id, slot)| !slot.closed && self.is_closed(**id)).map(|(id, _)| *id);
        let mut order: Vec<SlotId> = newly_closed.collect();
        order.extend(
            ids.into_iter().map(|(_, id)| id).filter(|id| self.slots[id].closed || !self.is_closed(*id)),
        );
        order
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
