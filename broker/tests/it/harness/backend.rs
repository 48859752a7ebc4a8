//! The broker that a check talks to: the embedded one, started for it alone, or the Kafka that the environment names.

use super::services;
use anyhow::{Context as _, Result};
use millrace_broker::{Broker, Settings};
use std::{
    path::{Path, PathBuf},
    thread,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Embedded,
    Kafka,
}

pub struct Backend {
    pub kind: Kind,
    /// `host:port`
    pub bootstrap: String,
    /// Where an embedded broker has its data.
    pub folder: Option<PathBuf>,
    runtime: Runtime,
    test: String,
}

impl Backend {
    pub fn new(kind: Kind, bootstrap: &str, test: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { kind, bootstrap: bootstrap.to_owned(), folder: None, runtime, test: test.to_owned() })
    }

    /// A name that nothing else uses.
    pub fn unique(&self, what: &str) -> String {
        format!("{}-{what}-{}", self.test, &uuid::Uuid::new_v4().simple().to_string()[..12])
    }

    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}

/// Runs `check` on an embedded broker with an empty folder, and closes the broker after it.
pub fn on_embedded(test: &str, check: impl FnOnce(&Backend) -> Result<()>) -> Result<()> {
    on_embedded_syncing("5ms", test, check)
}

/// The same with another `--log-fsync`.
pub fn on_embedded_syncing(
    fsync: &str,
    test: &str,
    check: impl FnOnce(&Backend) -> Result<()>,
) -> Result<()> {
    let folder = TempDir::new()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut broker = runtime.block_on(Broker::start(folder.path(), settings(fsync))).context("start")?;
    let mut backend = Backend::new(Kind::Embedded, &broker.address().to_string(), test)?;
    backend.folder = Some(folder.path().to_owned());
    check(&backend)?;
    let ended = runtime.block_on(async {
        tokio::select! { biased; error = broker.ended() => Some(error), () = std::future::ready(()) => None }
    });
    anyhow::ensure!(ended.is_none(), "the broker ended by itself: {ended:?}");
    runtime.block_on(broker.close()).context("close")?;
    reopens(&runtime, folder.path(), fsync)
}

/// Whatever a check has left in the folder can be opened again.
fn reopens(runtime: &Runtime, folder: &Path, fsync: &str) -> Result<()> {
    let broker =
        runtime.block_on(Broker::start(folder, settings(fsync))).context("start on what the check left")?;
    runtime.block_on(broker.close()).context("close again")
}

/// Runs `check` on the real Kafka where there is one.
pub fn on_kafka(test: &str, check: fn(&Backend) -> Result<()>) -> Result<()> {
    let Some(bootstrap) = services::kafka() else { return Ok(()) };
    let name = thread::current().name().unwrap_or(test).replace("::", "-");
    check(&Backend::new(Kind::Kafka, &bootstrap, &name)?)
}

/// The defaults, on a free port.
fn settings(fsync: &str) -> Settings {
    #[derive(clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        settings: Settings,
    }
    let arguments = ["test", "--log-listen", "127.0.0.1:0", "--log-fsync", fsync];
    <Arguments as clap::Parser>::parse_from(arguments).settings
}
