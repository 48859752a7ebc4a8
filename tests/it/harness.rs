//! What every test starts from: topics, a database and an archive of its own, and the binary run on them.

mod api;
mod broker;
mod database;
mod kafka;
mod load;
mod process;
mod records;
mod services;
mod settle;
mod wait;

pub use api::{ADMIN_KEY, Api, WORKSPACE_KEY};
pub use broker::Broker;
pub use kafka::{Log, header};
pub use load::{Load, Sent};
pub use process::{BINARY, Process, Signal, free_port, free_ports, millrace, run};
pub use records::{DEVELOPMENT_SERVICE, DEVELOPMENT_WORKSPACE, metric, metric_at, ndjson};
pub use services::{Services, has, number, python, say, say_skipped};
pub use settle::{count, settle, sum};
pub use wait::{PATIENCE, until};

use anyhow::Result;
use database::Database;
use millrace_schemas::topic::Topics;
use serde_json::Value;
use services::Embedded;
use std::path::PathBuf;
use tempfile::TempDir;

/// One installation of Millrace: nothing else uses its topics, its database or its folder. Dropping it removes them.
pub struct Installation {
    pub log: Log,
    pub topics: Topics,
    pub database: Database,
    /// Where the environment names no services.
    pub embedded: Option<Embedded>,
    /// Where the archive is not in the folder: its URL, and what programs must find in their environment.
    pub bucket: Option<(String, Vec<(&'static str, String)>)>,
    folder: TempDir,
    pub prefix: String,
}

/// A workspace with one service and a key.
pub struct Tenant {
    pub workspace: uuid::Uuid,
    pub service: uuid::Uuid,
    pub key: String,
}

impl Tenant {
    /// A valid record of its service that ended now.
    pub fn metric(&self, query_text: &str) -> Value {
        let mut record = metric(query_text);
        record["workspace_id"] = self.workspace.to_string().into();
        record["service_id"] = self.service.to_string().into();
        record
    }
}

impl Installation {
    /// On the services that the environment names, else on embedded ones.
    pub async fn create(test: &str) -> Result<Self> {
        match Services::given() {
            Some(services) => Self::on(&services.kafka, &services, test).await,
            None => Self::embedded().await,
        }
    }

    /// On brokers of the caller's choice.
    pub async fn on(brokers: &str, services: &Services, test: &str) -> Result<Self> {
        let installation = Self::without_timescaledb(brokers, services, test).await?;
        installation.database.execute("CREATE EXTENSION IF NOT EXISTS timescaledb").await?;
        Ok(installation)
    }

    /// The same with PostgreSQL as it is.
    pub async fn without_timescaledb(brokers: &str, services: &Services, test: &str) -> Result<Self> {
        let name = format!("it_{test}_{}", uuid::Uuid::now_v7().simple());
        let prefix = format!("{}.", name.replace('_', "-"));
        Ok(Self {
            log: Log::new(brokers, &prefix, true),
            topics: Topics::with_prefix(&prefix),
            database: Database::create(&services.database_url, &name).await?,
            embedded: None,
            bucket: None,
            folder: tempfile::tempdir()?,
            prefix,
        })
    }

    /// On a log and a store in this process that nobody else uses.
    pub async fn embedded() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let embedded = Embedded::start(folder.path()).await?;
        let prefix = "it.".to_owned();
        Ok(Self {
            log: Log::new(&embedded.brokers(), &prefix, false),
            topics: Topics::with_prefix(&prefix),
            database: Database::own(&embedded.database_url()),
            embedded: Some(embedded),
            bucket: None,
            folder,
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
        Process::launch(self.folder.path(), role, &all, self.environment())
    }

    /// Runs `millrace COMMAND …` to its end; what it printed.
    pub async fn run(&self, command: &[String]) -> Result<String> {
        let environment = self.environment().iter().map(|(name, value)| format!("{name}={value}"));
        let words: Vec<String> =
            environment.chain([BINARY.to_owned()]).chain(command.iter().cloned()).collect();
        run("/usr/bin/env", &words).await
    }

    fn environment(&self) -> &[(&'static str, String)] {
        self.bucket.as_ref().map_or(&[], |(_, environment)| environment)
    }

    /// A further tenant, with one service and a key that may write and read it.
    pub async fn add_tenant(&self, name: &str) -> Result<Tenant> {
        let tenant = Tenant {
            workspace: uuid::Uuid::now_v7(),
            service: uuid::Uuid::now_v7(),
            key: format!("key-of-{name}"),
        };
        let Tenant { workspace, service, key } = &tenant;
        let sql = format!(
            "INSERT INTO workspaces (id, name) VALUES ('{workspace}', '{name}');
             INSERT INTO services (workspace_id, id, name) VALUES ('{workspace}', '{service}', '{name}');
             INSERT INTO api_keys (key_sha256, workspace_id, name, scopes)
                 VALUES (sha256('{key}'), '{workspace}', '{name}', '{{ingest,read}}');"
        );
        self.database.execute(&sql).await?;
        Ok(tenant)
    }

    /// The folder that the processor archives into.
    pub fn archive(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    /// A place for a file of the test.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The arguments of a command that is run to its end, `millrace COMMAND …`.
    pub fn command(&self, command: &str, arguments: &[&str]) -> Vec<String> {
        let mut all = vec![command.to_owned()];
        all.extend(self.options(command));
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        all
    }

    /// The arguments that lead every role to its log and its database.
    pub fn connection(&self) -> Vec<String> {
        let connection = [
            ("--kafka-brokers", self.log.brokers.as_str()),
            ("--topic-prefix", &self.prefix),
            ("--database-url", &self.database.url),
        ];
        connection.iter().flat_map(|(name, value)| [*name, *value]).map(str::to_owned).collect()
    }

    fn options(&self, role: &str) -> Vec<String> {
        let mut options = self.connection();
        if matches!(role, "up" | "ingest" | "query") {
            options.push("--dev".to_owned());
        }
        if matches!(role, "up" | "processor" | "query" | "rebuild" | "audit") {
            let folder = || format!("file://{}", self.archive().display());
            let url = self.bucket.as_ref().map_or_else(folder, |(url, _)| url.clone());
            options.extend(["--archive-url".to_owned(), url]);
        }
        if matches!(role, "up" | "processor") {
            options.extend(["--archive-interval", "2s"].map(str::to_owned));
        }
        options
    }
}
