//! A database that is away: the processor waits, holds no more than before, and goes on where it was.

use crate::harness::{
    ADMIN_KEY, Api, DEVELOPMENT_SERVICE, DEVELOPMENT_WORKSPACE, Installation, Load, PATIENCE, settle, sum,
    until,
};
use anyhow::{Context as _, Result, ensure};

/// Records for each partition in each round of the load.
const LOAD: usize = 10;
/// Records that come while the database is away: some tens of seconds.
const MEANWHILE: f64 = 20_000.0;
/// What the process may grow by meanwhile: ids, and chunks of the archive, but no queue of rows.
const GROWTH_BYTES_MAX: f64 = 96.0 * 1024.0 * 1024.0;

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_flat_while_the_database_is_away_and_everything_is_there_once() -> Result<()> {
    let mut installation = Installation::embedded().await?;
    let up = installation.start("up", &[]).await?;
    let api = up.api(ADMIN_KEY);
    let load = Load::start(&installation.log, LOAD)?;
    until("records are stored", PATIENCE, async || {
        let stored = api.counter("millrace_sink_rows_total", &[]).await?;
        ensure!(stored > 0.0, "none");
        Ok(())
    })
    .await?;

    let embedded = installation.embedded.as_mut().context("it is embedded")?;
    embedded.stop_store().await?;
    more_are_combined(&api, MEANWHILE / 4.0).await?;
    let before = resident_bytes(&api).await?;
    more_are_combined(&api, MEANWHILE).await?;
    let grown = resident_bytes(&api).await? - before;
    eprintln!("{before} bytes, and {grown} more after {MEANWHILE} records without the database");
    ensure!(grown < GROWTH_BYTES_MAX, "it has grown by {grown} bytes");
    let embedded = installation.embedded.as_mut().context("it is embedded")?;
    embedded.start_store_again().await?;

    let sent = load.stop().await?;
    settle(&installation, &api).await?;
    for window in ["5s", "1m", "5m"] {
        let query = format!("window={window}&service_id={DEVELOPMENT_SERVICE}");
        let counted = sum(&api, DEVELOPMENT_WORKSPACE, &query, "success_count").await?;
        ensure!(
            usize::try_from(counted)? == sent.times.len(),
            "{window}: {counted} instead of {}",
            sent.times.len()
        );
    }
    Ok(())
}

/// What needs no database goes on.
async fn more_are_combined(api: &Api, more: f64) -> Result<()> {
    let combined = async || api.counter("millrace_combine_records_total", &[("verdict", "counted")]).await;
    let wanted = combined().await? + more;
    until("more records are combined", 2 * PATIENCE, async || {
        let combined = combined().await?;
        ensure!(combined >= wanted, "{combined} of {wanted}");
        Ok(())
    })
    .await
}

async fn resident_bytes(api: &Api) -> Result<f64> {
    let bytes = api.counter("process_resident_memory_bytes", &[]).await?;
    ensure!(bytes > 0.0, "the system does not tell");
    Ok(bytes)
}
