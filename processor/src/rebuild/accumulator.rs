//! Counted records become deltas of rows, by the aggregation of the stages, in bounded memory: a chunk of records, then
//! partial states, and when these are many, rows that are merged into the shadow tables.

use super::{Error, tables::Shadows};
use crate::{
    admission::Identity,
    plan::{Plan, Raw},
    record::Measured,
    window,
};
use arrow::array::RecordBatch;
use std::mem::take;

/// Records aggregated at once.
const CHUNK_RECORDS: usize = 65_536;
/// Batches of states that are merged into one.
const BATCHES_MAX: usize = 16;
/// States (of a service in 5 s) that are held; past it they become rows.
const STATES_MAX: usize = 50_000;

pub(super) struct Accumulator {
    plan: Plan,
    raw: Raw,
    records: usize,
    states: Vec<RecordBatch>,
}

impl Accumulator {
    pub(super) fn new(plan: Plan) -> Self {
        Self { plan, raw: Raw::default(), records: 0, states: Vec::new() }
    }

    /// Adds a record that counts; true when it is time to [`Self::condense`].
    pub(super) fn push(&mut self, identity: &Identity, measured: &Measured) -> bool {
        self.raw.push(identity, measured);
        self.records += 1;
        self.records >= CHUNK_RECORDS
    }

    /// Records become states, and these fewer states, or rows.
    pub(super) async fn condense(&mut self, shadows: &Shadows) -> Result<(), Error> {
        self.records = 0;
        if !self.raw.is_empty() {
            self.states.push(self.plan.partial(&mut self.raw)?);
        }
        if self.held() > STATES_MAX || self.states.len() > BATCHES_MAX {
            self.states = vec![self.plan.merge(&take(&mut self.states)).await?];
        }
        if self.held() > STATES_MAX { self.flush(shadows).await } else { Ok(()) }
    }

    /// Nothing is held after it.
    pub(super) async fn finish(&mut self, shadows: &Shadows) -> Result<(), Error> {
        self.condense(shadows).await?;
        self.flush(shadows).await
    }

    async fn flush(&mut self, shadows: &Shadows) -> Result<(), Error> {
        if self.states.is_empty() {
            return Ok(());
        }
        let states = self.plan.merge(&take(&mut self.states)).await?;
        let deltas = window::deltas(&self.plan, &states).await?;
        shadows.add(&deltas).await
    }

    fn held(&self) -> usize {
        self.states.iter().map(RecordBatch::num_rows).sum()
    }
}
