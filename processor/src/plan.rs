//! The aggregation, declared in SQL and planned by DataFusion: raw records to partial states ([`Partials`]), states to
//! states (`PartialReduce`), states to results (`Final`).

mod ddsketch;
mod partials;
mod raw;
mod results;

pub use partials::Partials;
pub use raw::Raw;
pub use results::{BUCKET, Key, Totals, key_at, totals};

use arrow::{
    array::RecordBatch,
    datatypes::{Schema, SchemaRef},
};
use datafusion::{
    catalog::memory::MemorySourceConfig,
    common::DataFusionError,
    execution::TaskContext,
    physical_plan::{
        ExecutionPlan,
        aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy},
        collect,
        udaf::AggregateFunctionExpr,
    },
    prelude::{SessionConfig, SessionContext},
};
use std::sync::Arc;

/// The built-in aggregates. `bucket` is the start of the window in microseconds.
const DECLARATION: &str = "
    SELECT bucket, workspace, service,
           count(*),
           count(*) FILTER (WHERE outcome = 1),
           count(*) FILTER (WHERE outcome = 2),
           count(*) FILTER (WHERE outcome = 3),
           count(*) FILTER (WHERE outcome = 4),
           sum(rows_affected),
           count(duration_ms),
           sum(duration_ms),
           min(duration_ms),
           max(duration_ms),
           ddsketch(duration_ms)
    FROM raw
    GROUP BY bucket, workspace, service";

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("planning the declared aggregates")]
    Declare(#[source] Box<DataFusionError>),
    #[error("the declared aggregates did not become one aggregation over the raw columns: {0}")]
    Shape(String),
    #[error("aggregating in mode {mode:?}")]
    Run {
        mode: AggregateMode,
        #[source]
        source: Box<DataFusionError>,
    },
    #[error("partial states of another layout: {found}; expected {expected}")]
    Layout { found: String, expected: String },
    #[error("the sketch in a result")]
    Sketch(#[from] crate::sketch::SketchError),
}

/// A planned aggregation. Cheap to clone.
#[derive(Clone)]
pub struct Plan {
    groups: PhysicalGroupBy,
    aggregates: Vec<Arc<AggregateFunctionExpr>>,
    filters: Vec<Option<Arc<dyn datafusion::physical_plan::PhysicalExpr>>>,
    states: SchemaRef,
    context: Arc<TaskContext>,
}

impl PlanError {
    fn run(mode: AggregateMode) -> impl Fn(DataFusionError) -> Self {
        move |source| Self::Run { mode, source: Box::new(source) }
    }
}

impl Plan {
    /// Plans the built-in aggregates.
    pub async fn declare() -> Result<Self, PlanError> {
        let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        session.register_udaf(ddsketch::function());
        let physical = physical_plan(&session).await.map_err(|error| PlanError::Declare(Box::new(error)))?;
        let aggregate =
            find_aggregate(&physical).ok_or_else(|| PlanError::Shape("no aggregation".to_owned()))?;
        if aggregate.input().schema().fields() != raw::schema().fields() {
            return Err(PlanError::Shape(format!("it reads {}", aggregate.input().schema())));
        }
        let partial = AggregateExec::try_new(
            AggregateMode::Partial,
            aggregate.group_expr().clone(),
            aggregate.aggr_expr().to_vec(),
            aggregate.filter_expr().to_vec(),
            Arc::clone(aggregate.input()),
            raw::schema(),
        );
        let partial = partial.map_err(PlanError::run(AggregateMode::Partial))?;
        Ok(Self {
            groups: aggregate.group_expr().clone(),
            aggregates: aggregate.aggr_expr().to_vec(),
            filters: aggregate.filter_expr().to_vec(),
            states: partial.schema(),
            context: session.task_ctx(),
        })
    }

    /// The schema of partial states: the group keys, then each aggregate's state.
    pub fn state_schema(&self) -> &SchemaRef {
        &self.states
    }

    /// Partial states to fewer partial states: one row a key.
    pub async fn merge(&self, states: &[RecordBatch]) -> Result<RecordBatch, PlanError> {
        self.run(AggregateMode::PartialReduce, states).await
    }

    /// Partial states to results: one row a key, to be read with [`totals`].
    pub async fn finish(&self, states: &[RecordBatch]) -> Result<RecordBatch, PlanError> {
        self.run(AggregateMode::Final, states).await
    }

    /// Refuses states that another layout of the aggregation wrote.
    pub fn check_layout(&self, found: &Schema) -> Result<(), PlanError> {
        let types = |schema: &Schema| {
            schema.fields().iter().map(|field| field.data_type().to_string()).collect::<Vec<_>>().join(", ")
        };
        let (found, expected) = (types(found), types(&self.states));
        if found == expected { Ok(()) } else { Err(PlanError::Layout { found, expected }) }
    }

    async fn run(&self, mode: AggregateMode, input: &[RecordBatch]) -> Result<RecordBatch, PlanError> {
        let failed = PlanError::run(mode);
        let operator = self.operator(mode, input)?;
        let schema = operator.schema();
        let batches = collect(operator, Arc::clone(&self.context)).await.map_err(&failed)?;
        arrow::compute::concat_batches(&schema, &batches).map_err(|error| failed(error.into()))
    }

    fn operator(
        &self,
        mode: AggregateMode,
        input: &[RecordBatch],
    ) -> Result<Arc<dyn ExecutionPlan>, PlanError> {
        let failed = PlanError::run(mode);
        let states = Arc::clone(&self.states);
        let source = MemorySourceConfig::try_new_exec(&[input.to_vec()], states, None).map_err(&failed)?;
        // A filter decides which raw records are taken; states have none left to filter.
        let filters = vec![None; self.filters.len()];
        let groups = self.groups.as_final();
        AggregateExec::try_new(mode, groups, self.aggregates.clone(), filters, source, raw::schema())
            .map(|operator| Arc::new(operator) as Arc<dyn ExecutionPlan>)
            .map_err(failed)
    }
}

async fn physical_plan(session: &SessionContext) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    session.register_batch("raw", RecordBatch::new_empty(raw::schema()))?;
    session.sql(DECLARATION).await?.create_physical_plan().await
}

fn find_aggregate(plan: &Arc<dyn ExecutionPlan>) -> Option<&AggregateExec> {
    let found = (plan.as_ref() as &dyn std::any::Any).downcast_ref::<AggregateExec>();
    found.or_else(|| plan.children().into_iter().find_map(find_aggregate))
}

#[cfg(test)]
mod tests;
