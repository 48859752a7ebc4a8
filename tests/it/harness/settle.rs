//! Waiting until the whole log is counted.

use super::{Api, Installation, PATIENCE, metric, until};
use anyhow::{Context as _, Result, ensure};
use chrono::{SecondsFormat, TimeDelta, Utc};
use serde_json::Value;

/// Waits until all that the metrics topic holds by now is in the windows: by one more record of each service in each
/// partition, which can only be counted after everything before it. The windows of the present get those records.
pub async fn settle(installation: &Installation, api: &Api) -> Result<()> {
    let services = services(api).await?;
    let mut counted_before = Vec::new();
    for (workspace, service) in &services {
        counted_before.push(recent_count(api, workspace, service).await?);
    }
    let mut partitions = 0;
    for (workspace, service) in &services {
        let mark = |_| mark(workspace, service).to_string().into_bytes();
        partitions = installation.log.produce_to_each(mark).await?;
    }
    for ((workspace, service), before) in services.iter().zip(counted_before) {
        until(&format!("all of service {service} is counted"), 2 * PATIENCE, async || {
            let now = recent_count(api, workspace, service).await?;
            ensure!(now == before + i64::from(partitions), "{now} instead of {before} + {partitions}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn mark(workspace: &str, service: &str) -> Value {
    let mut record = metric("-- a mark");
    record["workspace_id"] = workspace.into();
    record["service_id"] = service.into();
    record
}

/// All records of the service in the last hour.
async fn recent_count(api: &Api, workspace: &str, service: &str) -> Result<i64> {
    let text = |delta: TimeDelta| (Utc::now() + delta).to_rfc3339_opts(SecondsFormat::Secs, true);
    let (from, to) = (text(-TimeDelta::hours(1)), text(TimeDelta::minutes(10)));
    count(api, workspace, &format!("window=5m&service_id={service}&from={from}&to={to}")).await
}

/// The sum of `query_count` over what a query of aggregations answers.
pub async fn count(api: &Api, workspace: &str, query: &str) -> Result<i64> {
    let answer = api.get(&format!("/api/v1/workspaces/{workspace}/aggregations?{query}")).await?;
    let buckets = answer["buckets"].as_array().with_context(|| format!("no buckets in {answer}"))?;
    Ok(buckets.iter().filter_map(|bucket| bucket["query_count"].as_i64()).sum())
}

async fn services(api: &Api) -> Result<Vec<(String, String)>> {
    let mut services = Vec::new();
    for workspace in api.list("/api/v1/workspaces").await?.into_keys() {
        let of_workspace = api.list(&format!("/api/v1/workspaces/{workspace}/services")).await?;
        services.extend(of_workspace.into_keys().map(|service| (workspace.clone(), service)));
    }
    Ok(services)
}
