//! Work beside what is measured, as a process of its own: memory that it leaves is not counted as anything else's.

use super::{fill::Fill, site::usage::Spent};
use anyhow::{Context, ensure};
use clap::Args;
use millrace_log::LogSettings;
use millrace_schemas::EventTime;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::process::Stdio;
use tokio::{io::AsyncWriteExt as _, process::Command};

/// The process reads its task from standard input, and writes what came of it to standard output, both as JSON.
#[derive(Debug, Args)]
pub struct Settings {
    #[command(flatten)]
    log: LogSettings,
}

#[derive(Debug, Serialize, Deserialize)]
enum Task {
    Fill(Fill),
    Drain { records: u64 },
}

pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let done = tokio::task::spawn_blocking(move || -> anyhow::Result<String> {
        let log = settings.log;
        Ok(match serde_json::from_reader(std::io::stdin()).context("reading the task")? {
            Task::Fill(fill) => serde_json::to_string(&super::fill::send_all(&log, &fill)?)?,
            Task::Drain { records } => serde_json::to_string(&super::drain::drain_all(&log, records)?)?,
        })
    });
    super::say(&done.await??);
    Ok(())
}

/// Fills the raw topic; the event time of the first record.
pub(super) async fn fill(log: &LogSettings, fill: &Fill) -> anyhow::Result<EventTime> {
    start(log, &Task::Fill(fill.clone())).await
}

/// The limit: so many records of the raw topic read by librdkafka alone, in batches, on two threads.
pub(super) async fn drain(log: &LogSettings, records: u64) -> anyhow::Result<Spent> {
    start(log, &Task::Drain { records }).await
}

async fn start<T: DeserializeOwned>(log: &LogSettings, task: &Task) -> anyhow::Result<T> {
    let mut command = Command::new(std::env::current_exe().context("finding this binary")?);
    command.args(["bench", "aside", "--kafka-brokers", &log.brokers, "--topic-prefix", &log.topic_prefix]);
    command.args(["--topic-partitions", &log.topic_partitions.to_string()]).env_remove("KAFKA_PROPERTIES");
    if !log.properties.is_empty() {
        // Not as arguments, which others can see.
        command.env("KAFKA_PROPERTIES", log.properties.join(";"));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
    let mut child = command.spawn().context("starting a process")?;
    let mut stdin = child.stdin.take().context("its standard input is a pipe")?;
    stdin.write_all(&serde_json::to_vec(task)?).await.context("telling the process its task")?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "a process beside ended with {}", output.status);
    serde_json::from_slice(&output.stdout).context("reading what came of it")
}
