//! The tables of one rebuild: shadows of the window tables for what is rebuilt, and copies of the stored rows as they were
//! at one moment. They are made when it begins and dropped when it ends: two rebuilds don't meet, and an installation that
//! never rebuilds has none.

use super::{
    Error,
    difference::Change,
    lease::{self, Lease},
    span::Span,
};
use crate::sink::store::{
    SINK, pages,
    rows::{self, Tables},
    store_copies,
};
use chrono::{DateTime, Utc};
use millrace_schemas::{AggregateRow, EventTime, Window, WorkspaceId};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, PgPool};
use uuid::Uuid;

/// Rows stored in one transaction: an embedded store serves nobody else meanwhile.
const ROWS_AT_ONCE: usize = 2_000;

/// The sink waits until the transaction ends.
const LOCK_SINK: &str =
    "SELECT partition FROM sink_offsets WHERE sink = $1 AND topic = $2 ORDER BY partition FOR UPDATE";

/// What became of the rows of the window tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Applied {
    /// Replaced and new ones.
    pub written: u64,
    /// Those that have no records.
    pub removed: u64,
}

pub(super) struct Shadows {
    pool: PgPool,
    span: Span,
    workspace: Option<WorkspaceId>,
    lease: Lease,
    rebuilt: Tables,
    stored: Tables,
}

impl Shadows {
    pub(super) async fn create(
        pool: PgPool,
        span: Span,
        workspace: Option<WorkspaceId>,
    ) -> Result<Self, Error> {
        let lease = Lease::take(&pool).await?;
        let rebuilt = Tables::Copies(lease.name().to_owned());
        let stored = Tables::Copies(format!("{}_stored", lease.name()));
        let shadows = Self { pool, span, workspace, lease, rebuilt, stored };
        lease::remove_left_overs(&shadows.pool).await?;
        for window in Window::ALL {
            for tables in [&shadows.rebuilt, &shadows.stored] {
                let (name, live) = (tables.name(window), Tables::Live.name(window));
                let sql = format!("CREATE TABLE {name} (LIKE {live} INCLUDING INDEXES)");
                shadows.execute("making the tables of the rebuild", sql).await?;
            }
        }
        Ok(shadows)
    }

    /// `sql` holds no names but those made here.
    async fn execute(&self, doing: &'static str, sql: String) -> Result<(), Error> {
        lease::execute(&self.pool, doing, sql).await
    }

    /// Adds deltas to what is rebuilt.
    pub(super) async fn add(&self, deltas: &[AggregateRow]) -> Result<(), Error> {
        for part in deltas.chunks(ROWS_AT_ONCE) {
            store_copies(&self.pool, &self.rebuilt, part).await?;
        }
        Ok(())
    }

    /// Copies the stored rows, a part after the other: they must not change meanwhile, or be copied anew.
    pub(super) async fn copy_stored(&self) -> Result<(), Error> {
        let failed = || Error::database("copying the stored rows");
        for window in Window::ALL {
            self.execute("copying the stored rows", format!("TRUNCATE {}", self.stored.name(window))).await?;
            if let Some(workspace) = self.workspace {
                self.copy(window, workspace.0).await.map_err(failed())?;
                continue;
            }
            let mut after = None;
            while let Some(workspace) =
                pages::next_workspace(&self.pool, window, after).await.map_err(failed())?
            {
                self.copy(window, workspace).await.map_err(failed())?;
                after = Some(workspace);
            }
        }
        Ok(())
    }

    async fn copy(&self, window: Window, workspace: Uuid) -> Result<(), sqlx::Error> {
        let wanted = (workspace, self.span.from(), self.span.to());
        let mut place = None;
        loop {
            let page = (place, ROWS_AT_ONCE);
            place = pages::copy_page(&self.pool, &self.stored, window, wanted, page).await?;
            if place.is_none() {
                return Ok(());
            }
        }
    }

    /// The copies and the rebuilt rows of a part of the range.
    pub(super) async fn slice(
        &self,
        window: Window,
        (from, to): (EventTime, EventTime),
    ) -> Result<(Vec<AggregateRow>, Vec<AggregateRow>), Error> {
        let wanted = (from, to, self.workspace);
        let doing = "reading rows to compare";
        let stored = rows::between(&self.pool, &self.stored, window, wanted).await;
        let rebuilt = rows::between(&self.pool, &self.rebuilt, window, wanted).await;
        Ok((stored.map_err(Error::database(doing))?, rebuilt.map_err(Error::database(doing))?))
    }

    /// In place of the rebuilt rows of a part of the range, leaves what is to be changed.
    pub(super) async fn keep(
        &self,
        window: Window,
        (from, to): (EventTime, EventTime),
        changes: &[Change],
    ) -> Result<(), Error> {
        let doing = "keeping what is to be changed";
        let sql = format!(
            "DELETE FROM {} WHERE window_start >= $1 AND window_start < $2",
            self.rebuilt.name(window)
        );
        let deleted = sqlx::query(AssertSqlSafe(sql))
            .bind(DateTime::<Utc>::from(from))
            .bind(DateTime::<Utc>::from(to))
            .execute(&self.pool);
        deleted.await.map_err(Error::database(doing))?;
        let changed: Vec<&AggregateRow> = changes.iter().map(|change| &change.row).collect();
        for part in changed.chunks(ROWS_AT_ONCE) {
            let mut connection = self.pool.acquire().await.map_err(Error::database(doing))?;
            let kept = rows::upsert(&mut connection, &self.rebuilt, window, part).await;
            kept.map_err(Error::database(doing))?;
        }
        Ok(())
    }

