//! One window at one start: the partial states of all its keys, and what was emitted of them.

use super::SlotId;
use crate::{
    aggregate,
    plan::{BUCKET, Key, Plan, PlanError, Totals, key_at, totals},
};
use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array},
    compute::{filter_record_batch, take_record_batch},
    datatypes::Int64Type,
};
use hashbrown::HashMap;
use millrace_schemas::{
    AggregateRow, EventTime, Window,
    aggregate::{Kind, VERSION},
};
use std::{collections::BTreeMap, sync::Arc};

/// States are merged into one batch when there are more than this many.
const BATCHES_MAX: usize = 16;
/// Column of the partial states: the state of `count(*)`.
const QUERY_COUNT: usize = 3;

#[derive(Debug)]
pub(super) struct Slot {
    states: Vec<RecordBatch>,
    /// There is one batch, with one row a key.
    is_merged: bool,
    keys: HashMap<Key, KeyState>,
    /// The oldest partials offset that contributed.
    pub(super) first_offset: i64,
    /// A lower bound of the aggregates offset of its first row; `None` before there was one.
    pub(super) first_row: Option<i64>,
    /// All keys have been emitted as final.
    pub(super) closed: bool,
    /// Keys that have changed since their last row.
    dirty: usize,
    /// Those of them of which late records came.
    late: usize,
    /// The position at the last emission, to take turns.
    pub(super) last_emitted: i64,
}

#[derive(Debug, Default)]
struct KeyState {
    /// Partials offset after the last contribution.
    changed: i64,
    /// Position of the last row emitted; 0 before there was one (a contribution's `changed` is at least 1).
    emitted: i64,
    /// Partials offset of the first contribution that is in no row; at most, after a restart. Only while it is dirty.
    dirty_since: i64,
    revision: i64,
    late_count: i64,
    /// Its last row was final.
    is_final: bool,
    /// Late records came since its last row: only the next one tells how many.
    has_late: bool,
}

impl KeyState {
    fn is_dirty(&self) -> bool {
        self.emitted < self.changed
    }
}

/// One emission of a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Emission {
    pub id: SlotId,
    pub closed: bool,
    /// The most rows, besides those that tell of late records: these can't wait, for after a restart nobody would know.
    pub limit: usize,
    pub position: i64,
    pub aggregates_end: i64,
}

impl Slot {
    pub(super) fn new(first_offset: i64) -> Self {
        Self {
            states: Vec::new(),
            is_merged: false,
            keys: HashMap::new(),
            first_offset,
            first_row: None,
            closed: false,
            dirty: 0,
            late: 0,
            last_emitted: 0,
        }
    }

    pub(super) fn add(&mut self, changed: i64, states: RecordBatch, late: bool) {
        for (key, count) in counts(&states) {
            let key = self.keys.entry(key).or_default();
            if !key.is_dirty() {
                key.dirty_since = changed - 1;
                self.dirty += 1;
            }
            key.changed = changed;
            if late {
                key.late_count += count;
                self.late += usize::from(!key.has_late);
                key.has_late = true;
            }
        }
        self.states.push(states);
        self.is_merged = false;
    }

    pub(super) fn restore_emitted(&mut self, offset: i64, row: &AggregateRow) {
        self.first_row = Some(self.first_row.map_or(offset, |first| first.min(offset)));
        let key = Key { workspace: row.workspace_id, service: row.service_id };
        if let Some(state) = self.keys.get_mut(&key)
            && row.revision > state.revision
        {
            let was_dirty = state.is_dirty();
            state.revision = row.revision;
            state.is_final = row.is_final;
            state.emitted = row.position;
            self.dirty -= usize::from(was_dirty && !state.is_dirty());
            state.dirty_since = state.dirty_since.max(row.position);
            state.late_count = row.late_count;
        }
    }

    /// The oldest partials offset that contributed to a key and is in no row.
    pub(super) fn dirty_since(&self) -> Option<i64> {
        if self.dirty == 0 {
            return None;
        }
        self.keys.values().filter(|key| key.is_dirty()).map(|key| key.dirty_since).min()
    }

    pub(super) fn needs_emission(&self) -> bool {
        self.dirty > 0
    }

    pub(super) fn has_late(&self) -> bool {
        self.late > 0
    }

    /// The rows of changed keys, and of a slot that has closed those of all keys that have no final one yet.
    pub(super) async fn emit(
        &mut self,
        plan: &Plan,
        emission: Emission,
    ) -> Result<Vec<AggregateRow>, PlanError> {
        self.compact(plan).await?;
        let Some(states) = self.states.first() else { return Ok(Vec::new()) };
        let (mut left, mut rest) = (emission.limit, false);
        let wanted: BooleanArray = (0..states.num_rows())
            .map(|row| {
                let key = &self.keys[&key_at(states, row)];
                let pending = key.is_dirty() || (emission.closed && !key.is_final);
                let wanted = pending && (left > 0 || key.has_late);
                rest |= pending && !wanted;
                left = left.saturating_sub(usize::from(wanted));
                Some(wanted)
            })
            .collect();
        self.closed = emission.closed && !rest;
        if wanted.true_count() == 0 {
            return Ok(Vec::new());
        }
        let states = filter_record_batch(states, &wanted).map_err(|error| failed(&error))?;
        let results = totals(&plan.finish(&[states]).await?)?;
        self.last_emitted = emission.position;
        self.first_row.get_or_insert(emission.aggregates_end);
        Ok(results.into_iter().map(|totals| self.row(totals, emission)).collect())
    }

