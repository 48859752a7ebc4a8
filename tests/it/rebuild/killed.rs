//! kill -9 while the rows are replaced: all of them are, or none.

use super::{HORIZON, Range, asked, corrupt, records, stored, total};
use crate::harness::{ADMIN_KEY, Installation, PATIENCE, Process, until};
use anyhow::{Result, ensure};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::io::AsyncWriteExt as _;

const TABLES: &str = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'rebuild%'";
/// Of other sessions in this database, those that wait for somebody's lock, and those that do anything.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND wait_event_type = 'Lock'";
const APPLYING: &str = "SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND state LIKE '%in transaction%' AND query ILIKE '%rebuild\\_%'";

const RECORDS: i64 = 90;

struct Scene {
    installation: Installation,
    range: Range,
    _up: Process,
}

impl Scene {
    async fn make(test: &str) -> Result<Self> {
        let installation = Installation::create(test).await?;
        let range = Range::new()?;
        let up = installation.start("up", &HORIZON).await?;
        let tenant = installation.add_tenant("rebuilt").await?;
        up.api(ADMIN_KEY).ingest_all(&records(&range, &tenant, RECORDS)).await?;
        stored(&installation, RECORDS).await?;
        corrupt(&installation, &range).await?;
        Ok(Self { installation, range, _up: up })
    }

    /// What is wrong is found in all window sizes, or in none.
    async fn wrong(&self) -> Result<usize> {
        Ok(self.range.rebuild(&self.installation, &[]).await?.0.len())
    }

    /// The next rebuild works, and when the killed one has been silent for long enough one removes its tables.
    async fn goes_on(&self) -> Result<()> {
        let apply = ["--apply", "--yes", "--allow-fewer"];
        self.range.rebuild(&self.installation, &apply).await?;
        let sum = total(&self.installation).await?;
        ensure!(sum == RECORDS && self.wrong().await? == 0, "{sum} records");
        until("no tables are left", PATIENCE, async || {
            self.range.rebuild(&self.installation, &[]).await?;
            let left = self.installation.database.number(TABLES).await?;
            ensure!(left == 0, "{left}");
            Ok(())
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_or_nothing_is_applied() -> Result<()> {
    let scene = Scene::make("rebuild_killed").await?;
    let before = scene.wrong().await?;
    ensure!(before == 4, "{before}");
    let (mut child, mut stdin, _stderr, _) = asked(&scene.installation, &scene.range).await?;
    ensure!(scene.installation.database.number(TABLES).await? > 0, "it has no tables");
    stdin.write_all(b"y\n").await?;
    child.kill().await?;
    let after = scene.wrong().await?;
    ensure!(after == 0 || after == before, "{after} of {before} rows are wrong");
    scene.goes_on().await
}

/// Held up by a row of the last table it is killed in the middle of its transaction.
#[tokio::test(flavor = "multi_thread")]
async fn half_of_it_is_nothing() -> Result<()> {
    let scene = Scene::make("rebuild_halved").await?;
    if scene.installation.embedded.is_some() {
        // One backend: who holds a lock in it holds up all others.
        crate::harness::say_skipped(
            "rebuild::killed::half_of_it_is_nothing",
            "it needs a PostgreSQL of many sessions",
        );
        return Ok(());
    }
    let database = &scene.installation.database;
    let before = scene.wrong().await?;
    let (mut child, mut stdin, _stderr, _) = asked(&scene.installation, &scene.range).await?;
    let mut holder = PgConnection::connect(&database.url).await?;
    let mut held = holder.begin().await?;
    let lock = format!("SELECT FROM aggregates_5m WHERE window_start = '{}' FOR UPDATE", scene.range.text(0));
    held.execute(AssertSqlSafe(lock)).await?;
    stdin.write_all(b"y\n").await?;
    until("it waits in the middle", PATIENCE, async || {
        ensure!(database.number(WAITING).await? > 0);
        Ok(())
    })
    .await?;
    child.kill().await?;
    held.rollback().await?;
    until("the database has noticed", PATIENCE, async || {
        let applying = database.number(APPLYING).await? + database.number(WAITING).await?;
        ensure!(applying == 0, "{applying}");
        Ok(())
    })
    .await?;
    let after = scene.wrong().await?;
    ensure!(after == before, "{after} of {before} rows are wrong");
    scene.goes_on().await
}
