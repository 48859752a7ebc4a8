//! The window tables: the SQL and its columns, in one order everywhere.

use crate::{aggregate, sink::batch::Identity};
use chrono::{DateTime, Utc};
use millrace_schemas::{
    AggregateRow, EventTime, ServiceId, Window, WorkspaceId,
    aggregate::{Kind, VERSION},
};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgPool};
use std::collections::BTreeMap;
use uuid::Uuid;

macro_rules! upsert {
    ($table:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " AS t (workspace_id, service_id, window_start, query_count, success_count, failed_count, timeout_count,
                cancelled_count, total_rows_affected, duration_count, sum_duration_ms, min_duration_ms,
                max_duration_ms, p50_duration_ms, p95_duration_ms, p99_duration_ms, revision, is_final, late_count,
                sketch)
            SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::bigint[], $5::bigint[],
                $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::float8[], $12::float8[],
                $13::float8[], $14::float8[], $15::float8[], $16::float8[], $17::bigint[], $18::boolean[],
                $19::bigint[], $20::bytea[])
            ON CONFLICT (workspace_id, window_start, service_id) DO UPDATE SET
                (query_count, success_count, failed_count, timeout_count, cancelled_count, total_rows_affected,
                duration_count, sum_duration_ms, min_duration_ms, max_duration_ms, p50_duration_ms, p95_duration_ms,
                p99_duration_ms, revision, is_final, late_count, sketch)
                = (excluded.query_count, excluded.success_count, excluded.failed_count, excluded.timeout_count,
                excluded.cancelled_count, excluded.total_rows_affected, excluded.duration_count,
                excluded.sum_duration_ms, excluded.min_duration_ms, excluded.max_duration_ms,
                excluded.p50_duration_ms, excluded.p95_duration_ms, excluded.p99_duration_ms, excluded.revision,
                excluded.is_final, excluded.late_count, excluded.sketch)
            WHERE excluded.revision > t.revision"
        )
    };
}

macro_rules! between {
    ($table:literal) => {
        concat!(
            "SELECT * FROM ",
            $table,
            " WHERE window_start >= $1 AND window_start < $2 AND ($3::uuid IS NULL OR workspace_id = $3)
            ORDER BY workspace_id, window_start, service_id"
        )
    };
}

/// The bounds $4 and $5 say what the join can't: which chunks to look at.
macro_rules! lock {
    ($table:literal) => {
        concat!(
            "SELECT t.* FROM ",
            $table,
            " AS t JOIN unnest($1::uuid[], $2::timestamptz[], $3::uuid[]) AS k (workspace_id, window_start, service_id)
                USING (workspace_id, window_start, service_id)
            WHERE t.window_start BETWEEN $4 AND $5
            ORDER BY workspace_id, window_start, service_id
            FOR UPDATE OF t"
        )
    };
}

/// Which window tables: those that are read, or copies of them, named `PREFIX_5s` and so on.
#[derive(Clone, Debug)]
pub(crate) enum Tables {
    Live,
    Copies(String),
}

impl Tables {
    pub(crate) fn name(&self, window: Window) -> String {
        match self {
            Self::Live => format!("aggregates_{window}"),
            Self::Copies(prefix) => format!("{prefix}_{window}"),
        }
    }

    /// `live` as it is, or the same of the copy. Prefixes are made by the program.
    fn sql(&self, live: &'static str) -> AssertSqlSafe<String> {
        AssertSqlSafe(match self {
            Self::Live => live.to_owned(),
            Self::Copies(prefix) => live.replace("aggregates_", &format!("{prefix}_")),
        })
    }
}

fn upsert_sql(window: Window) -> &'static str {
    match window {
        Window::FiveSeconds => upsert!("aggregates_5s"),
        Window::OneMinute => upsert!("aggregates_1m"),
        Window::FiveMinutes => upsert!("aggregates_5m"),
    }
}

fn lock_sql(window: Window) -> &'static str {
    match window {
        Window::FiveSeconds => lock!("aggregates_5s"),
        Window::OneMinute => lock!("aggregates_1m"),
        Window::FiveMinutes => lock!("aggregates_5m"),
    }
}

fn between_sql(window: Window) -> &'static str {
    match window {
        Window::FiveSeconds => between!("aggregates_5s"),
        Window::OneMinute => between!("aggregates_1m"),
        Window::FiveMinutes => between!("aggregates_5m"),
    }
}

