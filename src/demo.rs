//! `--demo`: a made-up shop whose services send their queries to the edge, first those of the last minutes, then live. It
//! is a client like any other: it knows the edge's address and a key, nothing more.

mod story;
mod traffic;

use crate::replay::edge::{Edge, EdgeError};
use chrono::{DateTime, TimeDelta, Utc};
use millrace_schemas::{ServiceId, WorkspaceId};
use serde::Deserialize;
use std::time::Duration;
use story::SERVICES;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use traffic::{STEP_MS, Shop};

/// What a newcomer finds already there, so that windows of minutes have something to show at once.
const HISTORY: TimeDelta = TimeDelta::minutes(15);
const TICK: Duration = Duration::from_millis(250);
/// Steps whose records are sent in one request: some 70 records for each second.
const STEPS_PER_REQUEST: i64 = 60_000 / STEP_MS;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the demo's services")]
    Services(#[source] EdgeError),
    #[error("what the demo has told already")]
    Told(#[source] EdgeError),
    #[error("sending the demo's records")]
    Send(#[source] EdgeError),
}

/// Tells the story until `shutdown`.
pub async fn run(edge: Edge, workspace: WorkspaceId, shutdown: CancellationToken) -> Result<(), Error> {
    let shop = Shop { workspace, services: services(&edge, workspace).await.map_err(Error::Services)? };
    let mut told = told_until(&edge, workspace).await.map_err(Error::Told)?;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = ticks.tick() => {}
        }
        told = tell(&edge, &shop, told, now()).await.map_err(Error::Send)?;
    }
    Ok(())
}

async fn services(edge: &Edge, workspace: WorkspaceId) -> Result<Vec<ServiceId>, EdgeError> {
    let mut services = Vec::new();
    for service in &SERVICES {
        let path = format!("/api/v1/workspaces/{workspace}/services");
        services.push(ServiceId(edge.get_or_create(&path, service.name).await?));
    }
    Ok(services)
}

/// The step that was told last, if it was in the last minutes: those after it are told now.
async fn told_until(edge: &Edge, workspace: WorkspaceId) -> Result<i64, EdgeError> {
    #[derive(Deserialize)]
    struct Answer {
        buckets: Vec<Bucket>,
    }
    #[derive(Deserialize)]
    struct Bucket {
        bucket: DateTime<Utc>,
    }
    let first = Utc::now() - HISTORY;
    let path =
        format!("/api/v1/workspaces/{workspace}/aggregations?window=5s&from={}", first.format("%FT%TZ"));
    let answer: Answer = edge.get(&path).await?;
    let newest = answer.buckets.iter().map(|bucket| bucket.bucket).max().unwrap_or(first);
    Ok(newest.timestamp_millis() / STEP_MS)
}

/// Sends the steps from `told` to `until`, and returns how far it came.
async fn tell(edge: &Edge, shop: &Shop, told: i64, until: i64) -> Result<i64, EdgeError> {
    let mut next = told;
    while next < until {
        let end = until.min(next + STEPS_PER_REQUEST);
        edge.ingest(&shop.records(next..end)).await?;
        next = end;
    }
    Ok(next)
}

fn now() -> i64 {
    Utc::now().timestamp_millis() / STEP_MS
}
