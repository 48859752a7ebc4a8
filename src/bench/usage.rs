//! CPU seconds and peak memory of this process, from Linux's /proc.

use anyhow::Context;
use std::{
    fs,
    time::{Duration, Instant},
};

/// Kernel ticks a second: fixed by Linux's user-space interface.
const TICKS_PER_S: f64 = 100.0;

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
        Ok(Spent { elapsed: self.started.elapsed(), cpu: cpu()?.saturating_sub(self.cpu), peak_rss_mb: peak_rss_mb()? })
    }
}

/// User and system time of all threads.
fn cpu() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").context("reading /proc/self/stat")?;
    // The second field is a name in parentheses that may hold blanks; utime and stime are the 14th and 15th.
    let fields = stat.rsplit_once(')').context("/proc/self/stat has another form")?.1;
    let ticks: f64 = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    Ok(Duration::from_secs_f64(ticks / TICKS_PER_S))
}

fn peak_rss_mb() -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc/self/status")?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes / 1024.0)
}