    fn row(&mut self, totals: Totals, emission: Emission) -> AggregateRow {
        let state = self.keys.get_mut(&totals.key).expect("every state's key was entered when it was added");
        self.dirty -= usize::from(state.is_dirty());
        self.late -= usize::from(state.has_late);
        state.revision += 1;
        state.is_final = emission.closed;
        state.has_late = false;
        state.emitted = emission.position;
        AggregateRow {
            revision: state.revision,
            is_final: emission.closed,
            late_count: state.late_count,
            ..row_of(totals, emission.id, emission.position)
        }
    }

    /// Leaves one batch with one row a key.
    async fn compact(&mut self, plan: &Plan) -> Result<(), PlanError> {
        if !self.is_merged {
            self.states = vec![plan.merge(&self.states).await?];
            self.is_merged = true;
        }
        Ok(())
    }

    /// Keeps the memory of a slot that is not emitted bounded by its keys.
    pub(super) async fn compact_if_scattered(&mut self, plan: &Plan) -> Result<(), PlanError> {
        if self.states.len() > BATCHES_MAX { self.compact(plan).await } else { Ok(()) }
    }
}

/// The records in each row of partial states.
pub(super) fn counts(states: &RecordBatch) -> impl Iterator<Item = (Key, i64)> {
    let counts = states.column(QUERY_COUNT).as_primitive::<Int64Type>();
    (0..states.num_rows()).map(|row| (key_at(states, row), counts.value(row)))
}

/// Rows for windows that have left the memory, to be merged into what is stored.
pub(super) async fn delta_rows(
    plan: &Plan,
    window: Window,
    states: &[RecordBatch],
    position: i64,
) -> Result<Vec<AggregateRow>, PlanError> {
    let results = totals(&plan.finish(states).await?)?;
    let delta = |totals: Totals| {
        let id = (window, totals.bucket);
        AggregateRow {
            kind: Kind::Delta,
            revision: 1,
            is_final: true,
            late_count: totals.query_count,
            ..row_of(totals, id, position)
        }
    };
    Ok(results.into_iter().map(delta).collect())
}

fn row_of(totals: Totals, (window, start): SlotId, position: i64) -> AggregateRow {
    let mut row = AggregateRow {
        version: VERSION,
        kind: Kind::Row,
        workspace_id: totals.key.workspace,
        service_id: totals.key.service,
        window,
        window_start: start,
        query_count: totals.query_count,
        success_count: totals.success_count,
        failed_count: totals.failed_count,
        timeout_count: totals.timeout_count,
        cancelled_count: totals.cancelled_count,
        error_rate: 0.0,
        total_rows_affected: totals.total_rows_affected,
        duration_count: totals.duration_count,
        sum_duration_ms: totals.sum_duration_ms,
        avg_duration_ms: None,
        min_duration_ms: totals.min_duration_ms,
        max_duration_ms: totals.max_duration_ms,
        p50_duration_ms: None,
        p95_duration_ms: None,
        p99_duration_ms: None,
        revision: 0,
        is_final: false,
        late_count: 0,
        position,
        sketch: totals.sketch_text,
    };
    aggregate::derive(&mut row, &totals.sketch);
    row
}

/// Splits partial states by the windows they belong to: each row goes to one slot of every window size, with the start
/// of that window as its bucket.
pub(super) fn assign(states: &RecordBatch) -> Result<Vec<(SlotId, RecordBatch)>, PlanError> {
    let buckets = states.column(BUCKET).as_primitive::<Int64Type>();
    let mut slots = BTreeMap::<SlotId, Vec<u32>>::new();
    for (row, bucket) in (0_u32..).zip(buckets.values()) {
        for window in Window::ALL {
            slots.entry((window, window.start_of(EventTime(*bucket)))).or_default().push(row);
        }
    }
    slots.into_iter().map(|(id, rows)| Ok((id, in_slot(states, id, rows)?))).collect()
}

fn in_slot(states: &RecordBatch, (_, start): SlotId, rows: Vec<u32>) -> Result<RecordBatch, PlanError> {
    let part = take_record_batch(states, &UInt32Array::from(rows)).map_err(|error| failed(&error))?;
    let mut columns: Vec<ArrayRef> = part.columns().to_vec();
    columns[BUCKET] = Arc::new(Int64Array::from(vec![start.as_micros(); part.num_rows()]));
    RecordBatch::try_new(part.schema(), columns).map_err(|error| failed(&error))
}

fn failed(error: &arrow::error::ArrowError) -> PlanError {
    PlanError::Layout { found: error.to_string(), expected: "partial states".to_owned() }
}
