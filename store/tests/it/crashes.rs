//! Crashes: of the backend, and of the whole process.

use crate::support::{pool_at, start, start_with, until};
use millrace_store::{Error, Settings, Store};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use tokio::time::timeout;

/// A real one: WebAssembly's stack ends before PostgreSQL looks at its depth.
const TRAP: &str = "SELECT repeat('[', 5000000)::json";
const CHILD: &str = "MILLRACE_STORE_TEST_FOLDER";

#[tokio::test(flavor = "multi_thread")]
async fn after_a_trap_the_backend_is_opened_again() {
    let running = start().await;
    let pool = running.pool(3).await;
    sqlx::query("CREATE TABLE t (a int)").execute(&pool).await.unwrap();
    for round in 1..=2_i64 {
        let mut open = pool.begin().await.unwrap();
        let mut idle = running.raw().await;
        sqlx::query("INSERT INTO t VALUES (0)").execute(&mut *open).await.unwrap();
        let mut waiting = running.raw().await;
        waiting.send(&crate::support::query("SELECT 1")).await;
        let crash = sqlx::query(TRAP).execute(&mut *open).await.unwrap_err();
        let code = crash.as_database_error().and_then(|error| error.code().map(String::from));
        assert_eq!(code.as_deref(), Some("57P01"), "{crash:?}");
        drop(open);
        assert_eq!(idle.end().await, "57P01");
        assert_eq!(waiting.end().await, "57P01");
        until("the store works again", || async {
            sqlx::query("INSERT INTO t VALUES (1)").execute(&pool).await.is_ok()
        })
        .await;
        let (count,): (i64,) = sqlx::query_as("SELECT count(*) FROM t").fetch_one(&pool).await.unwrap();
        assert_eq!(count, round);
    }
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_too_many_crashes_the_store_ends() {
    let mut running = start_with(|settings| settings.limits.crashes = 1).await;
    let mut raw = running.raw().await;
    raw.query("CREATE TABLE t (a int)").await;
    running.store.crash();
    assert_eq!(raw.end().await, "57P01");
    let mut raw = running.raw().await;
    raw.query("INSERT INTO t VALUES (1)").await;
    running.store.crash();
    let closed = async {
        for _ in 0..2 {
            let error = running.store.ended().await;
            assert!(matches!(error, Error::Crashes { crashes: 2, .. }), "{error}");
        }
        running.store.close().await.expect_err("it says why it ended")
    };
    let error = timeout(Duration::from_secs(20), closed).await.expect("the end is known at once");
    assert!(matches!(error, Error::Crashes { crashes: 2, .. }), "{error}");
    let store = Store::start(Settings::new(running.folder.path().join("store"))).await.unwrap();
    let pool = pool_at(&store.url(), 1).await;
    sqlx::query("SELECT a FROM t").fetch_one(&pool).await.unwrap();
    store.close().await.unwrap();
}

/// Not a test of its own: what [`nothing_acknowledged_is_lost_by_a_kill`] kills.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_commits_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let store = Store::start(Settings::new(folder)).await.unwrap();
    let pool = pool_at(&store.url(), 2).await;
    sqlx::query("CREATE TABLE IF NOT EXISTS t (a bigint PRIMARY KEY)").execute(&pool).await.unwrap();
    let (mut next,): (i64,) =
        sqlx::query_as("SELECT coalesce(max(a), 0) FROM t").fetch_one(&pool).await.unwrap();
    loop {
        next += 1;
        sqlx::query("INSERT INTO t VALUES ($1)").bind(next).execute(&pool).await.unwrap();
        eprintln!("acknowledged {next}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut last = 0;
    for round in 0..12 {
        last = commit_and_kill(&path, 20 + round * 7);
    }
    let store = Store::start(Settings::new(&path)).await.unwrap();
    let pool = pool_at(&store.url(), 1).await;
    let (count, max): (i64, i64) =
        sqlx::query_as("SELECT count(*), max(a) FROM t").fetch_one(&pool).await.unwrap();
    assert!(max >= last && count == max, "{last} was acknowledged, {count} rows up to {max} are there");
    store.close().await.unwrap();
}

/// Runs the child until it has had so many more commits acknowledged; kills it; says the last of them.
fn commit_and_kill(folder: &Path, commits: usize) -> i64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crashes::child_that_commits_until_it_is_killed", "--nocapture"])
        .env(CHILD, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut acknowledged = lines.filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<i64>().ok());
    let last = acknowledged.nth(commits).expect("the child commits");
    child.kill().unwrap();
    child.wait().unwrap();
    acknowledged.last().unwrap_or(last)
}
