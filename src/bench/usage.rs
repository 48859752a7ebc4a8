//! CPU seconds and peak memory of this process, from Linux's /proc.

use crate::ops::process::cpu_seconds;
use anyhow::Context;
use std::{
    fs,
    time::{Duration, Instant},
};

/// A measurement that has begun.
pub(super) struct Usage {
    started: Instant,
    cpu: Duration,
}

pub(super) struct Spent {
    pub elapsed: Duration,
    pub cpu: Duration,
    pub peak_rss_mb: f64,
}

impl Usage {
    /// Begins; the peak of the memory counts from here.
    pub(super) fn start() -> anyhow::Result<Self> {
        fs::write("/proc/self/clear_refs", "5").context("resetting the peak of the memory")?;
        Ok(Self { started: Instant::now(), cpu: cpu()? })
    }

    pub(super) fn spent(&self) -> anyhow::Result<Spent> {
        Ok(Spent {
            elapsed: self.started.elapsed(),
            cpu: cpu()?.saturating_sub(self.cpu),
            peak_rss_mb: peak_rss_mb()?,
        })
    }
}

/// User and system time of all threads.
fn cpu() -> anyhow::Result<Duration> {
    cpu_seconds().map(Duration::from_secs_f64).context("reading /proc/self/stat")
}

fn peak_rss_mb() -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("no VmHWM in /proc/self/status")?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes / 1024.0)
}