/// Inserts `rows`, all of them of `window` and of different identities, or replaces those stored with a lower revision.
/// Returns how many.
pub async fn upsert(
    connection: &mut PgConnection,
    tables: &Tables,
    window: Window,
    rows: &[&AggregateRow],
) -> Result<u64, sqlx::Error> {
    fn column<T>(rows: &[&AggregateRow], value: impl Fn(&AggregateRow) -> T) -> Vec<T> {
        rows.iter().map(|row| value(row)).collect()
    }
    let sketches: Result<Vec<_>, _> = rows.iter().map(|row| aggregate::sketch_bytes(&row.sketch)).collect();
    let query = sqlx::query(tables.sql(upsert_sql(window)))
        .bind(column(rows, |row| row.workspace_id.0))
        .bind(column(rows, |row| row.service_id.0))
        .bind(column(rows, |row| DateTime::<Utc>::from(row.window_start)))
        .bind(column(rows, |row| row.query_count))
        .bind(column(rows, |row| row.success_count))
        .bind(column(rows, |row| row.failed_count))
        .bind(column(rows, |row| row.timeout_count))
        .bind(column(rows, |row| row.cancelled_count))
        .bind(column(rows, |row| row.total_rows_affected))
        .bind(column(rows, |row| row.duration_count))
        .bind(column(rows, |row| row.sum_duration_ms))
        .bind(column(rows, |row| row.min_duration_ms))
        .bind(column(rows, |row| row.max_duration_ms))
        .bind(column(rows, |row| row.p50_duration_ms))
        .bind(column(rows, |row| row.p95_duration_ms))
        .bind(column(rows, |row| row.p99_duration_ms))
        .bind(column(rows, |row| row.revision))
        .bind(column(rows, |row| row.is_final))
        .bind(column(rows, |row| row.late_count))
        .bind(sketches.map_err(|error| sqlx::Error::Encode(error.into()))?);
    Ok(query.execute(connection).await?.rows_affected())
}

/// The stored rows of `identities`, all of them of `window`, locked until the transaction ends.
pub async fn lock(
    connection: &mut PgConnection,
    tables: &Tables,
    window: Window,
    identities: &[Identity],
) -> Result<BTreeMap<Identity, AggregateRow>, sqlx::Error> {
    let starts: Vec<DateTime<Utc>> = identities.iter().map(|id| id.start.into()).collect();
    let rows: Vec<StoredRow> = sqlx::query_as(tables.sql(lock_sql(window)))
        .bind(identities.iter().map(|id| id.workspace.0).collect::<Vec<_>>())
        .bind(&starts)
        .bind(identities.iter().map(|id| id.service.0).collect::<Vec<_>>())
        .bind(starts.iter().min())
        .bind(starts.iter().max())
        .fetch_all(connection)
        .await?;
    let rows = rows.into_iter().map(|row| row.into_row(window));
    Ok(rows.map(|row| (Identity::from(&row), row)).collect())
}

/// The rows that start in `[from, to)`, in the order of their identities; of one workspace or of all.
pub(crate) async fn between(
    pool: &PgPool,
    tables: &Tables,
    window: Window,
    (from, to, workspace): (EventTime, EventTime, Option<WorkspaceId>),
) -> Result<Vec<AggregateRow>, sqlx::Error> {
    let rows: Vec<StoredRow> = sqlx::query_as(tables.sql(between_sql(window)))
        .bind(DateTime::<Utc>::from(from))
        .bind(DateTime::<Utc>::from(to))
        .bind(workspace.map(|workspace| workspace.0))
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().map(|row| row.into_row(window)).collect())
}

#[derive(FromRow)]
struct StoredRow {
    workspace_id: Uuid,
    service_id: Uuid,
    window_start: DateTime<Utc>,
    query_count: i64,
    success_count: i64,
    failed_count: i64,
    timeout_count: i64,
    cancelled_count: i64,
    total_rows_affected: Option<i64>,
    duration_count: i64,
    sum_duration_ms: Option<f64>,
    min_duration_ms: Option<f64>,
    max_duration_ms: Option<f64>,
    p50_duration_ms: Option<f64>,
    p95_duration_ms: Option<f64>,
    p99_duration_ms: Option<f64>,
    revision: i64,
    is_final: bool,
    late_count: i64,
    sketch: Vec<u8>,
}

impl StoredRow {
    /// What the table does not hold follows from the rest when the row is merged.
    fn into_row(self, window: Window) -> AggregateRow {
        AggregateRow {
            version: VERSION,
            kind: Kind::Row,
            workspace_id: WorkspaceId(self.workspace_id),
            service_id: ServiceId(self.service_id),
            window,
            window_start: EventTime::from(self.window_start),
            query_count: self.query_count,
            success_count: self.success_count,
            failed_count: self.failed_count,
            timeout_count: self.timeout_count,
            cancelled_count: self.cancelled_count,
            error_rate: 0.0,
            total_rows_affected: self.total_rows_affected,
            duration_count: self.duration_count,
            sum_duration_ms: self.sum_duration_ms,
            avg_duration_ms: None,
            min_duration_ms: self.min_duration_ms,
            max_duration_ms: self.max_duration_ms,
            p50_duration_ms: self.p50_duration_ms,
            p95_duration_ms: self.p95_duration_ms,
            p99_duration_ms: self.p99_duration_ms,
            revision: self.revision,
            is_final: self.is_final,
            late_count: self.late_count,
            position: 0,
            sketch: aggregate::encode_sketch(&self.sketch),
        }
    }
}
