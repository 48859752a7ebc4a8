//! A real server's log, replayed in every way that must come to the same windows.

use crate::{
    archive,
    harness::{ADMIN_KEY, Api, Installation, Process, has, millrace, run, settle, until},
    reference::{RECORDS, Reference},
};
use anyhow::{Context as _, Result, ensure};
use chrono::DateTime;
use serde_json::Value;
use std::{fs, time::Duration};
use uuid::Uuid;

/// For all of the reference log, in a build without optimizations, with other tests beside it.
pub const REPLAY_PATIENCE: Duration = Duration::from_secs(300);
/// Records in one request.
const BATCH: usize = 5_000;
const SHUFFLE_WITHIN_MS: u64 = 10_000;

/// `millrace replay` to an edge.
pub async fn replay(reference: &Reference, edge: &Process) -> Result<String> {
    let mut arguments: Vec<_> = ["replay", "postgres-log"].map(str::to_owned).into();
    arguments.push(reference.log.display().to_string());
    arguments.extend(["--to", &edge.url(), "--api-key", ADMIN_KEY, "--strict"].map(str::to_owned));
    millrace(&arguments).await
}

/// Its records, one JSON text each; workspaces and services are created on the way.
pub async fn records(installation: &Installation, reference: &Reference) -> Result<Vec<String>> {
    let mut arguments: Vec<_> = ["replay", "postgres-log"].map(str::to_owned).into();
    arguments.push(reference.log.display().to_string());
    arguments
        .extend(["--to", "-", "--strict", "--database-url", &installation.database.url].map(str::to_owned));
    let records: Vec<_> = millrace(&arguments).await?.lines().map(str::to_owned).collect();
    ensure!(records.len() == RECORDS, "the replay made {} records", records.len());
    Ok(records)
}

/// Waits for the windows to be those of the reference, and looks once more when nothing can come after.
pub async fn check(installation: &Installation, reference: &Reference, api: &Api) -> Result<()> {
    until("the windows are those of expected.csv", REPLAY_PATIENCE, async || reference.check(api).await)
        .await?;
    settle(installation, api).await?;
    settle(installation, api).await?;
    reference.check(api).await.context("after everything was counted")
}

#[tokio::test(flavor = "multi_thread")]
async fn through_the_edge_and_once_more() -> Result<()> {
    let installation = Installation::create("replay_edge").await?;
    let Some(reference) = Reference::find("replay_edge")? else { return Ok(()) };
    let up = installation.start("up", &[]).await?;
    let api = up.api(ADMIN_KEY);
    replay(&reference, &up).await?;
    until("the windows are those of expected.csv", REPLAY_PATIENCE, async || reference.check(&api).await)
        .await?;
    archive::check(&installation, &reference).await?;

    replay(&reference, &up).await?;
    until("the repeats are counted as duplicates", REPLAY_PATIENCE, async || {
        for verdict in ["counted", "duplicate"] {
            let records = api.counter("millrace_combine_records_total", &[("verdict", verdict)]).await?;
            ensure!(records == RECORDS as f64, "{verdict}: {records}");
        }
        Ok(())
    })
    .await?;
    check(&installation, &reference, &api).await?;
    archive::check(&installation, &reference).await
}

#[tokio::test(flavor = "multi_thread")]
async fn shuffled_within_ten_seconds() -> Result<()> {
    let installation = Installation::create("replay_shuffled").await?;
    let Some(reference) = Reference::find("replay_shuffled")? else { return Ok(()) };
    let up = installation.start("up", &[]).await?;
    let api = up.api(ADMIN_KEY);
    let records = shuffled(records(&installation, &reference).await?)?;
    for batch in records.chunks(BATCH) {
        let lines = batch.join("\n").into_bytes();
        let response = api.ingest_body("application/x-ndjson", lines, &[]).await?;
        ensure!(response.status() == 202, "{}: {}", response.status(), response.text().await?);
    }
    check(&installation, &reference, &api).await
}

#[tokio::test(flavor = "multi_thread")]
async fn produced_with_kcat_under_random_keys() -> Result<()> {
    if !has("replay_kcat", "kcat") {
        return Ok(());
    }
    let installation = Installation::create("replay_kcat").await?;
    let Some(reference) = Reference::find("replay_kcat")? else { return Ok(()) };
    let up = installation.start("up", &[]).await?;
    let records = records(&installation, &reference).await?;
    // JSON text has no tab in it.
    let keyed: String = records.iter().map(|record| format!("{}\t{record}\n", Uuid::new_v4())).collect();
    let file = installation.file("records.tsv");
    fs::write(&file, keyed)?;
    let (brokers, topic) = (&installation.log.brokers, &installation.topics.metrics);
    let arguments = ["-P", "-b", brokers, "-t", topic, "-K", "\\t", "-l", &file.display().to_string()];
    run("kcat", &arguments.map(str::to_owned)).await?;
    check(&installation, &reference, &up.api(ADMIN_KEY)).await
}

/// Each record moves to at most ten seconds after its time; the same way in each run.
fn shuffled(records: Vec<String>) -> Result<Vec<String>> {
    let mut state = 0x5eed_u64;
    let keyed: Result<Vec<_>> = records
        .into_iter()
        .map(|record| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            Ok((completed_at_ms(&record)? + i64::try_from((state >> 33) % SHUFFLE_WITHIN_MS)?, record))
        })
        .collect();
    let mut keyed = keyed?;
    keyed.sort_by_key(|(time, _)| *time);
    Ok(keyed.into_iter().map(|(_, record)| record).collect())
}

fn completed_at_ms(record: &str) -> Result<i64> {
    let record: Value = serde_json::from_str(record)?;
    let text = record["completed_at"].as_str().context("a record without completed_at")?;
    Ok(DateTime::parse_from_rfc3339(text)?.timestamp_millis())
}
