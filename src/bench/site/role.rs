//! A role of Millrace as a process of its own: its CPU time and memory are its alone.

use super::{Site, usage::Usage};
use anyhow::{Context, bail, ensure};
use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{
    process::{Child, Command},
    time::sleep,
};

const READY_LIMIT: Duration = Duration::from_secs(120);
const READY_INTERVAL: Duration = Duration::from_millis(5);
/// Lines that a role which failed has said last.
const LINES_SHOWN: usize = 20;

pub struct Role {
    pub address: SocketAddr,
    /// From its start until `/ready` says so.
    pub ready_after: Duration,
    child: Child,
    process: String,
    log: PathBuf,
    client: reqwest::Client,
}

impl Role {
    /// Starts `millrace NAME` with these further arguments on the site, and waits until it is ready.
    pub async fn start(site: &Site, name: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("finding this binary")?);
        command.arg(name).args(site.arguments()).args(arguments);
        command.env("DATABASE_URL", &site.store.database_url);
        Self::launch(site, name, command).await
    }

    /// Starts `millrace up` on its own embedded log and store, always in the same folder.
    pub async fn start_up(site: &Site) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("finding this binary")?);
        let services = ["--kafka-brokers", "embedded", "--database-url", "embedded"];
        command.args(["up", "--dev", "--log-listen", "127.0.0.1:0"]).args(services);
        command.arg("--data-dir").arg(site.folder().join("up"));
        Self::launch(site, "up", command).await
    }

    async fn launch(site: &Site, name: &str, mut command: Command) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = site.folder().join(format!("{name}-{}.log", address.port()));
        command.args(["--listen", &address.to_string()]).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("starting millrace {name}"))?;
        let process = child.id().context("it runs")?.to_string();
        tracing::info!(role = name, process, %address, "started");
        let client = reqwest::Client::new();
        let mut role = Self { address, ready_after: Duration::ZERO, child, process, log, client };
        role.wait_until_ready(started).await?;
        role.ready_after = started.elapsed();
        Ok(role)
    }

    async fn wait_until_ready(&mut self, started: Instant) -> anyhow::Result<()> {
        loop {
            if let Ok(answer) = self.client.get(format!("http://{}/ready", self.address)).send().await
                && answer.status().is_success()
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("a role ended with {status}; it said at last:\n{}", self.said());
            }
            ensure!(started.elapsed() < READY_LIMIT, "a role does not become ready:\n{}", self.said());
            sleep(READY_INTERVAL).await;
        }
    }

    fn said(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }

    /// Begins to measure it.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(self.process.clone())
    }

    pub fn process(&self) -> &str {
        &self.process
    }

    /// The sum of a metric over the series that have this label.
    pub async fn metric(&self, name: &str, label: &str) -> anyhow::Result<f64> {
        Ok(metric(&self.metrics().await?, name, label))
    }

    pub async fn metrics(&self) -> anyhow::Result<String> {
        let answer = self.client.get(format!("http://{}/metrics", self.address)).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// kill -9
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("killing a role")
    }
}

/// The sum of a metric over the series that have this label, from the text of `/metrics`.
pub fn metric(text: &str, name: &str, label: &str) -> f64 {
    let series = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
    });
    series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}
