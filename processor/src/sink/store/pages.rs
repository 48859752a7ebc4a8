//! Walks through a window table by its key, in short statements: an embedded store serves nobody else during one.

use super::rows::Tables;
use chrono::{DateTime, Utc};
use millrace_schemas::{EventTime, Window};
use sqlx::{AssertSqlSafe, FromRow, PgPool};
use uuid::Uuid;

/// Where a walk through the rows of a workspace is: the last one that was seen.
#[derive(Clone, Copy, Debug, FromRow)]
pub(crate) struct Place {
    window_start: DateTime<Utc>,
    service_id: Uuid,
}

/// The next workspace after this one that has rows at all.
pub(crate) async fn next_workspace(
    pool: &PgPool,
    window: Window,
    after: Option<Uuid>,
) -> Result<Option<Uuid>, sqlx::Error> {
    let sql = format!(
        "SELECT workspace_id FROM {} WHERE $1::uuid IS NULL OR workspace_id > $1 ORDER BY workspace_id LIMIT 1",
        Tables::Live.name(window)
    );
    sqlx::query_scalar(AssertSqlSafe(sql)).bind(after).fetch_optional(pool).await
}

/// Copies the next rows of a workspace that start in `[from, to)`, `rows_max` of them at most; where it is then, or `None`
/// where there were none.
pub(crate) async fn copy_page(
    pool: &PgPool,
    copies: &Tables,
    window: Window,
    (workspace, from, to): (Uuid, EventTime, EventTime),
    (after, rows_max): (Option<Place>, usize),
) -> Result<Option<Place>, sqlx::Error> {
    let sql = format!(
        "WITH page AS (
             SELECT * FROM {} WHERE workspace_id = $1 AND window_start >= $2 AND window_start < $3
                 AND ($4::uuid IS NULL OR window_start > $2 OR service_id > $4)
             ORDER BY workspace_id, window_start, service_id LIMIT $5),
         copied AS (INSERT INTO {} SELECT * FROM page)
         SELECT window_start, service_id FROM page
             ORDER BY window_start DESC, service_id DESC LIMIT 1",
        Tables::Live.name(window),
        copies.name(window)
    );
    let start = after.map_or_else(|| DateTime::<Utc>::from(from), |place| place.window_start);
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(workspace)
        .bind(start)
        .bind(DateTime::<Utc>::from(to))
        .bind(after.map(|place| place.service_id))
        .bind(i64::try_from(rows_max).unwrap_or(i64::MAX))
        .fetch_optional(pool)
        .await
}
