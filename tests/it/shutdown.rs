//! SIGTERM and SIGINT: no more requests, everything flushed, then a clean end; and nothing acknowledged is lost.

use crate::harness::{
    ADMIN_KEY, Api, DEVELOPMENT_WORKSPACE, Installation, PATIENCE, Process, Signal, metric, settle, sum,
};
use anyhow::{Context as _, Result, ensure};
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

/// The archive waits for an answer: the process ends all the same, in time and without a panic.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_never_answers_holds_up_no_end() -> Result<()> {
    let mut installation = Installation::create("shutdown_bucket").await?;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let settings = [
        ("AWS_ACCESS_KEY_ID", "key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT", format!("http://{}", silent.local_addr()?)),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
    ];
    installation.bucket = Some(("s3://bucket/archive".to_owned(), settings.into()));
    let processor = installation.start("processor", &[]).await?;
    let (held, _) =
        tokio::time::timeout(PATIENCE, silent.accept()).await.context("nobody asks the bucket")??;
    processor.signal(Signal::Terminate)?;
    let status = processor.ended(END_WITHIN).await?;
    drop(held);
    let log = processor.log()?;
    ensure!(status.success() && !log.contains(" panicked at "), "{status}: {log}");
    Ok(())
}
