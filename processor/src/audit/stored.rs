//! What the database has: sums of the rows of 5 s, the ledger, and how far both are.

use super::{Error, cells::Cells, minutes::Row};
use crate::{plan::Key, sink::store::pages};
use chrono::{DateTime, TimeDelta, Utc};
use millrace_schemas::{
    EventTime, ServiceId, Window, WorkspaceId,
    ledger::{Counts, DeadLettered, Minute},
};
use sqlx::{FromRow, PgPool};
use std::collections::BTreeMap;
use uuid::Uuid;

/// How much event time, or how many minutes of arrival, one statement looks at: an embedded store serves nobody else
/// meanwhile.
const ROWS_STEP: TimeDelta = TimeDelta::hours(1);
const LEDGER_STEP: TimeDelta = TimeDelta::hours(1);

const NEXT_ROW: &str = "SELECT window_start FROM aggregates_5s
     WHERE workspace_id = $1 AND window_start >= $2 ORDER BY window_start LIMIT 1";
/// Of workspace $4, by buckets of $1 seconds since the epoch, in `[$2, $3)`.
const ROWS: &str = "SELECT service_id,
        floor(extract(epoch FROM window_start) / $1::bigint)::bigint AS bucket, sum(query_count)::bigint AS queries
     FROM aggregates_5s WHERE workspace_id = $4 AND window_start >= $2 AND window_start < $3 GROUP BY 1, 2";
const NEXT_MINUTE: &str = "SELECT least((SELECT min(minute) FROM ledger_minutes WHERE minute >= $1),
        (SELECT min(minute) FROM ledger_edges WHERE minute >= $1))";
const LEDGER: &str =
    "SELECT workspace_id, minute, accepted, from_edge, read, counted, running, duplicate, invalid,
        unknown_workspace, future, late, backfilled, archived FROM ledger WHERE minute >= $1 AND minute < $2";
const POSITIONS: &str = "SELECT stage, partition, next_offset, since FROM ledger_positions WHERE topic = $1";

/// Adds what is stored to the cells.
pub(super) async fn rows(pool: &PgPool, cells: &mut Cells) -> Result<(), Error> {
    let mut after = None;
    while let Some(workspace) =
        pages::next_workspace(pool, Window::FiveSeconds, after).await.map_err(summing_up)?
    {
        rows_of(pool, workspace, cells).await.map_err(summing_up)?;
        after = Some(workspace);
    }
    Ok(())
}

fn summing_up(source: sqlx::Error) -> Error {
    Error::Database { doing: "summing up the rows of 5 s", source }
}

async fn rows_of(pool: &PgPool, workspace: Uuid, cells: &mut Cells) -> Result<(), sqlx::Error> {
    let width = cells.width_s();
    let from = EventTime(cells.first().saturating_mul(width * 1_000_000));
    let mut from = DateTime::<Utc>::from(from.max(EventTime(EARLIEST)));
    // What has no rows is passed over: a backfill may be years ago.
    while let Some(start) = sqlx::query_scalar::<_, DateTime<Utc>>(NEXT_ROW)
        .bind(workspace)
        .bind(from)
        .fetch_optional(pool)
        .await?
    {
        let end = start + ROWS_STEP;
        let sums: Vec<(Uuid, i64, i64)> =
            sqlx::query_as(ROWS).bind(width).bind(start).bind(end).bind(workspace).fetch_all(pool).await?;
        for (service, bucket, count) in sums {
            let key = Key { workspace: WorkspaceId(workspace), service: ServiceId(service) };
            cells.stored(key, bucket, count);
        }
        from = end;
    }
    Ok(())
}

/// The year 0: what PostgreSQL can compare, and before all event times.
const EARLIEST: i64 = -62_167_219_200_000_000;

#[derive(FromRow)]
struct Told {
    workspace_id: Uuid,
    minute: DateTime<Utc>,
    accepted: i64,
    from_edge: i64,
    read: i64,
    counted: i64,
    running: i64,
    duplicate: i64,
    invalid: i64,
    unknown_workspace: i64,
    future: i64,
    late: i64,
    backfilled: i64,
    archived: i64,
}

impl Told {
    fn row(&self) -> (Row, Counts) {
        let workspace = (!self.workspace_id.is_nil()).then_some(WorkspaceId(self.workspace_id));
        let counts = Counts {
            accepted: self.accepted,
            from_edge: self.from_edge,
            read: self.read,
            counted: self.counted,
            running: self.running,
            duplicate: self.duplicate,
            dead_lettered: DeadLettered {
                invalid: self.invalid,
                unknown_workspace: self.unknown_workspace,
                future: self.future,
            },
            late: self.late,
            backfilled: self.backfilled,
            archived: self.archived,
        };
        ((Minute::of(EventTime::from(self.minute)), workspace), counts)
    }
}

pub(super) async fn ledger(pool: &PgPool, from: Option<EventTime>) -> Result<BTreeMap<Row, Counts>, Error> {
    let failed = Error::database("reading the ledger");
    let mut from = DateTime::<Utc>::from(from.unwrap_or(EventTime(EARLIEST)));
    let mut rows = BTreeMap::new();
    while let Some(start) = sqlx::query_scalar::<_, Option<DateTime<Utc>>>(NEXT_MINUTE)
        .bind(from)
        .fetch_one(pool)
        .await
        .map_err(&failed)?
    {
        let end = start + LEDGER_STEP;
        let told: Vec<Told> =
            sqlx::query_as(LEDGER).bind(start).bind(end).fetch_all(pool).await.map_err(&failed)?;
        rows.extend(told.iter().map(Told::row));
        from = end;
    }
    Ok(rows)
}

/// How far the ledger is told by the stages that read the raw topic.
#[derive(Debug, Default)]
pub(super) struct Positions {
    next: BTreeMap<(String, i32), i64>,
    /// Minutes that begin before it are not wholly told.
    pub since: Option<EventTime>,
}

impl Positions {
    pub(super) async fn read(pool: &PgPool, topic: &str) -> Result<Self, Error> {
        let rows: Vec<(String, i32, i64, Option<DateTime<Utc>>)> = sqlx::query_as(POSITIONS)
            .bind(topic)
            .fetch_all(pool)
            .await
            .map_err(Error::database("reading how far the ledger is"))?;
        let mut positions = Self::default();
        for (stage, partition, next, since) in rows {
            positions.next.insert((stage, partition), next);
            positions.since = positions.since.max(since.map(EventTime::from));
        }
        Ok(positions)
    }

    pub(super) fn has(&self, stage: &str, wanted: &[i64]) -> bool {
        (0..).zip(wanted).all(|(partition, wanted)| {
            *wanted == 0 || self.next.get(&(stage.to_owned(), partition)).is_some_and(|next| next >= wanted)
        })
    }
}
