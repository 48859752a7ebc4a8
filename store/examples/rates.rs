//! Measures a fresh store, as the sinks and the queries use one: `cargo run --release --example rates`.
//! It says start-up times, rates, latencies and memory on standard error.

use anyhow::Context;
use millrace_store::{Settings, Store};
use sqlx::{PgPool, postgres::PgPoolOptions};
use std::time::{Duration, Instant};

const ROWS: i64 = 500_000;
const BATCH: i64 = 5_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).init();
    let folder = tempfile::tempdir()?;
    let settings = Settings::new(folder.path().join("store"));
    for what in ["first start", "second start"] {
        let started = Instant::now();
        let store = Store::start(settings.clone()).await?;
        tracing::info!(what, ms = started.elapsed().as_millis(), resident_mb = resident_mb()?);
        let closing = Instant::now();
        store.close().await?;
        tracing::info!(ms = closing.elapsed().as_millis(), "close");
    }
    let store = Store::start(settings).await?;
    let pool = PgPoolOptions::new().max_connections(10).connect(&store.url()).await?;
    sqlx::raw_sql("CREATE TABLE rates (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), a bigint, b double precision, c text)")
        .execute(&pool)
        .await?;
    upserts(&pool, "insert").await?;
    upserts(&pool, "update").await?;
    commits(&pool, 1).await?;
    commits(&pool, 8).await?;
    selects(&pool).await?;
    scan(&pool).await?;
    tracing::info!(resident_mb = resident_mb()?, "memory at the end");
    pool.close().await;
    store.close().await?;
    Ok(())
}

async fn upserts(pool: &PgPool, what: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    for first in (0..ROWS).step_by(usize::try_from(BATCH)?) {
        let ids: Vec<i64> = (first..first + BATCH).collect();
        let values: Vec<f64> =
            ids.iter().map(|id| f64::from(u32::try_from(id % 1000).unwrap_or(0))).collect();
        let texts: Vec<String> = ids.iter().map(|id| format!("row {id} of this table")).collect();
        sqlx::query(
            "INSERT INTO rates (id, a, b, c) SELECT * FROM UNNEST($1::bigint[], $1::bigint[], $2::double precision[], $3::text[]) \
             ON CONFLICT (id) DO UPDATE SET a = EXCLUDED.a, b = EXCLUDED.b, c = EXCLUDED.c",
        )
        .bind(&ids)
        .bind(&values)
        .bind(&texts)
        .execute(pool)
        .await?;
    }
    let rate = per_second(ROWS, started.elapsed());
    tracing::info!(what, rows_per_s = rate, batch = BATCH, "UNNEST upserts");
    Ok(())
}

async fn commits(pool: &PgPool, clients: i64) -> anyhow::Result<()> {
    let each = 4000 / clients;
    let started = Instant::now();
    let work = (0..clients).map(|client| async move {
        for round in 0..each {
            sqlx::query("INSERT INTO rates (id, a) VALUES ($1, $2)")
                .bind(10_000_000 + clients * 1_000_000 + client * 10_000 + round)
                .bind(round)
                .execute(pool)
                .await?;
        }
        Ok::<_, sqlx::Error>(())
    });
    futures::future::try_join_all(work).await?;
    let rate = per_second(each * clients, started.elapsed());
    tracing::info!(clients, commits_per_s = rate, "single commits");
    Ok(())
}

async fn selects(pool: &PgPool) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for round in 0..5000_i64 {
        let started = Instant::now();
        let (_, _): (i64, Option<String>) = sqlx::query_as("SELECT a, c FROM rates WHERE id = $1")
            .bind(round * 7919 % ROWS)
            .fetch_one(pool)
            .await?;
        times.push(started.elapsed());
    }
    times.sort();
    tracing::info!(p50_us = times[2500].as_micros(), p99_us = times[4950].as_micros(), "indexed select");
    Ok(())
}

async fn scan(pool: &PgPool) -> anyhow::Result<()> {
    use futures::TryStreamExt;
    let started = Instant::now();
    let mut rows =
        sqlx::query_as::<_, (i64, Option<f64>, Option<String>)>("SELECT id, b, c FROM rates").fetch(pool);
    let mut count = 0;
    let mut first = Duration::ZERO;
    while rows.try_next().await?.is_some() {
        if count == 0 {
            first = started.elapsed();
        }
        count += 1;
    }
    let rate = per_second(count, started.elapsed());
    tracing::info!(first_row_ms = first.as_millis(), rows = count, rows_per_s = rate, "select of everything");
    Ok(())
}

fn per_second(count: i64, time: Duration) -> u128 {
    u128::try_from(count).unwrap_or(0) * 1000 / time.as_millis().max(1)
}

fn resident_mb() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).context("no VmRSS")?;
    let kb: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kb / 1024)
}
