//! `millrace bench processor`: drains a topic that is full, beside a plain drain of the same topic.

use super::{
    aside, copy, drain, fill,
    progress::{Partials, counter},
    report, say,
    site::{
        self, Site,
        usage::{Spent, Usage, count},
    },
    stall::Watch,
    table::{Table, maybe, whole},
};
use anyhow::{Context, ensure};
use clap::Args;
use millrace_log::LogSettings;
use millrace_processor::{Components, Settings as ProcessorSettings};
use millrace_schemas::WorkspaceId;
use serde::Serialize;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const POLL_EVERY: Duration = Duration::from_millis(20);
const COUNTED: (&str, &str) = ("millrace_combine_records_total", "counted");
const FINAL_ROWS: (&str, &str) = ("millrace_windows_rows_total", "final");

#[derive(Debug, Args)]
pub struct ProcessorBench {
    #[command(flatten)]
    site: site::Settings,
    #[command(flatten)]
    processor: ProcessorSettings,
    /// Records to fill the topic with, 387 bytes each
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    records: u32,
    /// Services that the records are of
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: u32,
    /// Workspaces that the services belong to
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    workspaces: u32,
    /// Print the result as one line of JSON too, last
    #[arg(long)]
    json: bool,
}

/// The line of JSON.
#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    records: u32,
    keys: u32,
    workspaces: u32,
    partitions: i32,
    /// From the first transaction on.
    records_per_s: f64,
    /// Until then: to join the groups and begin.
    startup_s: f64,
    limit_records_per_s: f64,
    cpu_s_per_million: f64,
    limit_cpu_s_per_million: f64,
    peak_rss_mb: f64,
    limit_peak_rss_mb: f64,
    /// The same bytes copied in memory, on one thread.
    memcpy_records_per_s: f64,
    /// Values, as JSON.
    bytes_in_per_record: f64,
    /// Values of all topics that the processor writes.
    bytes_out_per_record: f64,
    /// Of the raw topic, compressed, in the log's files, where it is embedded.
    log_bytes_per_record: Option<f64>,
    /// Of the windows of all sizes.
    final_rows: u64,
    /// From the end of the drain until all of them are out; a partition counts as idle after 1 s of it.
    windows_final_s: f64,
}

/// What a run came to.
struct Run {
    /// With the start.
    spent: Spent,
    startup: Duration,
    /// Counted in the first transaction.
    first: u64,
    closed: Closed,
}

impl Run {
    /// Those of the first transaction are not counted, nor is the time until then; unless they are all.
    fn records_per_s(&self, records: u64) -> f64 {
        match records - self.first {
            0 => count(records) / self.spent.elapsed.as_secs_f64(),
            after => count(after) / self.spent.elapsed.saturating_sub(self.startup).as_secs_f64(),
        }
    }
}

/// The windows after the drain.
struct Closed {
    rows: u64,
    after: Duration,
}

pub async fn run(bench: ProcessorBench) -> anyhow::Result<()> {
    report(&bench.site, bench.json, async |site| measure(&bench, site).await).await
}

async fn measure(bench: &ProcessorBench, site: &Site) -> anyhow::Result<Report> {
    let (workspaces, records) = (bench.workspaces(site).await?, u64::from(bench.records));
    let fill = fill::Fill { workspaces, records: bench.records, keys: bench.keys };
    let first = aside::fill(&site.log, &fill).await?;
    let log_bytes = site.log_bytes();
    let limit = aside::drain(&site.log, records).await?;
    let components = Components {
        log: site.log.clone(),
        pool: site.pool.clone(),
        directory: site.directory.clone(),
        registry: prometheus::Registry::new(),
    };
    let run = processor(bench, components, move || fill.rows(first)).await?;
    let memcpy_records_per_s = copy::records_per_s(records, fill::RECORD_BYTES).await?;
    let per_record = |bytes: u64| count(bytes) / count(records);
    Ok(Report {
        bench: "processor",
        records: bench.records,
        keys: bench.keys,
        workspaces: bench.workspaces,
        partitions: site.log.topic_partitions,
        records_per_s: run.records_per_s(records),
        startup_s: run.startup.as_secs_f64(),
        limit_records_per_s: count(records) / limit.elapsed.as_secs_f64(),
        cpu_s_per_million: run.spent.cpu_s_per_million(records),
        limit_cpu_s_per_million: limit.cpu_s_per_million(records),
        peak_rss_mb: run.spent.peak_rss_mb,
        limit_peak_rss_mb: limit.peak_rss_mb,
        memcpy_records_per_s,
        bytes_in_per_record: count(fill::RECORD_BYTES as u64),
        bytes_out_per_record: per_record(drain::bytes_written(&site.log).await?),
        log_bytes_per_record: log_bytes.map(per_record),
        final_rows: run.closed.rows,
        windows_final_s: run.closed.after.as_secs_f64(),
    })
}

