//! Waiting until the whole log is counted.

use super::{Api, Installation, PATIENCE, metric, until};
use anyhow::{Context as _, Result, ensure};
use chrono::{SecondsFormat, TimeDelta, Utc};
use serde_json::Value;

/// Waits until all that the metrics topic holds by now is in the windows: by one more record of each service in each
/// partition, which can only be counted after everything before it. These marks are `cancelled`, which nothing else in
/// this suite is, and are in the windows of the present.
pub async fn settle(installation: &Installation, api: &Api) -> Result<()> {
    let services = services(api).await?;
    let mut marks_before = Vec::new();
    for (workspace, service) in &services {
        marks_before.push(marks_counted(api, workspace, service).await?);
    }
    let mut partitions = 0;
    for (workspace, service) in &services {
        let mark = |_| mark(workspace, service).to_string().into_bytes();
        partitions = installation.log.produce_to_each(mark).await?;
    }
    for ((workspace, service), before) in services.iter().zip(marks_before) {
        until(&format!("all of service {service} is counted"), 2 * PATIENCE, async || {
            let now = marks_counted(api, workspace, service).await?;
            ensure!(now == before + i64::from(partitions), "{now} instead of {before} + {partitions}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn mark(workspace: &str, service: &str) -> Value {
    let mut record = metric("-- a mark");
    record["status"] = "cancelled".into();
    record["workspace_id"] = workspace.into();
    record["service_id"] = service.into();
    record
}

/// All marks of the service.
async fn marks_counted(api: &Api, workspace: &str, service: &str) -> Result<i64> {
    let text = |delta: TimeDelta| (Utc::now() + delta).to_rfc3339_opts(SecondsFormat::Secs, true);
    let (from, to) = (text(-TimeDelta::hours(1)), text(TimeDelta::minutes(10)));
    sum(api, workspace, &format!("window=5m&service_id={service}&from={from}&to={to}"), "cancelled_count")
        .await
}

/// The sum of a field over the buckets that a query of aggregations answers.
pub async fn sum(api: &Api, workspace: &str, query: &str, field: &str) -> Result<i64> {
    let answer = api.get(&format!("/api/v1/workspaces/{workspace}/aggregations?{query}")).await?;
    let buckets = answer["buckets"].as_array().with_context(|| format!("no buckets in {answer}"))?;
    Ok(buckets.iter().filter_map(|bucket| bucket[field].as_i64()).sum())
}

/// All records in those buckets.
pub async fn count(api: &Api, workspace: &str, query: &str) -> Result<i64> {
    sum(api, workspace, query, "query_count").await
}

async fn services(api: &Api) -> Result<Vec<(String, String)>> {
    let mut services = Vec::new();
    for workspace in api.list("/api/v1/workspaces").await?.into_keys() {
        let of_workspace = api.list(&format!("/api/v1/workspaces/{workspace}/services")).await?;
        services.extend(of_workspace.into_keys().map(|service| (workspace.clone(), service)));
    }
    Ok(services)
}
