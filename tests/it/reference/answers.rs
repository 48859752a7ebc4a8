//! What the server answers about the time of the reference log.

use super::{FROM, Identity, TO};
use crate::harness::Api;
use anyhow::{Context as _, Result, ensure};
use millrace_schemas::Window;
use serde_json::Value;
use std::collections::BTreeMap;

/// All buckets of these workspaces, whose names and whose services' names are looked up by id.
pub async fn windows(api: &Api, workspaces: &[&str]) -> Result<BTreeMap<Identity, Value>> {
    let ids = api.list("/api/v1/workspaces").await?;
    let mut windows = BTreeMap::new();
    for (id, workspace) in ids.iter().filter(|(_, name)| workspaces.contains(&name.as_str())) {
        let services = api.list(&format!("/api/v1/workspaces/{id}/services")).await?;
        for window in Window::ALL {
            for bucket in buckets(api, id, window).await? {
                let start = text(&bucket, "bucket")?.to_owned();
                let service = text(&bucket, "service_id")?;
                let service =
                    services.get(service).with_context(|| format!("no service has the id {service}"))?;
                let identity = (window.to_string(), start, workspace.clone(), service.clone());
                ensure!(windows.insert(identity, bucket.clone()).is_none(), "twice in one answer: {bucket}");
            }
        }
    }
    Ok(windows)
}

async fn buckets(api: &Api, workspace: &str, window: Window) -> Result<Vec<Value>> {
    let path = format!("/api/v1/workspaces/{workspace}/aggregations?window={window}&from={FROM}&to={TO}");
    let answer = api.get(&path).await?;
    let buckets = answer["buckets"].as_array().with_context(|| format!("no buckets in {answer}"))?;
    Ok(buckets.clone())
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    value[field].as_str().with_context(|| format!("no {field} in {value}"))
}