    /// Puts the changes in the place of the stored rows: all of them, or none if a row is not what it was.
    /// Rows that get fewer records, or go, are refused unless they are `allowed`.
    pub(super) async fn apply(&self, topic: &str, fewer: Fewer) -> Result<Applied, Error> {
        let doing = "replacing the stored rows";
        let mut transaction = self.pool.begin().await.map_err(Error::database(doing))?;
        sqlx::query(LOCK_SINK)
            .bind(SINK)
            .bind(topic)
            .execute(&mut *transaction)
            .await
            .map_err(Error::database("holding up the sink"))?;
        let mut applied = Applied::default();
        for window in Window::ALL {
            self.refuse_changed(&mut transaction, window).await?;
            if fewer == Fewer::Refused {
                self.refuse_fewer(&mut transaction, window).await?;
            }
            let replaced = self.replace(&mut transaction, window).await.map_err(Error::database(doing))?;
            applied.written += replaced.written;
            applied.removed += replaced.removed;
        }
        transaction.commit().await.map_err(Error::database(doing))?;
        Ok(applied)
    }

    async fn refuse_changed(&self, connection: &mut PgConnection, window: Window) -> Result<(), Error> {
        let found =
            self.count(connection, window, ("LEFT JOIN", "coalesce(t.revision, 0) <> c.revision - 1"));
        let rows = found.await.map_err(Error::database("looking for rows that have changed"))?;
        if rows == 0 { Ok(()) } else { Err(Error::Changed { rows, window }) }
    }

    /// What the archive or the log has lost looks like records that never were.
    async fn refuse_fewer(&self, connection: &mut PgConnection, window: Window) -> Result<(), Error> {
        let found = self.count(connection, window, ("JOIN", "c.query_count < t.query_count"));
        let rows = found.await.map_err(Error::database("looking for rows that would have fewer records"))?;
        if rows == 0 { Ok(()) } else { Err(Error::Fewer { rows, window }) }
    }

    /// The changes `c` that, joined with the stored rows `t`, meet a condition.
    async fn count(
        &self,
        connection: &mut PgConnection,
        window: Window,
        (join, condition): (&str, &str),
    ) -> Result<i64, sqlx::Error> {
        let sql = format!(
            "SELECT count(*) FROM {} AS c {join} {} AS t
                 ON t.workspace_id = c.workspace_id AND t.window_start = c.window_start
                 AND t.service_id = c.service_id AND t.window_start >= $1 AND t.window_start < $2
             WHERE {condition}",
            self.rebuilt.name(window),
            Tables::Live.name(window)
        );
        sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(DateTime::<Utc>::from(self.span.from()))
            .bind(DateTime::<Utc>::from(self.span.to()))
            .fetch_one(connection)
            .await
    }

    async fn replace(&self, connection: &mut PgConnection, window: Window) -> Result<Applied, sqlx::Error> {
        let (live, changes) = (Tables::Live.name(window), self.rebuilt.name(window));
        let register = format!(
            "INSERT INTO services (workspace_id, id, name)
             SELECT DISTINCT w.id, c.service_id, c.service_id::text FROM {changes} AS c
             JOIN workspaces AS w ON w.id = c.workspace_id WHERE c.query_count > 0 ON CONFLICT DO NOTHING"
        );
        connection.execute(AssertSqlSafe(register)).await?;
        let delete = format!(
            "DELETE FROM {live} AS t USING {changes} AS c
             WHERE t.workspace_id = c.workspace_id AND t.window_start = c.window_start
             AND t.service_id = c.service_id AND t.window_start >= $1 AND t.window_start < $2"
        );
        sqlx::query(AssertSqlSafe(delete))
            .bind(DateTime::<Utc>::from(self.span.from()))
            .bind(DateTime::<Utc>::from(self.span.to()))
            .execute(&mut *connection)
            .await?;
        let insert = format!("INSERT INTO {live} SELECT * FROM {changes} WHERE query_count > 0");
        let written = connection.execute(AssertSqlSafe(insert)).await?.rows_affected();
        let all: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {changes}")))
            .fetch_one(&mut *connection)
            .await?;
        Ok(Applied { written, removed: all.unsigned_abs() - written })
    }

    pub(super) async fn remove(&self) -> Result<(), Error> {
        let mut names: Vec<String> = Window::ALL
            .iter()
            .flat_map(|window| [self.rebuilt.name(*window), self.stored.name(*window)])
            .collect();
        names.push(self.lease.table());
        let sql = format!("DROP TABLE IF EXISTS {}", names.join(", "));
        self.execute("removing the tables of the rebuild", sql).await?;
        lease::remove_left_overs(&self.pool).await
    }
}

/// Whether a rebuilt row may have fewer records than the stored one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fewer {
    Allowed,
    Refused,
}
