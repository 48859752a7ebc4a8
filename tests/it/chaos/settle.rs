//! Waiting until everything that the log has is counted, stored and archived.

use super::{plan::Target, site::Site, storage::Storage};
use crate::harness::until;
use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use millrace_schemas::Window;
use serde_json::Value;
use std::time::Duration;

/// From the end of faults and load on.
const SETTLED_WITHIN: Duration = Duration::from_secs(240);
/// How long after its end a window may not be final yet, when all is idle.
const FINAL_AFTER: TimeDelta = TimeDelta::seconds(15);

/// What the query service tells when there is nothing left to do.
pub struct Settled {
    /// All rows of all windows.
    pub windows: Vec<Value>,
    /// The rows of the ledger, of all workspaces and of nobody.
    pub ledger: Vec<Value>,
}

pub async fn settle(site: &Site, workspaces: &[String]) -> Result<Settled> {
    if let Storage::Bucket(bucket) = &site.storage {
        bucket.heal();
    }
    site.ready().await?;
    let api = site.api(Target::Query);
    until("every stage is at the log's end", SETTLED_WITHIN, async || {
        site.tend()?;
        let pipeline = api.get("/api/v1/pipeline").await?;
        let partitions = pipeline["partitions"].as_array().context("no partitions")?;
        for partition in partitions {
            let done =
                ["combine", "windows", "sink", "archive"].iter().all(|stage| partition["lag"][*stage] == 0);
            ensure!(done && partition["log_end"].is_i64(), "{partition}");
        }
        Ok(())
    })
    .await?;
    let windows = until("the windows of the past are final", SETTLED_WITHIN, async || {
        let rows = rows(site, workspaces).await?;
        let now = Utc::now();
        for row in &rows {
            ensure!(row["is_final"] == true || end_of(row)? + FINAL_AFTER > now, "{row}");
        }
        Ok(rows)
    });
    let windows = windows.await?;
    let ledger = until("the ledger's minutes are all processed", SETTLED_WITHIN, async || {
        let to = (Utc::now() + TimeDelta::minutes(1)).to_rfc3339_opts(SecondsFormat::Secs, true);
        // All of it: a phase takes some minutes.
        let from = (Utc::now() - TimeDelta::hours(20)).to_rfc3339_opts(SecondsFormat::Secs, true);
        let path = format!("/api/v1/ledger?from={from}&to={to}&limit=10000");
        let ledger = api.get(&path).await?;
        let rows = ledger["rows"].as_array().with_context(|| format!("no rows in {ledger}"))?;
        ensure!(ledger["next_from"].is_null(), "more rows than one answer has");
        ensure!(
            !rows.is_empty() && rows.iter().all(|row| row["processed"] == true),
            "{}",
            ledger["processed_to"]
        );
        Ok(rows.clone())
    });
    Ok(Settled { windows, ledger: ledger.await? })
}

async fn rows(site: &Site, workspaces: &[String]) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    for workspace in workspaces {
        for window in Window::ALL {
            rows.extend(of_window(site, workspace, window).await?);
        }
    }
    Ok(rows)
}

/// All pages of them.
async fn of_window(site: &Site, workspace: &str, window: Window) -> Result<Vec<Value>> {
    let api = site.api(Target::Query);
    let mut rows = Vec::new();
    let mut from = Some("2000-01-01T00:00:00Z".to_owned());
    while let Some(start) = from {
        let query = format!("window={window}&from={start}&to=2100-01-01T00:00:00Z");
        let answer = api.get(&format!("/api/v1/workspaces/{workspace}/aggregations?{query}")).await?;
        for bucket in answer["buckets"].as_array().with_context(|| format!("no buckets in {answer}"))? {
            let mut row = bucket.clone();
            row["window_s"] = window.duration().as_secs().into();
            rows.push(row);
        }
        from = answer["next_from"].as_str().map(str::to_owned);
    }
    Ok(rows)
}

fn end_of(row: &Value) -> Result<DateTime<Utc>> {
    let start = row["bucket"].as_str().context("a row without a start")?;
    let seconds = row["window_s"].as_i64().context("a row without a window")?;
    Ok(start.parse::<DateTime<Utc>>()? + TimeDelta::seconds(seconds))
}
