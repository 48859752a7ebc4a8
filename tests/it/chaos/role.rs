//! One of Millrace's roles as a process that is killed, paused and started again at the same address.

use crate::harness::{Api, Signal, until};
use anyhow::{Context as _, Result};
use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

const BINARY: &str = env!("CARGO_BIN_EXE_millrace");
/// From SIGTERM to the end; past it something hangs.
const END_WITHIN: Duration = Duration::from_secs(30);

/// What is run, and where it listens.
pub struct Run {
    pub name: &'static str,
    pub arguments: Vec<String>,
    pub environment: Vec<(&'static str, String)>,
    pub port: u16,
}

pub struct Role {
    command: Run,
    log: PathBuf,
    child: Mutex<Option<Child>>,
    /// Held while a fault happens to it.
    pub busy: tokio::sync::Mutex<()>,
}

impl Role {
    /// Does not start it yet. What it says goes to the end of the file `log`.
    pub fn new(command: Run, log: PathBuf) -> Self {
        Self { command, log, child: Mutex::new(None), busy: tokio::sync::Mutex::new(()) }
    }

    pub fn name(&self) -> &'static str {
        self.command.name
    }

    pub fn api(&self, key: &str) -> Api {
        Api::new(&format!("http://127.0.0.1:{}", self.command.port), key)
    }

    /// What it has said since the first start.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }

    pub fn start(&self) -> Result<()> {
        let Run { name, arguments, environment, port } = &self.command;
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(BINARY)
            .args(arguments)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        *self.child() = Some(child);
        Ok(())
    }

    pub fn kill(&self) -> Result<()> {
        let Some(mut child) = self.child().take() else { return Ok(()) };
        child.kill().with_context(|| format!("kill {}", self.name()))?;
        child.wait().context("wait for a killed process")?;
        Ok(())
    }

    /// SIGTERM, and its end. One that has only just been started is let come to its senses first.
    pub async fn terminate(&self) -> Result<ExitStatus> {
        let (api, what) = (self.api(""), format!("{} answers or ends", self.name()));
        let answers = until(&what, END_WITHIN, async || match self.ended()? {
            Some(_) => Ok(false),
            None => api.get_status("/health").await.map(|_| true),
        });
        if !answers.await? {
            return self.ended()?.context("it has ended");
        }
        self.signal(Signal::Terminate)?;
        let what = format!("{} ends after SIGTERM", self.name());
        let status = until(&what, END_WITHIN, async || self.ended()?.context("it still runs")).await?;
        self.child().take();
        Ok(status)
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child().as_ref().map(Child::id);
        signal.send(id.with_context(|| format!("{} does not run", self.name()))?)
    }

    /// How it ended, if it has ended by itself.
    pub fn ended(&self) -> Result<Option<ExitStatus>> {
        match self.child().as_mut() {
            Some(child) => child.try_wait().context("wait for a child process"),
            None => Ok(None),
        }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{} may still run: {error:#}", self.name());
        }
    }
}
