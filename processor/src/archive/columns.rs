//! Records as Arrow columns: the schema of the archive's files. Pure.

use super::chunk::{Row, Rows};
use crate::{
    admission::Identity,
    record::{Measured, Texts},
};
use arrow::{
    array::{
        Array, ArrayRef, Float64Array, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray,
        StringBuilder, TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
};
use millrace_schemas::{EventTime, Status};
use std::sync::{Arc, LazyLock};
use uuid::{Uuid, fmt::Hyphenated};

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name| Field::new(name, DataType::Utf8, false);
    let time = |name| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false);
    Arc::new(Schema::new(vec![
        text("id"),
        text("workspace_id"),
        text("service_id"),
        text("query_text"),
        text("status"),
        Field::new("duration_ms", DataType::Float64, true),
        Field::new("rows_affected", DataType::Int64, true),
        Field::new("error_message", DataType::Utf8, true),
        time("started_at"),
        time("completed_at"),
        time("ingest_time"),
        Field::new("tags", DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))), false),
        Field::new("source_partition", DataType::Int32, false),
        Field::new("source_offset", DataType::Int64, false),
    ]))
});

/// What is counted of an archived record, and where it came from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Archived {
    pub offset: i64,
    pub identity: Identity,
    pub measured: Measured,
}

impl Archived {
    /// The columns that [`archived`] reads.
    pub const COLUMNS: [&str; 8] = [
        "id",
        "workspace_id",
        "service_id",
        "status",
        "duration_ms",
        "rows_affected",
        "completed_at",
        "source_offset",
    ];
}

/// The records of a batch that has at least [`Archived::COLUMNS`]; `None` if something is not as this program writes it.
pub fn archived(batch: &RecordBatch) -> Option<Vec<Archived>> {
    fn column<'b, T: 'static>(batch: &'b RecordBatch, name: &str) -> Option<&'b T> {
        batch.column_by_name(name)?.as_any().downcast_ref()
    }
    let text = |name| column::<StringArray>(batch, name);
    let (ids, workspaces, services, statuses) =
        (text("id")?, text("workspace_id")?, text("service_id")?, text("status")?);
    let durations: &Float64Array = column(batch, "duration_ms")?;
    let rows_affected: &Int64Array = column(batch, "rows_affected")?;
    let times: &TimestampMicrosecondArray = column(batch, "completed_at")?;
    let offsets: &Int64Array = column(batch, "source_offset")?;
    let record = |row: usize| {
        let status = status(statuses.value(row))?;
        let identity = Identity {
            workspace: workspaces.value(row).parse().ok()?,
            id: ids.value(row).parse().ok()?,
            completed_at: EventTime(times.value(row)),
            running: status == Status::Running,
        };
        let measured = Measured {
            service: services.value(row).parse().ok()?,
            status,
            duration_ms: durations.is_valid(row).then(|| durations.value(row)),
            rows_affected: rows_affected.is_valid(row).then(|| rows_affected.value(row)),
        };
        Some(Archived { offset: offsets.value(row), identity, measured })
    };
    (0..batch.num_rows()).map(record).collect()
}

fn status(text: &str) -> Option<Status> {
    use Status::{Cancelled, Failed, Running, Success, Timeout};
    [Success, Failed, Timeout, Cancelled, Running].into_iter().find(|status| status.as_str() == text)
}

/// Ids are hyphenated text; times are microseconds in UTC; `ingest_time` is the log's append time.
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// `rows`, all of them of `partition`, in their order.
pub fn record_batch(Rows { rows, texts }: Rows<'_>, partition: i32) -> Result<RecordBatch, ArrowError> {
    let columns: Vec<ArrayRef> = vec![
        ids(rows, |row| row.archived.identity.id.0),
        ids(rows, |row| row.archived.identity.workspace.0),
        ids(rows, |row| row.archived.measured.service.0),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| texts.query_text(row.strings)))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.archived.measured.status.as_str()))),
        Arc::new(rows.iter().map(|row| row.archived.measured.duration_ms).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.archived.measured.rows_affected).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| texts.error_message(row.strings)).collect::<StringArray>()),
        times(rows, |row| row.started_at),
        times(rows, |row| row.archived.identity.completed_at),
        times(rows, |row| row.ingest_time),
        tags(rows, texts),
        Arc::new(Int32Array::from_value(partition, rows.len())),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.archived.offset))),
    ];
    RecordBatch::try_new(schema(), columns)
}

fn ids(rows: &[Row], id: impl Fn(&Row) -> Uuid) -> ArrayRef {
    let mut texts = StringBuilder::with_capacity(rows.len(), rows.len() * Hyphenated::LENGTH);
    let mut buffer = Uuid::encode_buffer();
    rows.iter().for_each(|row| texts.append_value(id(row).hyphenated().encode_lower(&mut buffer)));
    Arc::new(texts.finish())
}

fn times(rows: &[Row], value: impl Fn(&Row) -> EventTime) -> ArrayRef {
    let micros = rows.iter().map(|row| value(row).as_micros());
    Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
}

fn tags(rows: &[Row], texts: &Texts) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in rows {
        texts.tags(row.strings).for_each(|tag| lists.values().append_value(tag));
        lists.append(true);
    }
    Arc::new(lists.finish())
}
