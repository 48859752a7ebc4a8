//! What a benchmark runs on: a log and a database, given by their addresses or started for it, with topics, a database, a
//! workspace and a folder that nobody else uses and that are removed at the end.

pub mod host;
pub mod role;
pub mod usage;

use anyhow::Context;
use clap::Args;
use host::Host;
use millrace_log::{LogSettings, ensure_topics, wait_until_reachable};
use millrace_schemas::WorkspaceId;
use millrace_tenancy::{Directory, StoreSettings};
use rdkafka::{
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use sqlx::{AssertSqlSafe, PgPool};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use url::Url;
use usage::Usage;
use uuid::Uuid;

/// In place of an address: started for the benchmark.
const EMBEDDED: &str = "embedded";
const ADD_KEY: &str = "INSERT INTO api_keys (key_sha256, workspace_id, name, scopes)
    VALUES (sha256($1::text::bytea), $2, 'bench', '{ingest,read}')";

#[derive(Clone, Debug, Args)]
#[command(mut_args(defaults))]
pub struct Settings {
    #[command(flatten, next_help_heading = "Log")]
    pub log: LogSettings,
    #[command(flatten, next_help_heading = "Database")]
    pub store: StoreSettings,
    /// Where the embedded log and store and the archive keep their data meanwhile; by default where temporary files go
    #[arg(long, value_name = "FOLDER")]
    pub work_dir: Option<PathBuf>,
}

fn defaults(argument: clap::Arg) -> clap::Arg {
    if !matches!(argument.get_id().as_str(), "brokers" | "database_url") {
        return argument;
    }
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let help = format!("{help}; `{EMBEDDED}` starts one for the benchmark");
    argument.required(false).default_value(EMBEDDED).help(help)
}

impl Settings {
    /// For a benchmark on the same kind of site; the database's URL is a secret and goes by the environment.
    pub fn arguments(&self) -> Vec<String> {
        let LogSettings { brokers, topic_prefix, topic_replication, properties, .. } = &self.log;
        let replication = format!("--topic-replication={topic_replication}");
        let mut all = vec!["--kafka-brokers", brokers, "--topic-prefix", topic_prefix, &replication]
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        all.extend(properties.iter().map(|property| format!("--kafka-property={property}")));
        all.extend(self.work_dir.iter().map(|folder| format!("--work-dir={}", folder.display())));
        all
    }
}

pub struct Site {
    pub log: LogSettings,
    pub store: StoreSettings,
    pub pool: PgPool,
    pub directory: Directory,
    pub workspace: WorkspaceId,
    /// May write and read the workspace.
    pub key: String,
    /// Where the log and the store are embedded.
    pub host: Option<Host>,
    /// The database that was given, and the name of that which was made there.
    given: Option<(PgPool, String)>,
    folder: TempDir,
}

/// Opens a site, measures on it, and leaves nothing behind.
pub async fn on<T>(
    settings: &Settings,
    measure: impl AsyncFnOnce(&mut Site) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut site = Site::open(settings).await.context("preparing what the benchmark runs on")?;
    let measured = measure(&mut site).await;
    let closed = site.close().await;
    let measured = measured?;
    closed.context("removing what the benchmark ran on")?;
    Ok(measured)
}

impl Site {
    async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let (mut log, mut store) = (settings.log.clone(), settings.store.clone());
        let folder = match &settings.work_dir {
            Some(parent) => TempDir::with_prefix_in("millrace-bench-", parent),
            None => TempDir::with_prefix("millrace-bench-"),
        };
        let folder = folder.context("making a folder")?;
        let host = Host::start(folder.path(), &log.brokers, &store.database_url).await?;
        let is_given = store.database_url != EMBEDDED;
        let addresses = host.as_ref().map(|host| &host.addresses);
        if let Some(brokers) = addresses.and_then(|addresses| addresses.brokers.clone()) {
            log.brokers = brokers;
        }
        if let Some(url) = addresses.and_then(|addresses| addresses.database_url.clone()) {
            store.database_url = url;
        }
        let own = Uuid::new_v4().simple().to_string();
        let given = if is_given { Some(make_database(&mut store, &own).await?) } else { None };
        log.topic_prefix = format!("{}bench-{own}.", log.topic_prefix);
        wait_until_reachable(&log, &CancellationToken::new()).await?;
        ensure_topics(&log).await.context("creating the topics")?;
        let pool = store.connect().await?;
        millrace_tenancy::migrate(&pool).await?;
        let directory = Directory::new(pool.clone());
        let workspace = directory.get_or_create_workspace("bench").await?.id;
        sqlx::query(ADD_KEY).bind(&own).bind(workspace.0).execute(&pool).await.context("adding a key")?;
        Ok(Self { log, store, pool, directory, workspace, key: own, host, given, folder })
    }

    /// Its processes keep their files here.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn archive_url(&self) -> String {
        format!("file://{}", self.folder().join("archive").display())
    }

    /// What leads a role to the log; the database's URL is a secret and goes by the environment.
    fn arguments(&self) -> Vec<String> {
        let LogSettings { brokers, topic_prefix, topic_partitions, properties, .. } = &self.log;
        let partitions = topic_partitions.to_string();
        let fixed = [
            ("--kafka-brokers", brokers),
            ("--topic-prefix", topic_prefix),
            ("--topic-partitions", &partitions),
        ];
        let properties = properties.iter().map(|property| ("--kafka-property", property));
        fixed
            .into_iter()
            .chain(properties)
            .flat_map(|(name, value)| [name.to_owned(), value.clone()])
            .collect()
    }

    /// Bytes that the embedded log has written for records; none where the log was given.
    pub fn log_bytes(&self) -> Option<u64> {
        let host = self.host.as_ref()?;
        host.addresses.brokers.as_ref()?;
        segment_bytes(&self.folder().join("log")).ok()
    }

    /// Begins to measure the embedded log and store.
    pub fn host_usage(&self) -> anyhow::Result<Option<Usage>> {
        self.host.as_ref().and_then(Host::process).map(Usage::of).transpose()
    }

    async fn close(self) -> anyhow::Result<()> {
        self.pool.close().await;
        if self.host.as_ref().is_none_or(|host| host.addresses.brokers.is_none()) {
            remove_topics(&self.log).await.context("removing the topics")?;
        }
        if let Some(host) = self.host {
            host.stop().await?;
        }
        if let Some((pool, name)) = self.given {
            let sql = format!("DROP DATABASE {name} WITH (FORCE)");
            sqlx::query(AssertSqlSafe(sql)).execute(&pool).await.context("removing the database")?;
        }
        self.folder.close().context("removing the folder")
    }
}

/// A database of its own beside the given one.
async fn make_database(store: &mut StoreSettings, own: &str) -> anyhow::Result<(PgPool, String)> {
    let (given, name) = (store.connect().await?, format!("millrace_bench_{own}"));
    let sql = format!("CREATE DATABASE {name}");
    sqlx::query(AssertSqlSafe(sql))
        .execute(&given)
        .await
        .context("making a database: the role must be allowed to")?;
    let mut url = Url::parse(&store.database_url)?;
    url.set_path(&name);
    store.database_url = url.into();
    Ok((given, name))
}

async fn remove_topics(log: &LogSettings) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = log.client().create()?;
    let specs = log.topics().specs(log.topic_partitions);
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    for removed in admin.delete_topics(&names, &AdminOptions::new()).await? {
        removed.map_err(|(topic, code)| anyhow::anyhow!("removing {topic}: {code}"))?;
    }
    Ok(())
}

fn segment_bytes(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            bytes += segment_bytes(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "log") {
            bytes += fs::metadata(path)?.len();
        }
    }
    Ok(bytes)
}
