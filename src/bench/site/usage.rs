//! CPU seconds and peak memory of a process, from Linux's /proc.

use crate::ops::process;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    time::{Duration, Instant},
};

/// A measurement that has begun.
pub struct Usage {
    process: String,
    started: Instant,
    cpu: Duration,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Spent {
    pub elapsed: Duration,
    pub cpu: Duration,
    pub peak_rss_mb: f64,
}

impl Usage {
    /// Of this process; the peak of the memory counts from here.
    pub fn start() -> anyhow::Result<Self> {
        Self::of("self".to_owned())
    }

    /// Of the process with this id.
    pub fn of(process: String) -> anyhow::Result<Self> {
        let peak = format!("/proc/{process}/clear_refs");
        fs::write(peak, "5").context("resetting the peak of the memory")?;
        let cpu = cpu(&process)?;
        Ok(Self { process, started: Instant::now(), cpu })
    }

    pub fn spent(&self) -> anyhow::Result<Spent> {
        Ok(Spent {
            elapsed: self.started.elapsed(),
            cpu: cpu(&self.process)?.saturating_sub(self.cpu),
            peak_rss_mb: peak_rss_mb(&self.process)?,
        })
    }
}

impl Spent {
    /// How many cores were busy on average.
    pub fn cores(&self) -> f64 {
        self.cpu.as_secs_f64() / self.elapsed.as_secs_f64()
    }

    pub fn cpu_s_per_million(&self, records: u64) -> f64 {
        self.cpu.as_secs_f64() / millions(records)
    }
}

pub fn millions(records: u64) -> f64 {
    count(records) / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
pub fn count(number: u64) -> f64 {
    number as f64
}

/// User and system time of all threads.
fn cpu(process: &str) -> anyhow::Result<Duration> {
    let seconds = process::Usage::of(process).cpu_s;
    seconds.map(Duration::from_secs_f64).with_context(|| format!("reading /proc/{process}/stat"))
}

fn peak_rss_mb(process: &str) -> anyhow::Result<f64> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let line = line.with_context(|| format!("no VmHWM in {path}"))?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes / 1024.0)
}
