//! A broker that is away or hangs: 503 within seconds, never a hang and never a false 202; and when it is back,
//! retried records count once.

use crate::harness::{
    ADMIN_KEY, Api, DEVELOPMENT_WORKSPACE, Installation, Load, PATIENCE, Services, Signal, free_port, metric,
    run, say_skipped, settle, sum, until,
};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The longest that the edge may take to say that the log is away.
const ANSWER_WITHIN: Duration = Duration::from_millis(3_500);
/// From SIGTERM to the end.
const END_WITHIN: Duration = Duration::from_secs(10);

/// A broker that belongs to one test.
struct Broker {
    port: u16,
    folder: TempDir,
}

impl Broker {
    async fn start() -> Result<Self> {
        let broker = Self { port: free_port()?, folder: tempfile::tempdir()? };
        broker.start_again().await?;
        Ok(broker)
    }

    async fn start_again(&self) -> Result<()> {
        let data = self.folder.path().display().to_string();
        // The script and the broker print to their own log; the controller's port is any free one.
        let environment =
            [format!("KAFKA_CONTROLLER_PORT={}", free_port()?), "KAFKA_HEAP_OPTS=-Xmx384m".to_owned()];
        let mut arguments = environment.to_vec();
        arguments.extend([script().display().to_string(), "start".to_owned(), self.port.to_string(), data]);
        run("/usr/bin/env", &arguments).await.map(|_| ())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid =
            Command::new(script()).args(["pid", &self.port.to_string()]).output().context("kafka.sh pid")?;
        signal.send(String::from_utf8(pid.stdout)?.trim().parse().context("the broker's pid")?)
    }

    async fn stop(&self) -> Result<()> {
        run(script(), &["stop".to_owned(), self.port.to_string()]).await.map(|_| ())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let stopped = Command::new(script()).args(["stop", &self.port.to_string()]).output();
        if !stopped.is_ok_and(|output| output.status.success()) {
            eprintln!("the broker on port {} may still run", self.port);
        }
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/dev/kafka.sh")
}

#[tokio::test(flavor = "multi_thread")]
async fn is_503_while_the_embedded_log_is_away() -> Result<()> {
    let mut installation = Installation::embedded().await?;
    let up = installation.start("up", &[]).await?;
    let api = up.api(ADMIN_KEY);
    api.ingest_all(&[metric("select 'before'")]).await?;

    let embedded = installation.embedded.as_mut().context("it is embedded")?;
    embedded.stop_broker().await?;
    let away = refused_within_seconds(&api).await?;
    embedded.start_broker_again().await?;
    retry(&api, &away).await?;

    settle(&installation, &api).await?;
    let counted = sum(&api, DEVELOPMENT_WORKSPACE, "window=5s", "success_count").await?;
    ensure!(counted == 2, "{counted} records are counted instead of 2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn is_503_within_seconds_and_a_retry_counts_once() -> Result<()> {
    let Some(services) = Services::find("outage") else { return Ok(()) };
    if !Command::new(script()).arg("installed").status().is_ok_and(|status| status.success()) {
        say_skipped("outage", "it starts and stops a broker of its own: deploy/dev/kafka.sh install");
        return Ok(());
    }
    let broker = Broker::start().await?;
    let installation = Installation::on(&format!("127.0.0.1:{}", broker.port), &services, "outage").await?;
    let up = installation.start("up", &[]).await?;
    let api = up.api(ADMIN_KEY);
    api.ingest_all(&[metric("select 'before'")]).await?;

    broker.signal(Signal::Stop)?;
    let hung = refused_within_seconds(&api).await;
    broker.signal(Signal::Continue)?;
    retry(&api, &hung?).await?;

    broker.stop().await?;
    let away = refused_within_seconds(&api).await?;
    broker.start_again().await?;
    retry(&api, &away).await?;

    settle(&installation, &api).await?;
    let counted = sum(&api, DEVELOPMENT_WORKSPACE, "window=5s", "success_count").await?;
    ensure!(counted == 3, "{counted} records are counted instead of 3");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_in_time_though_the_broker_hangs_and_loses_nothing() -> Result<()> {
    let Some(services) = Services::find("outage_end") else { return Ok(()) };
    if !Command::new(script()).arg("installed").status().is_ok_and(|status| status.success()) {
        say_skipped("outage_end", "it stops a broker of its own: deploy/dev/kafka.sh install");
        return Ok(());
    }
    let broker = Broker::start().await?;
    let brokers = format!("127.0.0.1:{}", broker.port);
    let installation = Installation::on(&brokers, &services, "outage_end").await?;
    let up = installation.start("up", &[]).await?;
    let load = Load::start(&installation.log, 1)?;
    let api = up.api(ADMIN_KEY);
    until("records are stored", PATIENCE, async || {
        let stored = api.counter("millrace_sink_rows_total", &[]).await?;
        ensure!(stored > 10.0, "{stored} rows");
        Ok(())
    })
    .await?;
    broker.signal(Signal::Stop)?;
    up.signal(Signal::Terminate)?;
    let ended = up.ended(END_WITHIN).await;
    broker.signal(Signal::Continue)?;
    ensure!(ended?.success(), "it ended with an error");
    let sent = load.stop().await?;
    let up = installation.start("up", &[]).await?;
    let api = up.api(ADMIN_KEY);
    settle(&installation, &api).await?;
    let counted = sum(&api, DEVELOPMENT_WORKSPACE, "window=5s", "success_count").await?;
    ensure!(usize::try_from(counted)? == sent.times.len(), "{counted} of {}", sent.times.len());
    Ok(())
}

/// Sends one record, which must be answered 503 in time, and returns it.
async fn refused_within_seconds(api: &Api) -> Result<Value> {
    let record = metric("select 'meanwhile'");
    let started = Instant::now();
    let response = api.ingest(std::slice::from_ref(&record)).await?;
    let took = started.elapsed();
    ensure!(response.status() == 503, "{} while the broker is away", response.status());
    ensure!(response.headers().contains_key("retry-after"), "a 503 without Retry-After");
    ensure!(took < ANSWER_WITHIN, "the answer took {took:?}");
    Ok(record)
}

async fn retry(api: &Api, record: &Value) -> Result<()> {
    until("the edge takes records again", PATIENCE, async || {
        api.ingest_all(std::slice::from_ref(record)).await
    })
    .await
}
