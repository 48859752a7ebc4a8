//! A rebuild says now and then that it lives, in a table of its own: the tables of one that was killed are known by its
//! silence, and removed by the next one.

use super::Error;
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use std::{collections::BTreeSet, time::Duration};
use tokio::task::JoinSet;
use uuid::Uuid;

const PREFIX: &str = "rebuild_";
const RENEW_INTERVAL: Duration = Duration::from_secs(2);
/// A rebuild that has been silent for so long is dead, by the database's clock.
const SILENT_S_MAX: i32 = 15;
/// One of a build that did not say that it lived: when it began so long ago.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(24 * 3600);

const TABLES: &str = "SELECT tablename::text FROM pg_tables
     WHERE schemaname = current_schema() AND tablename LIKE 'rebuild\\_%'";

/// The name of a rebuild, which is held until it is dropped.
pub(super) struct Lease {
    name: String,
    _renewing: JoinSet<()>,
}

impl Lease {
    /// The name holds the time.
    pub(super) async fn take(pool: &PgPool) -> Result<Self, Error> {
        let name = format!("{PREFIX}{}", Uuid::now_v7().simple());
        let table = table(&name);
        let sql = format!("CREATE TABLE {table} AS SELECT clock_timestamp() AS renewed_at");
        execute(pool, "beginning a rebuild", sql).await?;
        let mut renewing = JoinSet::new();
        renewing.spawn(renew(pool.clone(), table));
        Ok(Self { name, _renewing: renewing })
    }

    /// Every table of this rebuild begins with it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn table(&self) -> String {
        table(&self.name)
    }
}

fn table(name: &str) -> String {
    format!("{name}_lease")
}

async fn renew(pool: PgPool, table: String) {
    loop {
        tokio::time::sleep(RENEW_INTERVAL).await;
        let sql = format!("UPDATE {table} SET renewed_at = clock_timestamp()");
        // At worst another one takes this rebuild for dead: then its tables are gone, and it fails before it changes anything.
        if let Err(error) = pool.execute(AssertSqlSafe(sql)).await {
            tracing::debug!(%error, "the rebuild could not say that it lives");
        }
    }
}

/// `sql` holds no names but those made here.
pub(super) async fn execute(pool: &PgPool, doing: &'static str, sql: String) -> Result<(), Error> {
    pool.execute(AssertSqlSafe(sql)).await.map(|_| ()).map_err(Error::database(doing))
}

/// Removes what killed rebuilds have left.
pub(super) async fn remove_left_overs(pool: &PgPool) -> Result<(), Error> {
    let doing = "looking for tables of earlier rebuilds";
    let tables: Vec<String> =
        sqlx::query_scalar(TABLES).fetch_all(pool).await.map_err(Error::database(doing))?;
    let runs: BTreeSet<&str> = tables.iter().filter_map(|table| run_of(table)).collect();
    for run in runs {
        let lease = table(run);
        let is_dead = match tables.contains(&lease) {
            true => is_silent(pool, &lease).await?,
            false => began_before(run, Utc::now() - LEFT_OVER_AFTER),
        };
        if is_dead {
            tracing::info!(run, "removes the tables that a killed rebuild has left");
            // Its lease is the last to go: a removal that is cut short is taken up by the next one.
            let names = tables.iter().filter(|name| run_of(name) == Some(run) && **name != lease);
            for name in names.chain(tables.contains(&lease).then_some(&lease)) {
                execute(pool, "removing a table of a killed rebuild", format!("DROP TABLE IF EXISTS {name}"))
                    .await?;
            }
        }
    }
    Ok(())
}

/// One that has gone meanwhile was not left over.
async fn is_silent(pool: &PgPool, lease: &str) -> Result<bool, Error> {
    let sql = format!("SELECT renewed_at < clock_timestamp() - interval '{SILENT_S_MAX} s' FROM {lease}");
    match sqlx::query_scalar::<_, bool>(AssertSqlSafe(sql)).fetch_optional(pool).await {
        Ok(silent) => Ok(silent.unwrap_or(true)),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => Ok(false),
        Err(error) => Err(Error::database("looking whether an earlier rebuild lives")(error)),
    }
}

/// `rebuild_ID` of a table of a rebuild.
fn run_of(table: &str) -> Option<&str> {
    let id = table.strip_prefix(PREFIX)?.split('_').next()?;
    Uuid::parse_str(id).ok()?.get_timestamp()?;
    table.get(..PREFIX.len() + id.len())
}

fn began_before(run: &str, limit: DateTime<Utc>) -> bool {
    let id = run.strip_prefix(PREFIX).and_then(|id| Uuid::parse_str(id).ok());
    let began = id.and_then(|id| i64::try_from(id.get_timestamp()?.to_unix().0).ok());
    began.and_then(|seconds| DateTime::from_timestamp(seconds, 0)).is_some_and(|began| began < limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_known_by_the_rebuild_that_made_them() {
        let run = format!("{PREFIX}{}", Uuid::now_v7().simple());
        for table in [table(&run), format!("{run}_1m"), format!("{run}_stored_5s"), run.clone()] {
            assert!(table.len() <= 63);
            assert_eq!(run_of(&table), Some(run.as_str()));
        }
        assert_eq!((run_of("rebuild_something_of_yours"), run_of("aggregates_5s")), (None, None));
    }

    #[test]
    fn one_that_never_said_that_it_lives_is_left_over_after_a_day() {
        let (run, now) = (format!("{PREFIX}{}", Uuid::now_v7().simple()), Utc::now());
        assert!(!began_before(&run, now - LEFT_OVER_AFTER));
        assert!(began_before(&run, now + Duration::from_secs(60)));
    }
}
