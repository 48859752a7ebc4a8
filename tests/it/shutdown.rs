//! SIGTERM and SIGINT: no more requests, everything flushed, then a clean end; and nothing acknowledged is lost.

use crate::harness::{
    ADMIN_KEY, Api, DEVELOPMENT_WORKSPACE, Installation, Process, Signal, metric, settle, sum,
};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// From the signal to the end.
const END_WITHIN: Duration = Duration::from_secs(10);
/// Batches acknowledged before the signal comes, while more are being sent.
const BATCHES_BEFORE: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn ends_cleanly_and_loses_nothing_acknowledged() -> Result<()> {
    let installation = Installation::create("shutdown").await?;
    let mut acknowledged = 0;
    let mut sent = 0;
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let up = installation.start("up", &[]).await?;
        let (of_run, sent_in_run) = send_until_it_ends(&up, signal).await?;
        let status = up.ended(END_WITHIN).await?;
        ensure!(status.success(), "{signal:?}: it ended with {status}");
        acknowledged += of_run;
        sent += sent_in_run;
    }
    let up = installation.start("up", &[]).await?;
    let api = up.api(ADMIN_KEY);
    settle(&installation, &api).await?;
    let counted = sum(&api, DEVELOPMENT_WORKSPACE, "window=5s", "success_count").await?;
    ensure!(
        (acknowledged..=sent).contains(&counted),
        "{counted} are counted of {acknowledged} acknowledged, {sent} sent"
    );
    Ok(())
}

/// How many records were acknowledged, and how many sent.
async fn send_until_it_ends(up: &Process, signal: Signal) -> Result<(i64, i64)> {
    let api = up.api(ADMIN_KEY);
    let (mut acknowledged, mut sent) = (0, 0);
    for batch_number in 0_usize.. {
        if batch_number == BATCHES_BEFORE {
            up.signal(signal)?;
        }
        let batch: Vec<_> = (0..20).map(|_| metric("select 'shutdown'")).collect();
        sent += 20;
        if !send(&api, &batch).await {
            break;
        }
        acknowledged += 20;
    }
    Ok((acknowledged, sent))
}

/// Whether it was acknowledged; a server that is ending may refuse or not answer.
async fn send(api: &Api, batch: &[Value]) -> bool {
    matches!(api.ingest(batch).await, Ok(response) if response.status() == 202)
}
