//! Where the log and the store of a test run are: real services that the environment names, or embedded ones.

use anyhow::{Context as _, Result, ensure};
use clap::{Args as _, FromArgMatches as _};
use millrace_broker::Broker;
use millrace_store::Store;
use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// A log and a store in the test's own process, for one installation.
pub struct Embedded {
    broker: Option<Broker>,
    address: SocketAddr,
    log_dir: PathBuf,
    store: Option<Store>,
    store_dir: PathBuf,
    database_url: String,
}

impl Embedded {
    pub async fn start(folder: &Path) -> Result<Self> {
        let log_dir = folder.join("log");
        let store_dir = folder.join("store");
        let (broker, store) = tokio::join!(start_broker(&log_dir, "127.0.0.1:0"), start_store(&store_dir));
        let (broker, store) = (broker?, store?);
        let (address, database_url) = (broker.address(), store.url());
        Ok(Self { address, broker: Some(broker), log_dir, store: Some(store), store_dir, database_url })
    }

    pub fn brokers(&self) -> String {
        self.address.to_string()
    }

    pub fn database_url(&self) -> String {
        self.database_url.clone()
    }

    /// Nobody answers at the store's address any more.
    pub async fn stop_store(&mut self) -> Result<()> {
        let store = self.store.take().context("the embedded store runs")?;
        store.close().await.context("close the embedded store")
    }

    /// At the same address.
    pub async fn start_store_again(&mut self) -> Result<()> {
        let store = start_store(&self.store_dir).await?;
        ensure!(store.url() == self.database_url, "the store has another address: {}", store.url());
        self.store = Some(store);
        Ok(())
    }

    /// Nothing listens at the log's address any more.
    pub async fn stop_broker(&mut self) -> Result<()> {
        let broker = self.broker.take().context("the embedded log runs")?;
        broker.close().await.context("close the embedded log")
    }

    /// At the same address.
    pub async fn start_broker_again(&mut self) -> Result<()> {
        self.broker = Some(start_broker(&self.log_dir, &self.brokers()).await?);
        Ok(())
    }
}

async fn start_store(folder: &Path) -> Result<Store> {
    Store::start(millrace_store::Settings::new(folder)).await.context("start the embedded store")
}

async fn start_broker(folder: &Path, listen: &str) -> Result<Broker> {
    let command = millrace_broker::Settings::augment_args(clap::Command::new("test"));
    let matches = command.try_get_matches_from(["test", "--log-listen", listen])?;
    let settings = millrace_broker::Settings::from_arg_matches(&matches)?;
    Broker::start(folder, settings).await.context("start the embedded log")
}

/// The services that the environment names.
pub struct Services {
    /// `host:port`
    pub kafka: String,
    /// Of a role that may create databases.
    pub database_url: String,
}

impl Services {
    /// None where one of them is not named: then the embedded ones are tested.
    pub fn given() -> Option<Self> {
        let services = variable("MILLRACE_TEST_KAFKA").zip(variable("MILLRACE_TEST_DATABASE_URL"));
        services.map(|(kafka, database_url)| Self { kafka, database_url })
    }

    /// The same for what only real services have, with a word on standard error where they are not named.
    pub fn find(test: &str) -> Option<Self> {
        let services = Self::given();
        if services.is_none() {
            say_skipped(test, "set MILLRACE_TEST_KAFKA and MILLRACE_TEST_DATABASE_URL to run it");
        }
        services
    }
}

/// Whether a program can be run here.
pub fn has(test: &str, program: &str) -> bool {
    let found = std::process::Command::new(program).arg("-V").output().is_ok();
    if !found {
        say_skipped(test, &format!("{program} is not installed"));
    }
    found
}

/// A Python that has `tests/it/requirements.txt` installed.
pub fn python(test: &str) -> Option<PathBuf> {
    let python = variable("MILLRACE_TEST_PYTHON");
    if python.is_none() {
        say_skipped(test, "set MILLRACE_TEST_PYTHON to check with other people's clients too");
    }
    python.map(PathBuf::from)
}

pub fn say_skipped(test: &str, why: &str) {
    say(&format!("skipped: {test}: {why}"));
}

/// Straight to standard error, which the test runner does not swallow.
pub fn say(what: &str) {
    writeln!(std::io::stderr(), "{what}").expect("standard error is open");
}

/// A number that the environment sets.
pub fn number(name: &str) -> Option<u64> {
    variable(name).map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

#[expect(clippy::disallowed_methods, reason = "the test runner has no command line to take settings from")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
