//! How far the records are, and where event time stands and why.

use crate::harness::{ADMIN_KEY, Installation, PATIENCE, WORKSPACE_KEY, metric, until};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

const PATH: &str = "/api/v1/pipeline";

#[tokio::test(flavor = "multi_thread")]
async fn every_stage_comes_to_the_end_of_the_log() -> Result<()> {
    let installation = Installation::create("pipeline").await?;
    let up = installation.start("up", &[]).await?;
    ensure!(up.api("").get_status(PATH).await? == 401, "without a key");
    let api = up.api(ADMIN_KEY);
    let record = metric("select 1");
    api.ingest_all(&[record.clone(), record, metric("select 2")]).await?;
    // A key of one workspace may see it too: it shows nothing of any tenant.
    let pipeline = until("all stages are at the end", PATIENCE, async || {
        let pipeline = up.api(WORKSPACE_KEY).get(PATH).await?;
        for stage in ["combine", "windows", "sink", "archive"] {
            ensure!(pipeline["lag"][stage] == 0, "{stage}: {pipeline}");
        }
        used(&pipeline)?;
        ensure!(pipeline["watermark"]["reason"] == "wall_clock", "{pipeline}");
        Ok(pipeline)
    })
    .await?;
    let used = used(&pipeline)?;
    ensure!(used["log_end"] == 3 && used["reached"]["sink"] == 3, "{used}");
    ensure!(used["max_event_time"].is_string() && used["last_record_at"].is_string(), "{used}");
    ensure!(used["active_ms_ago"].as_i64().is_some_and(|ago| ago < 120_000), "{used}");
    until("Prometheus sees it", PATIENCE, async || {
        let reached = api.counter("millrace_pipeline_reached", &[("stage", "sink")]).await?;
        ensure!((reached - 3.0).abs() < 0.1, "{reached}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_processor_all_that_is_known_is_the_log() -> Result<()> {
    let installation = Installation::create("pipeline_alone").await?;
    let edge = installation.start("ingest", &[]).await?;
    let query = installation.start("query", &[]).await?;
    edge.api(ADMIN_KEY).ingest_all(&[metric("select 1")]).await?;
    until("the record is in the log", PATIENCE, async || {
        let pipeline = query.api(ADMIN_KEY).get(PATH).await?;
        let used = used(&pipeline)?;
        ensure!(used["reached"]["combine"].is_null() && used["lag"]["sink"].is_null(), "{used}");
        ensure!(pipeline["watermark"]["reason"] == "unknown", "{pipeline}");
        Ok(())
    })
    .await
}

/// The partition that has records.
fn used(pipeline: &Value) -> Result<Value> {
    let partitions = pipeline["partitions"].as_array().context("no partitions")?;
    let used = partitions.iter().find(|partition| partition["log_end"].as_i64() > Some(0));
    used.cloned().with_context(|| format!("no record yet: {pipeline}"))
}
