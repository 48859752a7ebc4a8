//! Kafka brokers that belong to one test, which may do anything to them.

use super::{PATIENCE, Services, Signal, free_port, free_ports, run, say_skipped, until};
use anyhow::{Context as _, Result, ensure};
use std::{
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicBool, Ordering},
};
use tempfile::TempDir;

/// Below the ports that the system gives to outgoing connections, one of which could take a dead broker's port.
const CLUSTER_PORTS: u16 = 20_492;
/// Any 16 bytes in base64.
const CLUSTER_ID: &str = "MillraceTestClusterId1";
/// All that one broker holds is there twice when it dies.
const COPIES: &str = "default.replication.factor=3\nmin.insync.replicas=2\n\
    offsets.topic.replication.factor=3\n\
    transaction.state.log.replication.factor=3\ntransaction.state.log.min.isr=2\n\
    share.coordinator.state.topic.replication.factor=3\nshare.coordinator.state.topic.min.isr=2";

pub struct Broker {
    port: u16,
    /// One of several has to be found again by the others.
    controller_port: Option<u16>,
    environment: Vec<String>,
    folder: TempDir,
    /// Whoever else listens on the port is left alone.
    is_ours: AtomicBool,
}

impl Broker {
    /// The services beside it; `None`, having said so, where there are none or a broker can't be started.
    pub fn services(test: &str) -> Option<Services> {
        let services = Services::find(test)?;
        if !Command::new(script()).arg("installed").status().is_ok_and(|status| status.success()) {
            say_skipped(test, "it has a broker of its own: deploy/dev/kafka.sh install");
            return None;
        }
        Some(services)
    }

    pub async fn start() -> Result<Self> {
        let broker = Self {
            port: free_port()?,
            controller_port: None,
            environment: Vec::new(),
            folder: tempfile::tempdir()?,
            is_ours: AtomicBool::new(false),
        };
        broker.start_again().await?;
        Ok(broker)
    }

    /// Three that hold copies of all topics: any one of them may die.
    pub async fn cluster() -> Result<[Self; 3]> {
        // A broker takes seconds until it listens: two runs begin their search apart.
        let own = u16::try_from(process::id() % 100).context("below 100")?;
        let first = free_ports(CLUSTER_PORTS + 6 * own, 6)?;
        let [one, two, three] = [1, 2, 3].map(|node: u16| -> Result<Self> {
            let controller = |node: u16| first + 2 + node;
            let voters = [1, 2, 3].map(|node| format!("{node}@127.0.0.1:{}", controller(node))).join(",");
            let extra = format!("node.id={node}\ncontroller.quorum.voters={voters}\n{COPIES}");
            Ok(Self {
                port: first + node - 1,
                controller_port: Some(controller(node)),
                environment: vec![
                    format!("KAFKA_CLUSTER_ID={CLUSTER_ID}"),
                    format!("KAFKA_EXTRA={extra}"),
                    // Without the others a controller does not end when it is asked to.
                    "KAFKA_STOP_TIMEOUT=2".to_owned(),
                ],
                folder: tempfile::tempdir()?,
                is_ours: AtomicBool::new(false),
            })
        });
        let cluster = [one?, two?, three?];
        let [one, two, three] = &cluster;
        // None is ready before there are two; and none is left behind where another can't be started.
        let started = tokio::join!(one.start_again(), two.start_again(), three.start_again());
        started.0.and(started.1).and(started.2)?;
        Ok(cluster)
    }

    pub async fn start_again(&self) -> Result<()> {
        let data = self.folder.path().display().to_string();
        let controller_port = self.controller_port.map_or_else(free_port, Ok)?;
        // The script and the broker print to their own log.
        let mut arguments = self.environment.clone();
        arguments.extend([
            format!("KAFKA_CONTROLLER_PORT={controller_port}"),
            "KAFKA_HEAP_OPTS=-Xmx384m".to_owned(),
            script().display().to_string(),
            "start".to_owned(),
            self.port.to_string(),
            data,
        ]);
        run("/usr/bin/env", &arguments).await?;
        self.is_ours.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal.send(self.pid()?)
    }

    /// At once, as its pid is known; returns when it is gone.
    pub async fn kill(&self, pid: u32) -> Result<()> {
        Signal::Kill.send(pid)?;
        until("the broker is gone", PATIENCE, async || {
            ensure!(!Path::new(&format!("/proc/{pid}")).exists(), "it is there");
            Ok(())
        })
        .await
    }

    pub async fn stop(&self) -> Result<()> {
        run("/usr/bin/env", &self.stopping()).await.map(|_| ())
    }

    fn stopping(&self) -> Vec<String> {
        let script = [script().display().to_string(), "stop".to_owned(), self.port.to_string()];
        self.environment.iter().cloned().chain(script).collect()
    }

    /// To ask for it takes longer than a broker takes to finish some things.
    pub fn pid(&self) -> Result<u32> {
        let pid =
            Command::new(script()).args(["pid", &self.port.to_string()]).output().context("kafka.sh pid")?;
        String::from_utf8(pid.stdout)?.trim().parse().context("the broker's pid")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if !self.is_ours.load(Ordering::Relaxed) {
            return;
        }
        if !Command::new("/usr/bin/env")
            .args(self.stopping())
            .output()
            .is_ok_and(|output| output.status.success())
        {
            eprintln!("the broker on port {} may still run", self.port);
        }
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/dev/kafka.sh")
}