impl ProcessorBench {
    async fn workspaces(&self, site: &Site) -> anyhow::Result<Vec<WorkspaceId>> {
        let mut all = vec![site.workspace];
        for number in 1..self.workspaces {
            all.push(site.directory.get_or_create_workspace(&format!("bench-{number}")).await?.id);
        }
        Ok(all)
    }
}

/// From the start of the stages until every record is in a committed transaction of combine, and what combine wrote is in
/// the windows; and then until all windows, `rows` of them, are final.
async fn processor(
    bench: &ProcessorBench,
    components: Components,
    rows: impl FnOnce() -> u64 + Send + 'static,
) -> anyhow::Result<Run> {
    let (registry, log) = (components.registry.clone(), components.log.clone());
    let stop = CancellationToken::new();
    let role = millrace_processor::run_windows(bench.processor.clone(), components, stop.clone());
    let watch = async {
        let run = follow(bench, &registry, &log, rows).await;
        stop.cancel();
        run
    };
    let (ended, run) = tokio::join!(role, watch);
    ended.context("the processor ended")?;
    run
}

async fn follow(
    bench: &ProcessorBench,
    registry: &prometheus::Registry,
    log: &LogSettings,
    rows: impl FnOnce() -> u64 + Send + 'static,
) -> anyhow::Result<Run> {
    let usage = Usage::start()?;
    let records = u64::from(bench.records);
    let first = wait_for(registry, COUNTED, 1).await?;
    let startup = usage.spent()?.elapsed;
    let counted = wait_for(registry, COUNTED, records).await?;
    ensure!(counted == records, "{counted} records are counted of {records}");
    let mut watch = Watch::new();
    let partials = Partials::now(log, bench.processor.combine_workers).await?;
    while !partials.are_in_windows(registry) {
        watch.look((), || "the windows don't come to the end of the partial states".to_owned())?;
        tokio::time::sleep(POLL_EVERY).await;
    }
    let (spent, drained) = (usage.spent()?, Instant::now());
    let rows = tokio::task::spawn_blocking(rows).await?;
    let rows = wait_for(registry, FINAL_ROWS, rows).await?;
    Ok(Run { spent, startup, first, closed: Closed { rows, after: drained.elapsed() } })
}

/// Until a counter, of this name and label, has come so far; where it is then.
async fn wait_for(
    registry: &prometheus::Registry,
    (name, label): (&str, &str),
    wanted: u64,
) -> anyhow::Result<u64> {
    let mut watch = Watch::new();
    loop {
        let now = counter(registry, name, Some(label));
        if now >= wanted {
            return Ok(now);
        }
        watch.look(now, || format!("stuck at {now} of {wanted}: {name}, {label}"))?;
        tokio::time::sleep(POLL_EVERY).await;
    }
}

impl super::Report for Report {
    fn show(&self) {
        let none = || maybe(None, whole);
        let mut table = Table::new(&["", "records/s", "CPU s per million", "peak RSS MB", "bytes in", "out"]);
        table.row(vec![
            "combine + windows".to_owned(),
            whole(self.records_per_s),
            format!("{:.2}", self.cpu_s_per_million),
            whole(self.peak_rss_mb),
            whole(self.bytes_in_per_record),
            format!("{:.1}", self.bytes_out_per_record),
        ]);
        table.row(vec![
            "plain librdkafka drain, 2 threads".to_owned(),
            whole(self.limit_records_per_s),
            format!("{:.2}", self.limit_cpu_s_per_million),
            whole(self.limit_peak_rss_mb),
            whole(self.bytes_in_per_record),
            none(),
        ]);
        table.row(vec![
            "memcpy of the same bytes, 1 thread".to_owned(),
            whole(self.memcpy_records_per_s),
            none(),
            none(),
            whole(self.bytes_in_per_record),
            whole(self.bytes_in_per_record),
        ]);
        say(&format!(
            "{} JSON records, {} keys, {} partitions, exactly-once transactions on; {:.0} % of the limit, after {:.1} s to \
             start; all windows final {:.1} s later\n\n{table}",
            whole(f64::from(self.records)),
            whole(f64::from(self.keys)),
            self.partitions,
            100.0 * self.records_per_s / self.limit_records_per_s,
            self.startup_s,
            self.windows_final_s,
        ));
    }
}
