//! SIGTERM and SIGINT: no more requests, everything flushed, then a clean end; and nothing acknowledged is lost.

use crate::harness::{
    ADMIN_KEY, Api, DEVELOPMENT_WORKSPACE, Installation, Load, PATIENCE, Process, Services, Signal, metric,
    settle, sum, until,
};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sqlx::{Connection as _, Executor as _, PgConnection};
use std::time::Duration;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

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

#[tokio::test(flavor = "multi_thread")]
async fn ends_in_time_though_log_and_store_are_away_and_a_client_hangs() -> Result<()> {
    let mut installation = Installation::embedded().await?;
    let up = at_work(&installation).await?;
    let embedded = installation.embedded.as_mut().context("it is embedded")?;
    embedded.stop_store().await?;
    embedded.stop_broker().await?;
    let api = up.api(ADMIN_KEY);
    let _hangs = begin_a_request(&up).await?;
    let end = async {
        up.signal(Signal::Terminate)?;
        up.ended(END_WITHIN).await
    };
    let in_flight = [metric("select 'nobody has it'")];
    let (answered, status) = tokio::join!(send(&api, &in_flight), end);
    let status = status?;
    ensure!(status.success() && !answered, "it ended with {status}, acknowledged: {answered}");
    Ok(())
}

/// Every table that a role asks is locked: nothing answers, and nothing fails.
#[tokio::test(flavor = "multi_thread")]
async fn ends_in_time_though_the_database_hangs_and_loses_nothing() -> Result<()> {
    if Services::find("shutdown").is_none() {
        return Ok(());
    }
    let installation = Installation::create("shutdown_hangs").await?;
    let up = at_work(&installation).await?;
    let load = Load::start(&installation.log, 1)?;
    let mut locks = PgConnection::connect(&installation.database.url).await?;
    locks.execute("BEGIN; LOCK TABLE workspaces, services, api_keys, sink_offsets, ledger_positions").await?;
    // Combine must ask who that is.
    let mut stranger = metric("select 'stranger'");
    stranger["workspace_id"] = uuid::Uuid::now_v7().to_string().into();
    installation.log.produce_to_each(|_| stranger.to_string().into_bytes()).await?;
    until("combine waits for the database", PATIENCE, async || {
        ensure!(up.log()?.contains("can't ask which workspaces exist"), "not yet");
        Ok(())
    })
    .await?;
    let sent = load.stop().await?;
    up.signal(Signal::Terminate)?;
    let status = up.ended(END_WITHIN).await?;
    ensure!(status.success(), "it ended with {status}");
    locks.close().await?;
    let up = installation.start("up", &[]).await?;
    let api = up.api(ADMIN_KEY);
    settle(&installation, &api).await?;
    let counted = sum(&api, DEVELOPMENT_WORKSPACE, "window=5s", "success_count").await?;
    // And the one of `at_work`.
    ensure!(usize::try_from(counted)? == sent.times.len() + 1, "{counted} of {} + 1", sent.times.len());
    Ok(())
}

/// Of which the rest never comes.
async fn begin_a_request(up: &Process) -> Result<TcpStream> {
    let url = up.url();
    let mut client = TcpStream::connect(url.trim_start_matches("http://")).await?;
    let head = format!(
        "POST /api/v1/metrics/ingest HTTP/1.1\r\nHost: {url}\r\nAuthorization: Bearer {ADMIN_KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{\"metrics\":["
    );
    client.write_all(head.as_bytes()).await?;
    Ok(client)
}

async fn at_work(installation: &Installation) -> Result<Process> {
    let up = installation.start("up", &[]).await?;
    let api = up.api(ADMIN_KEY);
    api.ingest_all(&[metric("select 'before'")]).await?;
    until("it is stored", PATIENCE, async || {
        let stored = api.counter("millrace_sink_rows_total", &[]).await?;
        ensure!(stored > 0.0, "not yet");
        Ok(())
    })
    .await?;
    Ok(up)
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
