//! How long after a window's end REST has its final rows.

use crate::bench::{load::latency::Latencies, site::Site};
use anyhow::ensure;
use chrono::{DateTime, DurationRound, SecondsFormat, TimeDelta, Utc};
use millrace_schemas::ServiceId;
use serde::Deserialize;
use std::{collections::HashSet, net::SocketAddr, time::Duration};
use tokio::time::{sleep, timeout};

const WINDOW: TimeDelta = TimeDelta::seconds(5);
/// Between two questions; latencies are known no better.
const INTERVAL: Duration = Duration::from_millis(10);
/// Nothing is final before, with the watermark's delay: it is not asked for.
const QUIET: TimeDelta = TimeDelta::milliseconds(1500);
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct Answer {
    buckets: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    service_id: ServiceId,
    is_final: bool,
}

/// Watches the windows of 5 s that begin and end between the two times, each until the rows of so many services are final.
pub async fn watch(
    site: &Site,
    query: SocketAddr,
    [from, to]: [DateTime<Utc>; 2],
    services: usize,
) -> anyhow::Result<Latencies> {
    let (client, mut latencies) = (reqwest::Client::new(), Latencies::default());
    let mut start = from.duration_trunc(WINDOW)? + WINDOW;
    while start + WINDOW <= to {
        let end = start + WINDOW;
        let [first, last] = [start, end].map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true));
        let url = format!(
            "http://{query}/api/v1/workspaces/{}/aggregations?window=5s&from={first}&to={last}",
            site.workspace
        );
        sleep((end + QUIET - Utc::now()).to_std().unwrap_or_default()).await;
        let watched = timeout(LIMIT, until_final(&client, &url, &site.key, end, services)).await;
        ensure!(watched.is_ok(), "the window from {first} has not become final within {LIMIT:?}");
        latencies.add(watched??);
        start = end;
    }
    Ok(latencies)
}

async fn until_final(
    client: &reqwest::Client,
    url: &str,
    key: &str,
    end: DateTime<Utc>,
    services: usize,
) -> anyhow::Result<Latencies> {
    let (mut seen, mut latencies) = (HashSet::new(), Latencies::default());
    loop {
        let answer = client.get(url).bearer_auth(key).send().await?.error_for_status()?;
        let answer: Answer = answer.json().await?;
        let late = (Utc::now() - end).to_std().unwrap_or_default();
        for row in answer.buckets.iter().filter(|row| row.is_final) {
            if seen.insert(row.service_id) {
                latencies.add_one(late);
            }
        }
        if seen.len() >= services {
            return Ok(latencies);
        }
        sleep(INTERVAL).await;
    }
}
