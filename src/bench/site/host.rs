//! The embedded log and store as a process of their own, so that what they cost is not counted as anything else's.

use super::EMBEDDED;
use anyhow::{Context, ensure};
use clap::Args;
use millrace_broker::Broker;
use millrace_store::Store;
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// What the process runs until its standard input ends: so it never outlives whom it is for.
#[derive(Debug, Args)]
pub struct Settings {
    #[arg(long)]
    data_dir: PathBuf,
    #[arg(long)]
    log: bool,
    #[arg(long)]
    store: bool,
    #[command(flatten)]
    broker: millrace_broker::Settings,
}

/// Where things listen: the process's only line on standard output.
#[derive(Debug, Serialize, Deserialize)]
pub struct Addresses {
    pub brokers: Option<String>,
    pub database_url: Option<String>,
}

/// The process.
pub struct Host {
    child: Child,
    pub addresses: Addresses,
}

impl Host {
    /// Starts what is to be embedded.
    pub async fn start(folder: &Path, brokers: &str, database_url: &str) -> anyhow::Result<Option<Self>> {
        let (log, store) = (brokers == EMBEDDED, database_url == EMBEDDED);
        if !log && !store {
            return Ok(None);
        }
        let mut command = Command::new(std::env::current_exe().context("finding this binary")?);
        command.args(["bench", "host", "--log-listen", "127.0.0.1:0", "--data-dir"]).arg(folder);
        command.args(log.then_some("--log")).args(store.then_some("--store"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("starting the embedded log and store")?;
        let stdout = child.stdout.take().context("its standard output is a pipe")?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        let line = line.context("the embedded log and store did not start")?;
        let addresses = serde_json::from_str(&line).context("reading the addresses")?;
        Ok(Some(Self { child, addresses }))
    }

    pub fn process(&self) -> Option<String> {
        self.child.id().map(|id| id.to_string())
    }

    pub async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait().await?;
        ensure!(status.success(), "the embedded log and store ended with {status}");
        Ok(())
    }
}

/// Is that process.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut addresses = Addresses { brokers: None, database_url: None };
    let (mut broker, mut store) = (None, None);
    if settings.log {
        let started = Broker::start(&settings.data_dir.join("log"), settings.broker).await?;
        addresses.brokers = Some(started.address().to_string());
        broker = Some(started);
    }
    if settings.store {
        let folder = settings.data_dir.join("store");
        let started = Store::start(millrace_store::Settings::new(folder)).await?;
        addresses.database_url = Some(started.url());
        store = Some(started);
    }
    crate::bench::say(&serde_json::to_string(&addresses)?);
    tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink())).await??;
    if let Some(store) = store {
        store.close().await?;
    }
    if let Some(broker) = broker {
        broker.close().await?;
    }
    Ok(())
}
