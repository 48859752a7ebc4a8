//! Raw records to partial states, a block at a time: what is aggregated is still in the caches, and what is kept is a state
//! a key, however many records there are.
//!
//! The aggregates and their filters are the plan's, and so are the states. Only the grouping is our own: the operator of
//! DataFusion encodes three columns into bytes for each record, to look these up.

use super::{
    Plan, PlanError,
    raw::{Raw, RawKey, key_columns},
};
use arrow::array::{ArrayRef, RecordBatch};
use datafusion::{
    common::{Result, cast::as_boolean_array},
    logical_expr::{EmitTo, GroupsAccumulator},
    physical_plan::{PhysicalExpr, aggregates::AggregateMode},
};
use hashbrown::HashMap;
use std::sync::Arc;

/// The aggregation of one transaction.
pub struct Partials {
    plan: Plan,
    groups: HashMap<RawKey, usize>,
    /// By group.
    keys: Vec<RawKey>,
    aggregates: Vec<Aggregate>,
    /// Of the block; kept for their memory.
    block_keys: Vec<RawKey>,
    block_groups: Vec<usize>,
}

struct Aggregate {
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    accumulator: Box<dyn GroupsAccumulator>,
}

impl Plan {
    /// Raw records to partial states.
    pub fn partial(&self, raw: &mut Raw) -> Result<RecordBatch, PlanError> {
        let mut partials = self.partials()?;
        partials.add(raw)?;
        partials.states()
    }

    /// The same with records that come bit by bit.
    pub fn partials(&self) -> Result<Partials, PlanError> {
        let aggregates = self.aggregates.iter().zip(&self.filters).map(|(function, filter)| {
            Ok(Aggregate {
                arguments: function.expressions(),
                filter: filter.clone(),
                accumulator: function.create_groups_accumulator()?,
            })
        });
        Ok(Partials {
            plan: self.clone(),
            groups: HashMap::new(),
            keys: Vec::new(),
            aggregates: aggregates.collect::<Result<_>>().map_err(PlanError::run(AggregateMode::Partial))?,
            block_keys: Vec::new(),
            block_groups: Vec::new(),
        })
    }
}

impl Partials {
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Adds the records that were collected.
    pub fn add(&mut self, raw: &mut Raw) -> Result<(), PlanError> {
        if raw.is_empty() {
            return Ok(());
        }
        let measured = raw.take(&mut self.block_keys);
        self.block_groups.clear();
        for key in &self.block_keys {
            let group = *self.groups.entry(*key).or_insert_with(|| {
                self.keys.push(*key);
                self.keys.len() - 1
            });
            self.block_groups.push(group);
        }
        let (groups, total) = (self.block_groups.as_slice(), self.keys.len());
        let added =
            self.aggregates.iter_mut().try_for_each(|aggregate| aggregate.add(&measured, groups, total));
        added.map_err(PlanError::run(AggregateMode::Partial))
    }

    /// The states of all, one row a key; nothing is left.
    pub fn states(&mut self) -> Result<RecordBatch, PlanError> {
        let failed = PlanError::run(AggregateMode::Partial);
        let mut columns = Vec::from(key_columns(&self.keys));
        for aggregate in &mut self.aggregates {
            match aggregate.accumulator.state(EmitTo::All) {
                Ok(states) => columns.extend(states),
                Err(error) => return Err(failed(error)),
            }
        }
        self.keys.clear();
        self.groups.clear();
        RecordBatch::try_new(Arc::clone(&self.plan.states), columns).map_err(|error| failed(error.into()))
    }
}

impl Aggregate {
    fn add(&mut self, measured: &RecordBatch, groups: &[usize], total: usize) -> Result<()> {
        let column = |expression: &Arc<dyn PhysicalExpr>| -> Result<ArrayRef> {
            expression.evaluate(measured)?.into_array(measured.num_rows())
        };
        let arguments = self.arguments.iter().map(column).collect::<Result<Vec<_>>>()?;
        let filter = self.filter.as_ref().map(column).transpose()?;
        let filter = filter.as_ref().map(|filter| as_boolean_array(filter)).transpose()?;
        self.accumulator.update_batch(&arguments, groups, filter, total)
    }
}
