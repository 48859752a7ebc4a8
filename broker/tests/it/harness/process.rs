//! `millrace-broker` as a child process: its standard error goes to a file, which a failing test shows; it never
//! outlives the test.

use super::{PATIENCE, Wire, until};
use anyhow::{Context as _, Result, bail, ensure};
use kafka_protocol::messages::ApiVersionsRequest;
use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

const BINARY: &str = env!("CARGO_BIN_EXE_millrace-broker");
/// Lines of the standard error that a failing test shows.
const LINES_SHOWN: usize = 40;

pub struct Process {
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts the broker on this folder and port, and returns when it answers. Its words go to the file `log`.
    pub fn start(folder: &Path, port: u16, fsync: &str, log: &Path) -> Result<Self> {
        Self::try_start(folder, port, fsync, log)?.context("the broker ended at once")
    }

    /// The same, None where it ended instead.
    pub fn try_start(folder: &Path, port: u16, fsync: &str, log: &Path) -> Result<Option<Self>> {
        let address = format!("127.0.0.1:{port}");
        let words = File::options().create(true).append(true).open(log)?;
        let child = Command::new(BINARY)
            .arg("--data-dir")
            .arg(folder)
            .args(["--log-listen", &address, "--log-fsync", fsync])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(words)
            .spawn()
            .with_context(|| format!("start {BINARY}"))?;
        let mut process = Self { log: log.to_owned(), child };
        let runs = until("the broker answers or ends", PATIENCE, || {
            if process.child.try_wait()?.is_some() {
                return Ok(false);
            }
            // It listens before it is ready, and answers when it is.
            Wire::connect(&address)?.ask(0, &ApiVersionsRequest::default()).map(|_| true)
        })?;
        Ok(runs.then_some(process))
    }

    /// kill -9
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().context("kill")?;
        self.child.wait().context("wait")?;
        Ok(())
    }

    /// SIGTERM; it must end well.
    pub fn terminate(mut self, within: Duration) -> Result<()> {
        let status = Command::new("kill").arg(self.child.id().to_string()).status()?;
        ensure!(status.success(), "kill: {status}");
        let status = until("it ends", within, || self.child.try_wait()?.context("it still runs"))?;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}

impl Drop for Process {
    /// The test runner shows what is printed here if the test fails.
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        let ended = self.child.kill().and_then(|()| self.child.wait());
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        eprintln!("---- the broker ({ended:?}), the end of its log");
        for line in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
            eprintln!("{line}");
        }
    }
}

/// A port that nobody listens on at the moment.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// Runs a program to its end and returns what it printed; what went wrong is part of the error.
pub fn run(program: &Path, arguments: &[&str], patience: Duration) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(File::create(&out)?)
        .stderr(File::create(&err)?)
        .spawn()
        .with_context(|| format!("run {}", program.display()))?;
    let ended = until("it ends", patience, || child.try_wait()?.context("it still runs"));
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    let (out, err) = (fs::read(out)?, fs::read(err)?);
    let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
    match ended {
        Ok(status) if status.success() => Ok(out.into_owned()),
        ended => bail!("{} {arguments:?}: {ended:?}\n{out}\n{err}", program.display()),
    }
}
