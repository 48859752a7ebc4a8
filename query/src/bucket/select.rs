//! Reads the rows of a window table between two times, whole buckets at a time.

use super::Bucket;
use chrono::{DateTime, Utc};
use millrace_schemas::{EventTime, ServiceId, Window, WorkspaceId};
use sqlx::{PgConnection, Row, postgres::PgRow};

/// Which rows are wanted; the times bound the bucket's start, `from` inclusive, `to` exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    pub workspace: WorkspaceId,
    pub service: Option<ServiceId>,
    pub window: Window,
    pub from: EventTime,
    pub to: EventTime,
}

/// Rows by bucket, then service.
#[derive(Debug, PartialEq)]
pub struct Page {
    pub buckets: Vec<Bucket>,
    /// The first bucket that did not fit; none if these are all.
    pub next_from: Option<EventTime>,
}

/// The statements of one window's table.
struct Statements {
    page: &'static str,
    next: &'static str,
}

/// The window's rows up to a number of them, and those that share the last one's bucket; then where the rest begins.
macro_rules! statements {
    ($table:literal) => {
        Statements {
            page: concat!(
                "SELECT * FROM (SELECT workspace_id, service_id, window_start, query_count, success_count, failed_count, ",
                "timeout_count, cancelled_count, total_rows_affected, duration_count, sum_duration_ms, min_duration_ms, ",
                "max_duration_ms, p50_duration_ms, p95_duration_ms, p99_duration_ms, revision, is_final, late_count FROM ",
                $table,
                " WHERE workspace_id = $1 AND window_start >= $2 AND window_start < $3",
                " AND ($4::uuid IS NULL OR service_id = $4) ORDER BY window_start FETCH FIRST $5 ROWS WITH TIES) AS page",
                " ORDER BY window_start, service_id"
            ),
            next: concat!(
                "SELECT min(window_start) FROM ",
                $table,
                " WHERE workspace_id = $1 AND window_start > $2 AND window_start < $3",
                " AND ($4::uuid IS NULL OR service_id = $4)"
            ),
        }
    };
}

fn statements(window: Window) -> Statements {
    match window {
        Window::FiveSeconds => statements!("aggregates_5s"),
        Window::OneMinute => statements!("aggregates_1m"),
        Window::FiveMinutes => statements!("aggregates_5m"),
    }
}

/// At most `rows_max` rows, but never less than one bucket, and never a part of one.
pub async fn select(
    connection: &mut PgConnection,
    selection: &Selection,
    rows_max: usize,
) -> Result<Page, sqlx::Error> {
    let statements = statements(selection.window);
    let rows = sqlx::query(statements.page)
        .bind(selection.workspace.0)
        .bind(DateTime::<Utc>::from(selection.from))
        .bind(DateTime::<Utc>::from(selection.to))
        .bind(selection.service.map(|service| service.0))
        .bind(i64::try_from(rows_max).unwrap_or(i64::MAX))
        .fetch_all(&mut *connection)
        .await?;
    let buckets = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let next_from = match buckets.last() {
        Some(last) if buckets.len() >= rows_max => {
            next(connection, statements.next, selection, last.bucket).await?
        }
        _ => None,
    };
    Ok(Page { buckets, next_from })
}

async fn next(
    connection: &mut PgConnection,
    statement: &'static str,
    selection: &Selection,
    last: EventTime,
) -> Result<Option<EventTime>, sqlx::Error> {
    let next: Option<DateTime<Utc>> = sqlx::query_scalar(statement)
        .bind(selection.workspace.0)
        .bind(DateTime::<Utc>::from(last))
        .bind(DateTime::<Utc>::from(selection.to))
        .bind(selection.service.map(|service| service.0))
        .fetch_one(connection)
        .await?;
    Ok(next.map(EventTime::from))
}

fn read(row: &PgRow) -> Result<Bucket, sqlx::Error> {
    let bucket = Bucket {
        workspace_id: WorkspaceId(row.try_get("workspace_id")?),
        service_id: ServiceId(row.try_get("service_id")?),
        bucket: row.try_get::<DateTime<Utc>, _>("window_start")?.into(),
        query_count: row.try_get("query_count")?,
        avg_duration_ms: None,
        min_duration_ms: row.try_get("min_duration_ms")?,
        max_duration_ms: row.try_get("max_duration_ms")?,
        p50_duration_ms: row.try_get("p50_duration_ms")?,
        p95_duration_ms: row.try_get("p95_duration_ms")?,
        p99_duration_ms: row.try_get("p99_duration_ms")?,
        sum_duration_ms: row.try_get("sum_duration_ms")?,
        duration_count: row.try_get("duration_count")?,
        success_count: row.try_get("success_count")?,
        failed_count: row.try_get("failed_count")?,
        timeout_count: row.try_get("timeout_count")?,
        cancelled_count: row.try_get("cancelled_count")?,
        error_rate: 0.0,
        total_rows_affected: row.try_get("total_rows_affected")?,
        revision: row.try_get("revision")?,
        is_final: row.try_get("is_final")?,
        late_count: row.try_get("late_count")?,
    };
    Ok(bucket.derive())
}
