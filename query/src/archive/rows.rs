//! From the archive's columns back to records.

use super::Error;
use crate::record::{Arrival, Record};
use datafusion::{
    arrow::{
        array::{
            Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch,
            StringArray, TimestampMicrosecondArray,
        },
        compute::cast,
        datatypes::{DataType, Field, TimeUnit},
    },
    error::DataFusionError,
    logical_expr::Expr,
    prelude::lit,
    scalar::ScalarValue,
};
use millrace_schemas::{EventTime, QueryMetric, RecordId, ServiceId, Status, WorkspaceId};
use serde::{
    Deserialize,
    de::{IntoDeserializer, value::Error as ValueError},
};
use std::sync::Arc;
use uuid::Uuid;

fn utc() -> Option<Arc<str>> {
    Some("UTC".into())
}

/// A time as a literal of the archive's type.
pub fn time(time: EventTime) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(time.as_micros()), utc()))
}

/// The columns of a batch, whatever encoding they were read in.
struct Columns {
    id: StringArray,
    workspace_id: StringArray,
    service_id: StringArray,
    query_text: StringArray,
    status: StringArray,
    duration_ms: Float64Array,
    rows_affected: Int64Array,
    error_message: StringArray,
    started_at: TimestampMicrosecondArray,
    completed_at: TimestampMicrosecondArray,
    ingest_time: TimestampMicrosecondArray,
    tags: ListArray,
    source_partition: Int32Array,
    source_offset: Int64Array,
}

/// The records of a batch.
pub fn records(batch: &RecordBatch) -> Result<Vec<Record>, Error> {
    let columns = Columns::of(batch)?;
    (0..batch.num_rows()).map(|row| columns.record(row)).collect()
}

impl Columns {
    fn of(batch: &RecordBatch) -> Result<Self, Error> {
        let text = |name| column(batch, name, &DataType::Utf8).map(|array| array.as_string().clone());
        let integer = |name| column(batch, name, &DataType::Int64).map(|array| array.as_primitive().clone());
        let time_type = DataType::Timestamp(TimeUnit::Microsecond, utc());
        let time = |name| column(batch, name, &time_type).map(|array| array.as_primitive().clone());
        let list_type = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
        Ok(Self {
            id: text("id")?,
            workspace_id: text("workspace_id")?,
            service_id: text("service_id")?,
            query_text: text("query_text")?,
            status: text("status")?,
            duration_ms: column(batch, "duration_ms", &DataType::Float64)?.as_primitive().clone(),
            rows_affected: integer("rows_affected")?,
            error_message: text("error_message")?,
            started_at: time("started_at")?,
            completed_at: time("completed_at")?,
            ingest_time: time("ingest_time")?,
            tags: column(batch, "tags", &list_type)?.as_list().clone(),
            source_partition: column(batch, "source_partition", &DataType::Int32)?.as_primitive().clone(),
            source_offset: integer("source_offset")?,
        })
    }

    fn record(&self, row: usize) -> Result<Record, Error> {
        let metric = QueryMetric {
            id: RecordId(uuid(&self.id, row, "id")?),
            workspace_id: WorkspaceId(uuid(&self.workspace_id, row, "workspace_id")?),
            service_id: ServiceId(uuid(&self.service_id, row, "service_id")?),
            query_text: self.query_text.value(row).to_owned(),
            status: status(self.status.value(row))?,
            duration_ms: self.duration_ms.is_valid(row).then(|| self.duration_ms.value(row)),
            rows_affected: self.rows_affected.is_valid(row).then(|| self.rows_affected.value(row)),
            error_message: self.error_message.is_valid(row).then(|| self.error_message.value(row).to_owned()),
            started_at: EventTime(self.started_at.value(row)),
            completed_at: EventTime(self.completed_at.value(row)),
            tags: self.tags.value(row).as_string::<i32>().iter().flatten().map(str::to_owned).collect(),
        };
        let arrival = Arrival {
            log_time: EventTime(self.ingest_time.value(row)),
            partition: self.source_partition.value(row),
            offset: self.source_offset.value(row),
        };
        Ok(Record::valid(&metric, arrival))
    }
}

fn column(batch: &RecordBatch, name: &'static str, to: &DataType) -> Result<ArrayRef, Error> {
    let found = batch.column_by_name(name).ok_or(Error::Column { column: name, source: None })?;
    cast(found, to)
        .map_err(|source| Error::Column { column: name, source: Some(DataFusionError::from(source)) })
}

fn uuid(column: &StringArray, row: usize, name: &'static str) -> Result<Uuid, Error> {
    Uuid::parse_str(column.value(row)).map_err(|_| Error::Column { column: name, source: None })
}

fn status(text: &str) -> Result<Status, Error> {
    let parsed: Result<_, ValueError> = Status::deserialize(text.into_deserializer());
    parsed.map_err(|_| Error::Column { column: "status", source: None })
}
