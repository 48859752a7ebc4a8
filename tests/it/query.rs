//! The read routes: who may read what, what is refused, and the shapes of the answers.

use crate::harness::{
    ADMIN_KEY, DEVELOPMENT_SERVICE, DEVELOPMENT_WORKSPACE, Installation, PATIENCE, WORKSPACE_KEY, metric,
    until,
};
use anyhow::{Result, ensure};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn every_route_wants_a_key_that_opens_the_workspace() -> Result<()> {
    let installation = Installation::create("query_keys").await?;
    let up = installation.start("up", &[]).await?;
    let other = installation.add_tenant("other").await?;
    let unknown = uuid::Uuid::from_u128(1);
    for route in ["aggregations", "metrics", "services"] {
        for (workspace, key, expected) in [
            (other.workspace, "", 401),
            (other.workspace, "nobody has this key", 401),
            (other.workspace, WORKSPACE_KEY, 403),
            (unknown, ADMIN_KEY, 404),
            (other.workspace, ADMIN_KEY, 200),
            (other.workspace, other.key.as_str(), 200),
        ] {
            let (status, body) =
                up.api(key).get_answer(&format!("/api/v1/workspaces/{workspace}/{route}")).await?;
            ensure!(status == expected, "{route} with key `{key}`: {status} {body}");
        }
    }
    ensure!(up.api("").get_status("/api/v1/workspaces").await? == 401, "workspaces without a key");
    let seen = up.api(&other.key).list("/api/v1/workspaces").await?;
    ensure!(seen.into_values().eq(["other"]), "a key sees workspaces that it does not open");
    ensure!(up.api(ADMIN_KEY).list("/api/v1/workspaces").await?.len() == 2, "the administrator sees all");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics_want_none() -> Result<()> {
    let installation = Installation::create("query_ops").await?;
    let up = installation.start("up", &[]).await?;
    let api = up.api("");
    ensure!(api.get("/health").await?["status"] == "ok", "health");
    let ready = api.get("/ready").await?;
    ensure!(ready["status"] == "ready" && ready["checks"]["database"]["healthy"] == true, "{ready}");
    let (status, text) = api.get_answer("/metrics").await?;
    ensure!(status == 200 && text.contains("# TYPE millrace_"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_checked() -> Result<()> {
    let installation = Installation::create("query_parameters").await?;
    let up = installation.start("up", &[]).await?;
    let api = up.api(WORKSPACE_KEY);
    let now = "2026-01-10T00:00:00Z";
    for (route, expected) in [
        ("aggregations?window=2m".to_owned(), "Invalid window '2m'. Valid options: 5s, 1m, 5m"),
        (format!("aggregations?from={now}&to={now}"), "'from' must be before 'to'"),
        ("aggregations?from=yesterday".to_owned(), ""),
        ("aggregations?service_id=5".to_owned(), ""),
        ("metrics?limit=many".to_owned(), ""),
        ("metrics?limit=-1".to_owned(), ""),
    ] {
        let path = format!("/api/v1/workspaces/{DEVELOPMENT_WORKSPACE}/{route}");
        let (status, body) = api.get_answer(&path).await?;
        ensure!(status == 400 && body.contains(expected), "{route}: {status} {body}");
    }
    let status = api.get_status("/api/v1/workspaces/none/aggregations").await?;
    ensure!(status == 400, "a workspace that is no UUID: {status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn shows_recent_records_and_their_windows() -> Result<()> {
    let installation = Installation::create("query_recent").await?;
    let up = installation.start("up", &[]).await?;
    let api = up.api(WORKSPACE_KEY);
    let mut failed = metric("select 'failed'");
    failed["status"] = "failed".into();
    failed["error_message"] = "no such table".into();
    failed["rows_affected"] = 3.into();
    for record in [metric("select 'older'"), failed.clone()] {
        api.ingest_all(std::slice::from_ref(&record)).await?;
    }
    let recent = until("both are seen", PATIENCE, async || {
        let recent = api.get(&format!("/api/v1/workspaces/{DEVELOPMENT_WORKSPACE}/metrics")).await?;
        ensure!(recent["count"] == 2, "{recent}");
        Ok(recent)
    })
    .await?;
    let newest = &recent["metrics"][0];
    for field in ["id", "status", "error_message", "rows_affected", "duration_ms", "query_text"] {
        ensure!(newest[field] == failed[field], "{field}: {newest}");
    }
    let one = api.get(&format!("/api/v1/workspaces/{DEVELOPMENT_WORKSPACE}/metrics?limit=1")).await?;
    ensure!(one["count"] == 1 && one["metrics"][0]["id"] == failed["id"], "the newest one: {one}");
    until("both are counted", PATIENCE, async || check_windows(&api.get(&aggregations("5m")).await?)).await
}

fn aggregations(window: &str) -> String {
    format!(
        "/api/v1/workspaces/{DEVELOPMENT_WORKSPACE}/aggregations?window={window}&service_id={DEVELOPMENT_SERVICE}"
    )
}

/// The two records may have fallen into two windows: the sums are what counts.
fn check_windows(answer: &Value) -> Result<()> {
    let buckets = answer["buckets"].as_array().map_or(&[][..], Vec::as_slice);
    let sum = |field: &str| buckets.iter().filter_map(|bucket| bucket[field].as_f64()).sum::<f64>();
    for (field, expected) in [
        ("query_count", 2.0),
        ("success_count", 1.0),
        ("failed_count", 1.0),
        ("timeout_count", 0.0),
        ("cancelled_count", 0.0),
        ("sum_duration_ms", 5.0),
        ("total_rows_affected", 3.0),
    ] {
        ensure!((sum(field) - expected).abs() < 1e-9, "{field} is {}: {answer}", sum(field));
    }
    let fields =
        ["avg_duration_ms", "min_duration_ms", "max_duration_ms", "p50_duration_ms", "p95_duration_ms"];
    for bucket in buckets {
        for field in fields {
            let value = bucket[field].as_f64().unwrap_or_default();
            ensure!((value - 2.5).abs() <= 0.025, "{field}: {bucket}");
        }
        ensure!(bucket["revision"].is_i64() && bucket["error_rate"].is_f64(), "{bucket}");
    }
    Ok(())
}
