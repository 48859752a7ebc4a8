//! A real Kafka or PostgreSQL that belongs to the suite, by the scripts of `deploy/dev`.

use crate::harness::{Signal, free_ports, run, until};
use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// All processes of a killed server are gone by then.
const GONE_WITHIN: Duration = Duration::from_secs(20);
/// Below the ports that the system gives to outgoing connections, one of which could take a dead server's port.
const KAFKA_PORT: u16 = 19_492;
const POSTGRES_PORT: u16 = 15_832;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kafka,
    Postgres,
}

pub struct Server {
    kind: Kind,
    pub port: u16,
    data: PathBuf,
    /// Held while a fault happens to it.
    pub busy: tokio::sync::Mutex<()>,
}

impl Server {
    pub async fn kafka(folder: &Path) -> Result<Self> {
        Self::begin(Kind::Kafka, folder.join("kafka"), free_ports(KAFKA_PORT, 2)?).await
    }

    pub async fn postgres(folder: &Path) -> Result<Self> {
        Self::begin(Kind::Postgres, folder.join("postgres"), free_ports(POSTGRES_PORT, 1)?).await
    }

    async fn begin(kind: Kind, data: PathBuf, port: u16) -> Result<Self> {
        let server = Self { kind, port, data, busy: tokio::sync::Mutex::new(()) };
        server.start().await?;
        Ok(server)
    }

    /// Returns when it is ready.
    pub async fn start(&self) -> Result<()> {
        let mut arguments = vec!["KAFKA_HEAP_OPTS=-Xms256m -Xmx512m".to_owned(), script(self.kind)];
        arguments.extend(["start".to_owned(), self.port.to_string(), self.data.display().to_string()]);
        run("/usr/bin/env", &arguments).await.map(|_| ())
    }

    /// As an operator does it.
    pub async fn stop(&self) -> Result<()> {
        run(script(self.kind), &["stop".to_owned(), self.named()]).await.map(|_| ())
    }

    /// kill -9 of all its processes.
    pub async fn kill(&self) -> Result<()> {
        let pids = self.pids()?;
        self.send(Signal::Kill, &pids)?;
        until("a killed server is gone", GONE_WITHIN, async || {
            // Also not as a zombie, which PostgreSQL takes for a server that runs.
            ensure!(!pids.iter().any(|pid| is_there(*pid)), "one of {pids:?} is still there");
            Ok(())
        })
        .await
    }

    /// To all its processes, of which the first is the parent: it makes no new ones after.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.send(signal, &self.pids()?)
    }

    /// Copies what the brokers have on disk, for who looks into a failure: the topics go with the test.
    pub async fn keep_data(&self, folder: &Path) -> Result<()> {
        let words = ["-r".to_owned(), self.data.display().to_string(), folder.display().to_string()];
        run("cp", &words).await.map(|_| ())
    }

    /// What it says, for who looks into a failure.
    pub fn logs(&self) -> Result<Vec<PathBuf>> {
        Ok(match self.kind {
            Kind::Kafka => {
                // The script says where with the pid that it names.
                let environment = fs::read_to_string(format!("/proc/{}/cmdline", self.first_pid()?))?;
                let properties = environment.split('\0').find(|word| word.ends_with(".properties"));
                let log = Path::new(properties.context("the broker's properties")?).with_extension("log");
                vec![log.with_extension("log.1"), log]
            }
            Kind::Postgres => vec![self.data.join("server.log")],
        })
    }

    fn send(&self, signal: Signal, pids: &[u32]) -> Result<()> {
        for pid in pids {
            // A child may have ended meanwhile.
            if let Err(error) = signal.send(*pid)
                && is_there(*pid)
            {
                return Err(error);
            }
        }
        Ok(())
    }

    fn pids(&self) -> Result<Vec<u32>> {
        let first = self.first_pid()?;
        let mut pids = vec![first];
        pids.extend(children(first)?);
        Ok(pids)
    }

    fn first_pid(&self) -> Result<u32> {
        let text = match self.kind {
            Kind::Kafka => {
                let output = Command::new(script(self.kind)).args(["pid", &self.port.to_string()]).output();
                String::from_utf8(output.context("kafka.sh pid")?.stdout)?
            }
            Kind::Postgres => fs::read_to_string(self.data.join("postmaster.pid"))?,
        };
        text.lines().next().unwrap_or_default().trim().parse().context("the server's pid")
    }

    /// How its script names it.
    fn named(&self) -> String {
        match self.kind {
            Kind::Kafka => self.port.to_string(),
            Kind::Postgres => self.data.display().to_string(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = Command::new(script(self.kind)).args(["stop", &self.named()]).output();
        if !stopped.is_ok_and(|output| output.status.success()) {
            eprintln!("a server on port {} may still run", self.port);
        }
    }
}

fn script(kind: Kind) -> String {
    let name = if kind == Kind::Kafka { "kafka.sh" } else { "postgres.sh" };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/dev").join(name).display().to_string()
}

/// Whether the scripts have all that they need to start the servers.
pub fn installed() -> bool {
    let kafka = Command::new(script(Kind::Kafka)).arg("installed").status();
    let postgres = Command::new(script(Kind::Postgres)).arg("status").output();
    kafka.is_ok_and(|status| status.success())
        && postgres.is_ok_and(|output| !String::from_utf8_lossy(&output.stdout).contains("not installed"))
}

fn children(parent: u32) -> Result<Vec<u32>> {
    let folders = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(folders.filter(|pid| parent_of(*pid) == Some(parent)).collect())
}

fn is_there(pid: u32) -> bool {
    parent_of(pid).is_some()
}

/// The second word after the name in parentheses (proc(5)).
fn parent_of(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
