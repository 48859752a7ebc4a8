//! Raw records as columns: only what the aggregation reads.

use crate::{admission::Identity, record::Measured};
use arrow::{
    array::{
        ArrayRef, FixedSizeBinaryBuilder, Float64Builder, Int8Builder, Int64Array, Int64Builder, RecordBatch,
    },
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use millrace_schemas::{Status, Window};
use std::sync::{Arc, LazyLock};

const ID_BYTES: i32 = 16;

/// What is measured comes first: the aggregates find it by its place, also where the keys are not there.
static MEASURED: LazyLock<Vec<Field>> = LazyLock::new(|| {
    vec![
        Field::new("outcome", DataType::Int8, false),
        Field::new("rows_affected", DataType::Int64, true),
        Field::new("duration_ms", DataType::Float64, true),
    ]
});
static MEASURED_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| Arc::new(Schema::new(MEASURED.clone())));
static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let keys = [
        Field::new("bucket", DataType::Int64, false),
        Field::new("workspace", DataType::FixedSizeBinary(ID_BYTES), false),
        Field::new("service", DataType::FixedSizeBinary(ID_BYTES), false),
    ];
    Arc::new(Schema::new(MEASURED.iter().cloned().chain(keys).collect::<Vec<_>>()))
});

/// What the declaration is about.
pub(super) fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// What the aggregation groups by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RawKey {
    /// The start of the window, in microseconds.
    bucket: i64,
    workspace: u128,
    service: u128,
}

/// Collects raw records until they are aggregated.
#[derive(Default)]
pub struct Raw {
    keys: Vec<RawKey>,
    outcome: Int8Builder,
    rows_affected: Int64Builder,
    duration_ms: Float64Builder,
}

impl Raw {
    /// Adds a record that counts; one that still runs has no outcome and is left out.
    pub fn push(&mut self, identity: &Identity, measured: &Measured) {
        let Some(outcome) = outcome_code(measured.status) else { return };
        self.keys.push(RawKey {
            bucket: Window::ALL[0].start_of(identity.completed_at).as_micros(),
            workspace: identity.workspace.0.as_u128(),
            service: measured.service.0.as_u128(),
        });
        self.outcome.append_value(outcome);
        self.rows_affected.append_option(measured.rows_affected);
        self.duration_ms.append_option(measured.duration_ms);
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The records so far, their keys and what was measured; none are left.
    pub(crate) fn take(&mut self, keys: &mut Vec<RawKey>) -> RecordBatch {
        keys.clear();
        let count = self.len();
        // About as many come next time, and builders give their memory away.
        let next = Self {
            keys: std::mem::take(keys),
            outcome: Int8Builder::with_capacity(count),
            rows_affected: Int64Builder::with_capacity(count),
            duration_ms: Float64Builder::with_capacity(count),
        };
        let mut full = std::mem::replace(self, next);
        *keys = full.keys;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(full.outcome.finish()),
            Arc::new(full.rows_affected.finish()),
            Arc::new(full.duration_ms.finish()),
        ];
        RecordBatch::try_new(Arc::clone(&MEASURED_SCHEMA), columns)
            .expect("the builders are those of the schema, of one length")
    }
}

/// The columns of keys, as the declaration groups by them.
pub(super) fn key_columns(keys: &[RawKey]) -> [ArrayRef; 3] {
    let ids = |of: fn(&RawKey) -> u128| -> ArrayRef {
        let mut builder = FixedSizeBinaryBuilder::with_capacity(keys.len(), ID_BYTES);
        for key in keys {
            builder.append_value(of(key).to_be_bytes()).expect("an id has 16 bytes");
        }
        Arc::new(builder.finish())
    };
    let buckets: Int64Array = keys.iter().map(|key| key.bucket).collect();
    [Arc::new(buckets), ids(|key| key.workspace), ids(|key| key.service)]
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
