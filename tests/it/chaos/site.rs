//! One installation under chaos: its roles as processes of their own, on servers of the suite's own.

use super::{
    load::{Cast, LATE_WORKSPACE_NAME},
    plan::{Phase, Target},
    role::{Role, Run},
    server::Server,
    storage::Storage,
};
use crate::harness::{ADMIN_KEY, Api, Installation, Services, free_ports, until};
use anyhow::{Context as _, Result, ensure};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use uuid::Uuid;

/// Below the ports that the system gives to outgoing connections.
const FIRST_PORT: u16 = 18_492;
const TENANTS: usize = 3;
/// For a start on a machine that is busy, while a server may still be on its way back.
const READY_WITHIN: Duration = Duration::from_secs(120);

pub struct Servers {
    pub kafka: Server,
    pub postgres: Server,
}

/// Dropped in this order: the roles before what they work with.
pub struct Site {
    pub roles: BTreeMap<Target, Role>,
    pub storage: Storage,
    /// Held while a fault happens to the archive.
    pub storage_busy: tokio::sync::Mutex<()>,
    pub installation: Installation,
    pub servers: Arc<Servers>,
    /// What is kept when the phase fails.
    pub folder: PathBuf,
    /// Processes that ended though nobody asked them to.
    ended: Mutex<Vec<String>>,
}

impl Servers {
    pub async fn start(folder: &Path) -> Result<Arc<Self>> {
        let (kafka, postgres) = tokio::try_join!(Server::kafka(folder), Server::postgres(folder))?;
        Ok(Arc::new(Self { kafka, postgres }))
    }
}

impl Site {
    /// All roles run and are ready.
    pub async fn start(
        servers: &Arc<Servers>,
        storage: Storage,
        phase: &Phase,
        folder: &Path,
    ) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let services = Services {
            kafka: format!("127.0.0.1:{}", servers.kafka.port),
            database_url: format!("postgresql://app:app@127.0.0.1:{}/app", servers.postgres.port),
        };
        let installation = Installation::on(&services.kafka, &services, "chaos").await?;
        let first_port = free_ports(FIRST_PORT, 4)?;
        let roles = Target::ROLES.into_iter().zip(first_port..).map(|(target, port)| {
            let run = run_of(target, &installation, &storage, phase);
            (target, Role::new(Run { port, ..run }, folder.join(format!("{}.log", target.name()))))
        });
        let site = Self {
            roles: roles.collect(),
            installation,
            servers: Arc::clone(servers),
            storage,
            storage_busy: tokio::sync::Mutex::new(()),
            folder: folder.to_owned(),
            ended: Mutex::default(),
        };
        site.roles.values().try_for_each(Role::start)?;
        site.ready().await?;
        Ok(site)
    }

    pub fn api(&self, target: Target) -> Api {
        self.roles[&target].api(ADMIN_KEY)
    }

    /// Waits until each role says that it is; one that has ended meanwhile is started again.
    pub async fn ready(&self) -> Result<()> {
        for role in self.roles.values() {
            until(&format!("{} is ready", role.name()), READY_WITHIN, async || {
                self.tend()?;
                let status = role.api("").get_status("/ready").await?;
                ensure!(status == 200, "/ready says {status}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Starts again what ended by itself, as a supervisor does, and keeps in mind that it did: the phase fails at its end.
    pub fn tend(&self) -> Result<()> {
        for role in self.roles.values() {
            let Ok(_idle) = role.busy.try_lock() else { continue };
            if let Some(status) = role.ended()? {
                let log = role.log()?;
                let why = log.lines().rfind(|line| line.starts_with("millrace: ")).unwrap_or_default();
                self.note_end(format!(
                    "{} ended by itself and was started again: {status} {why}",
                    role.name()
                ));
                role.start()?;
            }
        }
        Ok(())
    }

    pub fn note_end(&self, what: String) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    pub fn ended(&self) -> Vec<String> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Roles of which a thread has panicked.
    pub fn panicked(&self) -> Result<Vec<&'static str>> {
        let mut panicked = Vec::new();
        for role in self.roles.values() {
            if role.log()?.contains(" panicked at ") {
                panicked.push(role.name());
            }
        }
        Ok(panicked)
    }

    /// The workspaces that the load is for.
    pub async fn cast(&self) -> Result<Arc<Cast>> {
        let mut tenants = Vec::new();
        for number in 0..TENANTS {
            tenants.push(self.installation.add_tenant(&format!("tenant-{number}")).await?);
        }
        let witness = self.installation.add_tenant("witness").await?;
        Ok(Arc::new(Cast { tenants, witness, late: Uuid::now_v7(), unknown: Uuid::now_v7() }))
    }

    pub async fn create_late_workspace(&self, cast: &Cast) -> Result<()> {
        let sql = format!(
            "INSERT INTO workspaces (id, name) VALUES ('{}', '{LATE_WORKSPACE_NAME}') ON CONFLICT DO NOTHING",
            cast.late
        );
        self.installation.database.execute(&sql).await
    }

    /// Microseconds since the epoch.
    pub async fn created(&self, workspace: Uuid) -> Result<i64> {
        let sql = format!(
            "SELECT (extract(epoch FROM created_at) * 1000000)::bigint FROM workspaces WHERE id = '{workspace}'"
        );
        self.installation.database.number(&sql).await
    }

    /// Copies of what the servers say and of the brokers' data, beside the roles' own logs.
    pub async fn keep_evidence(&self) -> Result<()> {
        self.servers.kafka.keep_data(&self.folder).await?;
        for server in [&self.servers.kafka, &self.servers.postgres] {
            for log in server.logs()?.iter().filter(|log| log.exists()) {
                let name = log.file_name().context("a log has a name")?;
                fs::copy(log, self.folder.join(name))?;
            }
        }
        Ok(())
    }
}

fn run_of(target: Target, installation: &Installation, storage: &Storage, phase: &Phase) -> Run {
    let archive = ["--archive-url".to_owned(), storage.url()];
    let (role, further): (&str, Vec<String>) = match target {
        Target::Edge => ("ingest", vec!["--dev".to_owned()]),
        Target::Query => ("query", [&["--dev".to_owned()][..], &archive].concat()),
        _ => ("processor", [&archive[..], &processor(target, phase)].concat()),
    };
    let mut arguments = vec![role.to_owned()];
    arguments.extend(installation.connection());
    arguments.extend(further);
    Run { name: target.name(), arguments, environment: storage.environment(), port: 0 }
}

fn processor(target: Target, phase: &Phase) -> Vec<String> {
    let dedupe_records = phase.dedupe_records.to_string();
    // Small chunks and files, so that a fault comes in the middle of one.
    let settings = [
        ("--instance-id", target.name()),
        ("--dedupe-records", &dedupe_records),
        ("--archive-interval", "3s"),
        ("--chunk-records", "1000"),
    ];
    settings.into_iter().flat_map(|(name, value)| [name, value]).map(str::to_owned).collect()
}
