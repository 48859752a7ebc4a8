//! What every test starts from: topics, a database and an archive of its own, and the binary run on them.

mod api;
mod database;
mod kafka;
mod process;
mod records;
mod services;
mod settle;
mod wait;

pub use api::{ADMIN_KEY, Api, WORKSPACE_KEY};
pub use kafka::{Log, header};
pub use process::{Process, Signal, free_port, millrace, run};
pub use records::{DEVELOPMENT_SERVICE, DEVELOPMENT_WORKSPACE, metric, metric_at, ndjson};
pub use services::{Services, python, say_skipped};
pub use settle::{count, settle};
pub use wait::{PATIENCE, until};

use anyhow::Result;
use database::Database;
use millrace_schemas::topic::Topics;
use std::path::PathBuf;
use tempfile::TempDir;

/// One installation of Millrace: nothing else uses its topics, its database or its folder. Dropping it removes them.
pub struct Installation {
    pub log: Log,
    pub topics: Topics,
    database: Database,
    folder: TempDir,
    prefix: String,
}

impl Installation {
    /// None, and a word on standard error, where the services are not there.
    pub async fn create(test: &str) -> Result<Option<Self>> {
        match Services::find(test) {
            Some(services) => Self::on(&services.kafka, &services, test).await.map(Some),
            None => Ok(None),
        }
    }

    /// The same on brokers of the caller's choice.
    pub async fn on(brokers: &str, services: &Services, test: &str) -> Result<Self> {
        let name = format!("it_{test}_{}", uuid::Uuid::now_v7().simple());
        let prefix = format!("{}.", name.replace('_', "-"));
        Ok(Self {
            log: Log::new(brokers, &prefix),
            topics: Topics::with_prefix(&prefix),
            database: Database::create(&services.database_url, &name).await?,
            folder: tempfile::tempdir()?,
            prefix,
        })
    }

    /// Starts `millrace ROLE` with these further arguments on a free port and returns when it is ready.
    pub async fn start(&self, role: &str, arguments: &[&str]) -> Result<Process> {
        let process = self.launch(role, arguments)?;
        process.ready().await?;
        Ok(process)
    }

    /// The same without waiting.
    pub fn launch(&self, role: &str, arguments: &[&str]) -> Result<Process> {
        let mut all = self.options(role);
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        Process::launch(self.folder.path(), role, &all)
    }

    /// Where the log and the database are, as the commands that need both take it.
    pub fn connection(&self) -> Vec<String> {
        let options = [
            ("--kafka-brokers", self.log.brokers.as_str()),
            ("--topic-prefix", &self.prefix),
            ("--database-url", &self.database.url),
        ];
        options.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]).collect()
    }

    /// The folder that the processor archives into.
    pub fn archive(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    /// A place for a file of the test.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn options(&self, role: &str) -> Vec<String> {
        let mut options = self.connection();
        if matches!(role, "up" | "ingest" | "query") {
            options.push("--dev".to_owned());
        }
        if matches!(role, "up" | "processor" | "query") {
            options.extend(["--archive-url".to_owned(), format!("file://{}", self.archive().display())]);
        }
        options
    }
}
