//! The same program on PostgreSQL with TimescaleDB and on PostgreSQL alone.

use crate::harness::{
    DEVELOPMENT_WORKSPACE, Installation, PATIENCE, Services, WORKSPACE_KEY, count, metric, until,
};
use anyhow::{Result, ensure};

const HYPERTABLES: &str = "SELECT count(*) FROM timescaledb_information.hypertables";
const EXTENSIONS: &str = "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'";

#[tokio::test(flavor = "multi_thread")]
async fn timescaledb_holds_the_windows_in_chunks() -> Result<()> {
    let Some(services) = Services::find("store_timescaledb") else { return Ok(()) };
    let installation = Installation::on(&services.kafka, &services, "store_timescaledb").await?;
    counts_a_record(&installation).await?;
    let hypertables = installation.database.number(HYPERTABLES).await?;
    ensure!(hypertables == 3, "{hypertables} hypertables");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_postgresql_will_do() -> Result<()> {
    let Some(services) = Services::find("store_plain") else { return Ok(()) };
    let installation = Installation::without_timescaledb(&services.kafka, &services, "store_plain").await?;
    counts_a_record(&installation).await?;
    ensure!(installation.database.number(EXTENSIONS).await? == 0, "it installed an extension by itself");
    Ok(())
}

/// Twice the same program: the second finds what the first has made.
async fn counts_a_record(installation: &Installation) -> Result<()> {
    for records in 1..=2 {
        let up = installation.start("up", &[]).await?;
        let api = up.api(WORKSPACE_KEY);
        api.ingest_all(&[metric("select 'stored'")]).await?;
        until("the record is in its window", PATIENCE, async || {
            let counted = count(&api, DEVELOPMENT_WORKSPACE, "window=5m").await?;
            ensure!(counted == records, "{counted} instead of {records}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
