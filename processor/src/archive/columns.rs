//! Records as Arrow columns: the schema of the archive's files. Pure.

use super::chunk::Row;
use arrow::{
    array::{
        ArrayRef, Float64Array, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
        TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
};
use millrace_schemas::EventTime;
use std::sync::{Arc, LazyLock};

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

/// Ids are hyphenated text; times are microseconds in UTC; `ingest_time` is the log's append time.
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// `rows`, all of them of `partition`, in their order.
pub fn record_batch(rows: &[Row], partition: i32) -> Result<RecordBatch, ArrowError> {
    let columns: Vec<ArrayRef> = vec![
        texts(rows, |row| row.metric.id.to_string()),
        texts(rows, |row| row.metric.workspace_id.to_string()),
        texts(rows, |row| row.metric.service_id.to_string()),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.metric.query_text))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.metric.status.as_str()))),
        Arc::new(rows.iter().map(|row| row.metric.duration_ms).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.metric.rows_affected).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.metric.error_message.as_deref()).collect::<StringArray>()),
        times(rows, |row| row.metric.started_at),
        times(rows, |row| row.metric.completed_at),
        times(rows, |row| row.ingest_time),
        tags(rows),
        Arc::new(Int32Array::from_value(partition, rows.len())),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.offset))),
    ];
    RecordBatch::try_new(schema(), columns)
}

fn texts(rows: &[Row], value: impl Fn(&Row) -> String) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(value)))
}

fn times(rows: &[Row], value: impl Fn(&Row) -> EventTime) -> ArrayRef {
    let micros = rows.iter().map(|row| value(row).as_micros());
    Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
}

fn tags(rows: &[Row]) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in rows {
        row.metric.tags.iter().for_each(|tag| lists.values().append_value(tag));
        lists.append(true);
    }
    Arc::new(lists.finish())
}
