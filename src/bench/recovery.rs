//! `millrace bench recovery`: a processor is killed with -9 at full load and started again; how long until it has caught
//! up, beyond what the backlog takes anyway.

use super::{
    aside, fill,
    progress::{Partials, Progress},
    report, say,
    site::{self, Site, role::Role, usage::count},
    stall::{STALL_MAX, Watch},
    table::{Table, whole},
};
use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Between two looks at what is committed.
const INTERVAL: Duration = Duration::from_millis(50);
/// The processor's default.
const COMBINE_WORKERS: u16 = 2;
/// The speed is measured between these parts of the topic; then comes the kill.
const FROM_PERCENT: u64 = 15;
const KILL_PERCENT: u64 = 50;

#[derive(Debug, Args)]
pub struct RecoveryBench {
    #[command(flatten)]
    site: site::Settings,
    /// Records to fill the topic with: the processor is killed when it has counted half of them
    #[arg(long, default_value_t = 4_000_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    records: u32,
    /// Services that the records are of
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: u32,
    /// Print the result as one line of JSON too, last
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    records: u32,
    keys: u32,
    /// Before the kill.
    records_per_s: f64,
    limit_records_per_s: f64,
    backlog_records: u64,
    /// What the backlog takes at that speed.
    backlog_s: f64,
    /// From the new start until the first transaction is committed.
    first_commit_s: f64,
    /// From the new start until all records and all that combine made of them is committed.
    caught_up_s: f64,
    /// What of that is not the backlog's.
    recovery_s: f64,
    /// Of the new processor.
    cpu_s_per_million: f64,
    peak_rss_mb: f64,
}

pub async fn run(bench: RecoveryBench) -> anyhow::Result<()> {
    report(&bench.site, bench.json, async |site| bench.measure(site).await).await
}

impl RecoveryBench {
    async fn measure(&self, site: &Site) -> anyhow::Result<Report> {
        let records = u64::from(self.records);
        let fill = fill::Fill { workspaces: vec![site.workspace], records: self.records, keys: self.keys };
        aside::fill(&site.log, &fill).await?;
        let limit = aside::drain(&site.log, records).await?;

        let archive = site.archive_url();
        let arguments = ["--archive-url", archive.as_str(), "--instance-id", "bench"];
        let progress = Progress::open(&site.log).await?;
        let first = Role::start(site, "processor", &arguments).await?;
        let records_per_s = self.speed(&progress).await?;
        first.kill().await?;
        let killed_at = progress.counted().await?;
        let started = Instant::now();
        let second = Role::start(site, "processor", &arguments).await?;
        let usage = second.usage()?;
        let first_commit = until(&progress, started, killed_at + 1).await?;
        until(&progress, started, records).await?;
        let partials = Partials::now(&site.log, COMBINE_WORKERS).await?;
        let caught_up = until_windows_caught_up(&partials, started).await?;
        let spent = usage.spent()?;
        let backlog = records - killed_at;
        let backlog_s = count(backlog) / records_per_s;
        Ok(Report {
            bench: "recovery",
            records: self.records,
            keys: self.keys,
            records_per_s,
            limit_records_per_s: count(records) / limit.elapsed.as_secs_f64(),
            backlog_records: backlog,
            backlog_s,
            first_commit_s: first_commit.as_secs_f64(),
            caught_up_s: caught_up.as_secs_f64(),
            recovery_s: (caught_up.as_secs_f64() - backlog_s).max(0.0),
            cpu_s_per_million: spent.cpu_s_per_million(backlog),
            peak_rss_mb: spent.peak_rss_mb,
        })
    }

    /// Records a second between two marks; returns at the second.
    async fn speed(&self, progress: &Progress) -> anyhow::Result<f64> {
        let mark = |percent| u64::from(self.records) * percent / 100;
        let started = Instant::now();
        until(progress, started, mark(FROM_PERCENT)).await?;
        let (began, from) = (Instant::now(), progress.counted().await?);
        until(progress, started, mark(KILL_PERCENT).max(from + 1)).await?;
        let (elapsed, to) = (began.elapsed(), progress.counted().await?);
        Ok(count(to - from) / elapsed.as_secs_f64())
    }
}

/// Until so many records are counted in committed transactions; how long that took since `started`.
async fn until(progress: &Progress, started: Instant, records: u64) -> anyhow::Result<Duration> {
    let mut watch = Watch::new();
    loop {
        let counted = progress.counted().await?;
        if counted >= records {
            return Ok(started.elapsed());
        }
        watch.look(counted, || format!("stuck at {counted} of {records} records"))?;
        sleep(INTERVAL).await;
    }
}

async fn until_windows_caught_up(partials: &Partials, started: Instant) -> anyhow::Result<Duration> {
    let waiting = Instant::now();
    while !partials.are_committed().await? {
        ensure!(waiting.elapsed() < STALL_MAX, "the windows do not catch up");
        sleep(INTERVAL).await;
    }
    Ok(started.elapsed())
}

impl super::Report for Report {
    fn show(&self) {
        let mut table = Table::new(&["kill -9 at full load, started again at once", ""]);
        let mut row = |name: &str, value: String| table.row(vec![name.to_owned(), value]);
        let seconds = |seconds: f64| format!("{seconds:.2} s");
        row("before: records/s", whole(self.records_per_s));
        row("a plain drain's (limit)", whole(self.limit_records_per_s));
        row("backlog, records", whole(count(self.backlog_records)));
        row("the backlog's own time", seconds(self.backlog_s));
        row("start → first commit", seconds(self.first_commit_s));
        row("start → caught up", seconds(self.caught_up_s));
        row("of it recovery", seconds(self.recovery_s));
        row("CPU s per million", format!("{:.2}", self.cpu_s_per_million));
        row("peak RSS MB", whole(self.peak_rss_mb));
        say(&format!("{} records, {} services\n\n{table}", whole(self.records.into()), self.keys));
    }
}
