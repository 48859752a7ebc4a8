//! The binary as a child process: its standard error goes to a file, which a failing test shows; it never outlives the
//! test.

use super::{Api, PATIENCE, until};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs::{self, File},
    io,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

pub const BINARY: &str = env!("CARGO_BIN_EXE_millrace");
/// Lines of a process's standard error that a failing test shows.
const LOG_LINES_SHOWN: usize = 60;
/// The longest that a process may take to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
pub enum Signal {
    Terminate,
    Interrupt,
    Stop,
    Continue,
    Kill,
}

impl Signal {
    /// Sends it. After `Stop` no thread of the process runs any more: the kernel says that the signal was sent before
    /// the last thread has seen it, and until then a broker can still acknowledge a record.
    pub fn send(self, pid: u32) -> Result<()> {
        let name = match self {
            Self::Terminate => "TERM",
            Self::Interrupt => "INT",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
            Self::Kill => "KILL",
        };
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().context("kill")?;
        ensure!(status.success(), "kill -{name} {pid}: {status}");
        if matches!(self, Self::Stop) {
            let deadline = Instant::now() + STOPS_WITHIN;
            while !has_stopped(pid)? {
                ensure!(Instant::now() < deadline, "process {pid} still runs {STOPS_WITHIN:?} after SIGSTOP");
                thread::yield_now();
            }
        }
        Ok(())
    }
}

/// Whether each thread is stopped, or has ended.
fn has_stopped(pid: u32) -> Result<bool> {
    let threads = format!("/proc/{pid}/task");
    for thread in fs::read_dir(&threads).with_context(|| threads.clone())? {
        let stat = match fs::read_to_string(thread?.path().join("stat")) {
            Ok(stat) => stat,
            Err(error) if has_ended(&error) => continue,
            Err(error) => return Err(error).context(threads),
        };
        // `PID (NAME) STATE …`; the name may hold parentheses.
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).context("its state")?;
        if !matches!(state, 'T' | 't' | 'Z' | 'X') {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The thread ended between the listing and the reading (ENOENT), or while it was read (ESRCH).
fn has_ended(error: &io::Error) -> bool {
    const ESRCH: i32 = 3;
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}

/// One running role.
pub struct Process {
    name: String,
    port: u16,
    log: PathBuf,
    child: Mutex<Child>,
}

impl Process {
    /// Starts `millrace ROLE ARGUMENTS… --listen 127.0.0.1:PORT`.
    pub fn launch(
        folder: &Path,
        role: &str,
        arguments: &[String],
        environment: &[(&str, String)],
    ) -> Result<Self> {
        let port = free_port()?;
        let name = format!("{role}-{port}");
        let log = folder.join(format!("{name}.log"));
        let child = Command::new(BINARY)
            .arg(role)
            .args(arguments)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("start {BINARY} {role}"))?;
        Ok(Self { name, port, log, child: Mutex::new(child) })
    }

    pub async fn ready(&self) -> Result<()> {
        let api = self.api("");
        until(&format!("{} is ready", self.name), PATIENCE, async || {
            if let Some(status) = self.try_wait()? {
                // Not worth the rest of the wait: /ready will never answer.
                panic!("{} ended at once with {status}", self.name);
            }
            let status = api.get_status("/ready").await?;
            ensure!(status == 200, "/ready says {status}");
            Ok(())
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn api(&self, key: &str) -> Api {
        Api::new(&self.url(), key)
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal.send(self.child().id())
    }

    /// Waits for the end that a signal brings.
    pub async fn ended(&self, within: Duration) -> Result<ExitStatus> {
        until(&format!("{} ends", self.name), within, async || self.try_wait()?.context("it still runs"))
            .await
    }

    /// What it has said so far on standard error.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }

    /// kill -9
    pub fn kill(self) -> Result<()> {
        let mut child = self.child();
        child.kill().context("kill")?;
        child.wait().context("wait")?;
        Ok(())
    }

    fn try_wait(&self) -> Result<Option<ExitStatus>> {
        self.child().try_wait().context("wait for a child process")
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    /// The test runner shows what is printed here if the test fails.
    fn drop(&mut self) {
        let mut child = self.child();
        let ended = child.kill().and_then(|()| child.wait());
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        eprintln!("---- {} ({ended:?}), the end of its log", self.name);
        for line in &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..] {
            eprintln!("{line}");
        }
    }
}

/// A port that nobody listens on at the moment.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// The first of `count` ports in a row, from `first` on, that nobody listens on.
pub fn free_ports(first: u16, count: u16) -> Result<u16> {
    let free = |port: u16| {
        TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpStream::connect(("127.0.0.1", port)).is_err()
    };
    let mut firsts = (first..first + 1_000).step_by(usize::from(count));
    firsts.find(|port| (*port..*port + count).all(free)).context("no port is free")
}

/// Runs a program to its end and returns what it printed; standard error is part of the error if it fails.
pub async fn run(program: impl AsRef<Path>, arguments: &[String]) -> Result<String> {
    let program = program.as_ref();
    let mut command = tokio::process::Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("run {}", program.display()))?;
    if !output.status.success() {
        bail!(
            "{} {arguments:?}: {}: {}",
            program.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).context("what it printed is not UTF-8")
}

/// Runs `millrace ARGUMENTS…` to its end.
pub async fn millrace(arguments: &[String]) -> Result<String> {
    run(BINARY, arguments).await
}
