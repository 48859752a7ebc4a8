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
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use traffic::{STEP_MS, Shop};

/// What a newcomer finds already there, so that windows of minutes have something to show at once.
const HISTORY: TimeDelta = TimeDelta::minutes(15);
const TICK: Duration = Duration::from_millis(250);
/// After the edge did not take what was sent.
const PAUSE: Duration = Duration::from_secs(2);
/// Steps whose records are sent in one request: some 70 records for each second.
const STEPS_PER_REQUEST: i64 = 60_000 / STEP_MS;

/// Tells the story until `shutdown`. Where the edge does not take it, it goes on from there when the edge does.
pub async fn run(edge: Edge, workspace: WorkspaceId, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        if let Err(error) = tell_on(&edge, workspace, &shutdown).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the demo waits for the edge");
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = sleep(PAUSE) => {}
        }
    }
}

async fn tell_on(edge: &Edge, workspace: WorkspaceId, shutdown: &CancellationToken) -> Result<(), EdgeError> {
    let shop = Shop { workspace, services: services(edge, workspace).await? };
    let mut told = told_until(edge, &shop).await?;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shutdown.is_cancelled() {
        ticks.tick().await;
        told = tell(edge, &shop, told.max(first_step()), now()).await?;
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

/// Nothing older is told, however long the telling has stopped.
fn first_step() -> i64 {
    (Utc::now() - HISTORY).timestamp_millis() / STEP_MS
}

/// The step that was told last, if it was in the last minutes: those after it are told now.
async fn told_until(edge: &Edge, shop: &Shop) -> Result<i64, EdgeError> {
    #[derive(Deserialize)]
    struct Answer {
        buckets: Vec<Bucket>,
    }
    #[derive(Deserialize)]
    struct Bucket {
        bucket: DateTime<Utc>,
        service_id: ServiceId,
    }
    let from = (Utc::now() - HISTORY).format("%FT%TZ");
    let path = format!("/api/v1/workspaces/{}/aggregations?window=5s&from={from}", shop.workspace);
    let answer: Answer = edge.get(&path).await?;
    let of_shop = answer.buckets.iter().filter(|bucket| shop.services.contains(&bucket.service_id));
    let newest = of_shop.map(|bucket| bucket.bucket.timestamp_millis() / STEP_MS).max();
    Ok(newest.unwrap_or_else(first_step))
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
