//! Reads the ledger's tables: rows of whole minutes between two times, and how far the counts go.

use super::{Health, Position, Reader, Row, Standing};
use chrono::{DateTime, Utc};
use millrace_schemas::{
    EventTime, WorkspaceId,
    ledger::{Counts, DeadLettered, Minute},
};
use sqlx::{FromRow, PgConnection};
use std::{collections::BTreeMap, time::Duration};
use uuid::Uuid;

/// Which minutes are wanted: those that begin between the two times, `from` inclusive, `to` exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// `None`: all, and what is of none.
    pub workspace: Option<WorkspaceId>,
    pub from: EventTime,
    pub to: EventTime,
    /// The most rows, but for those that share the last one's minute.
    pub rows_max: usize,
}

/// Rows by minute, then workspace.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    pub rows: Vec<Row>,
    /// The first minute that did not fit; none if these are all.
    pub next_from: Option<Minute>,
}

/// The rows up to a number of them, and the minute of the first that is left.
macro_rules! statements {
    ($whose:literal) => {
        (
            concat!(
                "SELECT * FROM (SELECT * FROM ledger WHERE ",
                $whose,
                " AND minute >= $2 AND minute < $3 ORDER BY minute FETCH FIRST $4 ROWS WITH TIES) AS page",
                " ORDER BY minute, workspace_id"
            ),
            concat!("SELECT min(minute) FROM ledger WHERE ", $whose, " AND minute > $2 AND minute < $3"),
        )
    };
}

const OF_ONE: (&str, &str) = statements!("workspace_id = $1");
const OF_ALL: (&str, &str) = statements!("$1::uuid IS NULL");

const POSITIONS: &str = "SELECT stage, partition, next_offset, arrived, since FROM ledger_positions
     WHERE topic = $1 AND stage IN ('combine', 'archive')";

const HEALTH: &str = "WITH minutes AS (
         SELECT minute, count(*) FILTER (WHERE NOT (adds_up AND (all_archived OR NOT $3)))::bigint AS unbalanced
         FROM ledger WHERE minute >= $1 AND minute < $2 GROUP BY minute)
     SELECT coalesce(sum(unbalanced), 0)::bigint AS unbalanced,
         max(minute) FILTER (WHERE unbalanced = 0) AS newest_balanced FROM minutes";
const DAY: Duration = Duration::from_secs(24 * 3_600);

pub async fn page(connection: &mut PgConnection, selection: &Selection) -> Result<Page, sqlx::Error> {
    let Selection { workspace, from, to, rows_max } = *selection;
    let (page, next) = if workspace.is_some() { OF_ONE } else { OF_ALL };
    let workspace = workspace.map(|workspace| workspace.0);
    let rows: Vec<Stored> = sqlx::query_as(page)
        .bind(workspace)
        .bind(DateTime::<Utc>::from(from))
        .bind(DateTime::<Utc>::from(to))
        .bind(i64::try_from(rows_max).unwrap_or(i64::MAX))
        .fetch_all(&mut *connection)
        .await?;
    let last = rows.last().map(|row| row.minute).filter(|_| rows.len() >= rows_max);
    let next_from: Option<DateTime<Utc>> = match last {
        Some(last) => {
            let next = sqlx::query_scalar(next).bind(workspace).bind(last).bind(DateTime::<Utc>::from(to));
            next.fetch_one(connection).await?
        }
        None => None,
    };
    let next_from = next_from.map(|minute| Minute::of(minute.into()));
    Ok(Page { rows: rows.into_iter().map(Row::from).collect(), next_from })
}

/// Of the readers of `topic`, by partition.
pub async fn positions(
    connection: &mut PgConnection,
    topic: &str,
) -> Result<BTreeMap<(Reader, i32), Position>, sqlx::Error> {
    type Found = (String, i32, i64, Option<DateTime<Utc>>, Option<DateTime<Utc>>);
    let found: Vec<Found> = sqlx::query_as(POSITIONS).bind(topic).fetch_all(connection).await?;
    let position = |(stage, partition, next, arrived, since): Found| {
        let reader = if stage == "archive" { Reader::Archive } else { Reader::Combine };
        let position =
            Position { next, arrived: arrived.map(EventTime::from), since: since.map(EventTime::from) };
        ((reader, partition), position)
    };
    Ok(found.into_iter().map(position).collect())
}

/// Of the day before `now`: what was lost in an outage must be seen when it is over.
pub async fn health(
    connection: &mut PgConnection,
    standing: &Standing,
    now: EventTime,
) -> Result<Health, sqlx::Error> {
    let begin = now.saturating_sub(DAY).max(standing.since.unwrap_or(EventTime(i64::MIN)));
    // The minute that `through` lies in is not processed.
    let end = standing.through.map_or(begin, |through| Minute::of(through).start());
    let (unbalanced, newest): (i64, Option<DateTime<Utc>>) = sqlx::query_as(HEALTH)
        .bind(DateTime::<Utc>::from(begin))
        .bind(DateTime::<Utc>::from(end))
        .bind(standing.is_archived)
        .fetch_one(connection)
        .await?;
    Ok(Health { unbalanced, newest_balanced: newest.map(EventTime::from) })
}

#[derive(FromRow)]
struct Stored {
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
    adds_up: bool,
    all_archived: bool,
}

impl From<Stored> for Row {
    fn from(row: Stored) -> Self {
        let Stored { invalid, unknown_workspace, future, .. } = row;
        Self {
            workspace: (!row.workspace_id.is_nil()).then_some(WorkspaceId(row.workspace_id)),
            minute: Minute::of(row.minute.into()),
            counts: Counts {
                accepted: row.accepted,
                from_edge: row.from_edge,
                read: row.read,
                counted: row.counted,
                running: row.running,
                duplicate: row.duplicate,
                dead_lettered: DeadLettered { invalid, unknown_workspace, future },
                late: row.late,
                backfilled: row.backfilled,
                archived: row.archived,
            },
            adds_up: row.adds_up,
            all_archived: row.all_archived,
        }
    }
}
