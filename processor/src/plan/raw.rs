//! Raw records as an Arrow batch: only the columns that the aggregation reads.

use crate::{admission::Identity, record::Measured};
use arrow::{
    array::{ArrayRef, FixedSizeBinaryBuilder, Float64Builder, Int8Builder, Int64Builder, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use millrace_schemas::{Status, Window};
use std::sync::{Arc, LazyLock};

pub(super) const ID_BYTES: i32 = 16;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("bucket", DataType::Int64, false),
        Field::new("workspace", DataType::FixedSizeBinary(ID_BYTES), false),
        Field::new("service", DataType::FixedSizeBinary(ID_BYTES), false),
        Field::new("outcome", DataType::Int8, false),
        Field::new("rows_affected", DataType::Int64, true),
        Field::new("duration_ms", DataType::Float64, true),
    ]))
});

pub(super) fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// A finished batch of raw records, for [`super::Plan::partial`].
pub type RawBatch = RecordBatch;

/// Collects raw records column by column.
pub struct Raw {
    bucket: Int64Builder,
    workspace: FixedSizeBinaryBuilder,
    service: FixedSizeBinaryBuilder,
    outcome: Int8Builder,
    rows_affected: Int64Builder,
    duration_ms: Float64Builder,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            bucket: Int64Builder::new(),
            workspace: FixedSizeBinaryBuilder::new(ID_BYTES),
            service: FixedSizeBinaryBuilder::new(ID_BYTES),
            outcome: Int8Builder::new(),
            rows_affected: Int64Builder::new(),
            duration_ms: Float64Builder::new(),
        }
    }
}

impl Raw {
    /// Adds a record that counts; one that still runs has no outcome and is left out.
    pub fn push(&mut self, identity: &Identity, measured: &Measured) {
        let Some(outcome) = outcome_code(measured.status) else { return };
        self.bucket.append_value(Window::ALL[0].start_of(identity.completed_at).as_micros());
        append_id(&mut self.workspace, identity.workspace.0.as_bytes());
        append_id(&mut self.service, measured.service.0.as_bytes());
        self.outcome.append_value(outcome);
        self.rows_affected.append_option(measured.rows_affected);
        self.duration_ms.append_option(measured.duration_ms);
    }

    pub fn is_empty(&self) -> bool {
        use arrow::array::ArrayBuilder as _;
        self.bucket.is_empty()
    }

    /// The records so far as a batch; the builder is empty again.
    pub fn take(&mut self) -> RawBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.bucket.finish()),
            Arc::new(self.workspace.finish()),
            Arc::new(self.service.finish()),
            Arc::new(self.outcome.finish()),
            Arc::new(self.rows_affected.finish()),
            Arc::new(self.duration_ms.finish()),
        ];
        RecordBatch::try_new(schema(), columns).expect("the builders are those of the schema, of one length")
    }
}

fn append_id(builder: &mut FixedSizeBinaryBuilder, id: &[u8; 16]) {
    builder.append_value(id).expect("an id has 16 bytes");
}

/// As the declaration's filters name them.
fn outcome_code(status: Status) -> Option<i8> {
    match status {
        Status::Running => None,
        Status::Success => Some(1),
        Status::Failed => Some(2),
        Status::Timeout => Some(3),
        Status::Cancelled => Some(4),
    }
}
