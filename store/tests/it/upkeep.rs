//! Maintenance: cleaning when nobody waits, and a log that doesn't grow for ever.

use crate::support::{start_with, until};
use std::{fs, time::Duration};

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_cleaned_between_transactions() {
    let running = start_with(|settings| settings.maintenance_interval = Duration::from_millis(200)).await;
    let pool = running.pool(2).await;
    sqlx::query("CREATE TABLE t AS SELECT generate_series(1, 5000) a").execute(&pool).await.unwrap();
    sqlx::query("DELETE FROM t WHERE a > 100").execute(&pool).await.unwrap();
    until("the table is vacuumed and analyzed", || async {
        let sql =
            "SELECT vacuum_count > 0 AND analyze_count > 0 FROM pg_stat_user_tables WHERE relname = 't'";
        sqlx::query_as(sql).fetch_one(&pool).await.is_ok_and(|(done,): (bool,)| done)
    })
    .await;
    running.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_shortened() {
    let running = start_with(|settings| settings.limits.log_megabytes = 100).await;
    let pool = running.pool(1).await;
    sqlx::query("CREATE TABLE t (a text)").execute(&pool).await.unwrap();
    let checkpoint = "SELECT redo_lsn::text FROM pg_control_checkpoint()";
    let (before,): (String,) = sqlx::query_as(checkpoint).fetch_one(&pool).await.unwrap();
    for _ in 0..8 {
        let sql = "INSERT INTO t SELECT repeat(md5(n::text), 60) FROM generate_series(1, 10000) n";
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    until("a checkpoint ran out of turn", || async {
        let (now,): (String,) = sqlx::query_as(checkpoint).fetch_one(&pool).await.unwrap();
        now != before
    })
    .await;
    let log = running.path().join("database/pgdata/pg_wal");
    until("the log is short", || async {
        let bytes: u64 =
            fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        bytes < 300 << 20
    })
    .await;
    running.store.close().await.unwrap();
}
