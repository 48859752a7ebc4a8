//! `millrace bench processor`: drains a topic that is full, beside a plain drain of the same topic.

use super::{
    drain, fill,
    progress::counter,
    report, say,
    site::{
        self, Site,
        usage::{Spent, Usage, count},
    },
    stall::Watch,
    table::{Table, maybe, whole},
};
use anyhow::Context;
use clap::Args;
use millrace_log::LogSettings;
use millrace_processor::{Components, Settings as ProcessorSettings};
use millrace_schemas::WorkspaceId;
use serde::Serialize;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Args)]
pub struct ProcessorBench {
    #[command(flatten)]
    site: site::Settings,
    #[command(flatten)]
    processor: ProcessorSettings,
    /// Records to fill the topic with, 387 bytes each
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
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
    records_per_s: f64,
    limit_records_per_s: f64,
    cpu_s_per_million: f64,
    limit_cpu_s_per_million: f64,
    peak_rss_mb: f64,
    limit_peak_rss_mb: f64,
    /// In the log's files, where it is embedded.
    bytes_in_per_record: Option<f64>,
    bytes_out_per_record: Option<f64>,
    /// Of the windows of all sizes.
    final_rows: u64,
    /// From the end of the drain until all of them are out; a partition counts as idle after 1 s of it.
    windows_final_s: f64,
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
    let first = fill::run(&site.log, &fill).await?;
    let bytes_in = site.log_bytes();
    let limit = drain::run(&site.log, records).await?;
    let components = Components {
        log: site.log.clone(),
        pool: site.pool.clone(),
        directory: site.directory.clone(),
        registry: prometheus::Registry::new(),
    };
    let (drained, closed) = processor(bench, components, move || fill.rows(first)).await?;
    let per_record = |bytes: u64| count(bytes) / count(records);
    Ok(Report {
        bench: "processor",
        records: bench.records,
        keys: bench.keys,
        workspaces: bench.workspaces,
        partitions: site.log.topic_partitions,
        records_per_s: count(records) / drained.elapsed.as_secs_f64(),
        limit_records_per_s: count(records) / limit.elapsed.as_secs_f64(),
        cpu_s_per_million: drained.cpu_s_per_million(records),
        limit_cpu_s_per_million: limit.cpu_s_per_million(records),
        peak_rss_mb: drained.peak_rss_mb,
        limit_peak_rss_mb: limit.peak_rss_mb,
        bytes_in_per_record: bytes_in.map(per_record),
        bytes_out_per_record: site
            .log_bytes()
            .zip(bytes_in)
            .map(|(all, filled)| per_record(all.saturating_sub(filled))),
        final_rows: closed.rows,
        windows_final_s: closed.after.as_secs_f64(),
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

/// From the start of the stages until every record is in a committed transaction of combine, and the windows have read
/// what combine wrote; and then until all windows, `rows` of them, are final.
async fn processor(
    bench: &ProcessorBench,
    components: Components,
    rows: impl FnOnce() -> u64 + Send + 'static,
) -> anyhow::Result<(Spent, Closed)> {
    let (registry, log) = (components.registry.clone(), components.log.clone());
    let stop = CancellationToken::new();
    let usage = Usage::start()?;
    let role = millrace_processor::run_windows(bench.processor.clone(), components, stop.clone());
    let watch = async {
        let result = wait_for(bench, &registry, &log).await;
        let spent = usage.spent();
        let drained = Instant::now();
        let closed = match result {
            Ok(()) => wait_for_windows(&registry, drained, rows).await,
            Err(error) => Err(error),
        };
        stop.cancel();
        Ok((spent?, closed?))
    };
    let (ended, spent) = tokio::join!(role, watch);
    ended.context("the processor ended")?;
    spent
}

async fn wait_for(
    bench: &ProcessorBench,
    registry: &prometheus::Registry,
    log: &LogSettings,
) -> anyhow::Result<()> {
    let (records, workers) = (u64::from(bench.records), bench.processor.combine_workers);
    let mut watch = Watch::new();
    loop {
        let counted = counter(registry, "millrace_combine_records_total", Some("counted"));
        if counted == records && drain::windows_caught_up(log, workers).await? {
            return Ok(());
        }
        watch.look(counted, || format!("stuck at {counted} of {records} records"))?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn wait_for_windows(
    registry: &prometheus::Registry,
    drained: Instant,
    rows: impl FnOnce() -> u64 + Send + 'static,
) -> anyhow::Result<Closed> {
    let rows = tokio::task::spawn_blocking(rows).await?;
    let mut watch = Watch::new();
    loop {
        let emitted = counter(registry, "millrace_windows_rows_total", Some("final"));
        if emitted >= rows {
            return Ok(Closed { rows: emitted, after: drained.elapsed() });
        }
        watch.look(emitted, || format!("stuck at {emitted} of {rows} final rows"))?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl super::Report for Report {
    fn show(&self) {
        let mut table = Table::new(&["", "records/s", "CPU s per million", "peak RSS MB", "bytes in", "out"]);
        table.row(vec![
            "combine + windows".to_owned(),
            whole(self.records_per_s),
            format!("{:.2}", self.cpu_s_per_million),
            whole(self.peak_rss_mb),
            maybe(self.bytes_in_per_record, whole),
            maybe(self.bytes_out_per_record, |bytes| format!("{bytes:.1}")),
        ]);
        table.row(vec![
            "plain librdkafka drain, 2 threads".to_owned(),
            whole(self.limit_records_per_s),
            format!("{:.2}", self.limit_cpu_s_per_million),
            whole(self.limit_peak_rss_mb),
            maybe(self.bytes_in_per_record, whole),
            maybe(None, whole),
        ]);
        say(&format!(
            "{} JSON records, {} keys, {} partitions, exactly-once transactions on; {:.0} % of the limit; all windows final \
             {:.1} s later\n\n{table}",
            whole(f64::from(self.records)),
            whole(f64::from(self.keys)),
            self.partitions,
            100.0 * self.records_per_s / self.limit_records_per_s,
            self.windows_final_s,
        ));
    }
}
