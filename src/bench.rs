//! `millrace bench`: measures a part of Millrace beside its limit, in the same run, and prints one table.

mod drain;
mod fill;
mod usage;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use millrace_log::{LogSettings, ensure_topics};
use millrace_processor::{Components, Settings as ProcessorSettings};
use millrace_tenancy::{Directory, StoreSettings};
use rdkafka::{
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use serde::Serialize;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use usage::Usage;
use uuid::Uuid;

/// How long the drain may stand still before it counts as stuck.
const STALL_MAX: Duration = Duration::from_secs(60);

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Drains a pre-filled topic of JSON records through combine and windows, beside a plain librdkafka drain
    Processor(Box<ProcessorBench>),
}

#[derive(Debug, Args)]
pub struct ProcessorBench {
    #[command(flatten)]
    log: LogSettings,
    #[command(flatten)]
    store: StoreSettings,
    #[command(flatten)]
    processor: ProcessorSettings,
    /// Records to fill the topic with, 387 bytes each
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    records: u32,
    /// Services that the records are of
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: u32,
    /// Print the result as one line of JSON too, last
    #[arg(long)]
    json: bool,
}

/// The line of JSON.
#[derive(Debug, Serialize)]
struct Report {
    records: u32,
    keys: u32,
    partitions: i32,
    records_per_s: f64,
    limit_records_per_s: f64,
    cpu_s_per_million: f64,
    limit_cpu_s_per_million: f64,
    peak_rss_mb: f64,
}

pub async fn run(bench: Bench) -> anyhow::Result<()> {
    let Bench::Processor(mut bench) = bench;
    // Topics of its own, removed at the end: nothing that exists is touched.
    bench.log.topic_prefix = format!("{}bench-{}.", bench.log.topic_prefix, Uuid::new_v4().simple());
    ensure_topics(&bench.log).await.context("creating the topics of the benchmark")?;
    let measured = measure(&bench).await;
    let removed = remove_topics(&bench.log).await;
    let report = measured?;
    removed.context("removing the topics of the benchmark")?;
    print(&report, bench.json)
}

async fn measure(bench: &ProcessorBench) -> anyhow::Result<Report> {
    let pool = bench.store.connect().await?;
    millrace_tenancy::migrate(&pool).await?;
    let directory = Directory::new(pool.clone());
    let workspace = directory.get_or_create_workspace("bench").await?;
    let (log, records) = (bench.log.clone(), bench.records);
    let fill = fill::Fill { workspace: workspace.id, records, keys: bench.keys };
    tokio::task::spawn_blocking(move || fill::run(&log, fill)).await??;

    let log = bench.log.clone();
    let limit = tokio::task::spawn_blocking(move || drain::run(&log, u64::from(records))).await??;
    let components =
        Components { log: bench.log.clone(), pool, directory, registry: prometheus::Registry::new() };
    let drained = processor(bench, components).await?;
    let millions = f64::from(records) / 1e6;
    Ok(Report {
        records,
        keys: bench.keys,
        partitions: bench.log.topic_partitions,
        records_per_s: f64::from(records) / drained.elapsed.as_secs_f64(),
        limit_records_per_s: f64::from(records) / limit.elapsed.as_secs_f64(),
        cpu_s_per_million: drained.cpu.as_secs_f64() / millions,
        limit_cpu_s_per_million: limit.cpu.as_secs_f64() / millions,
        peak_rss_mb: drained.peak_rss_mb,
    })
}

/// From the start of the stages until every record is in a committed transaction of combine, and the windows have read
/// what combine wrote.
async fn processor(bench: &ProcessorBench, components: Components) -> anyhow::Result<usage::Spent> {
    let (registry, log) = (components.registry.clone(), components.log.clone());
    let stop = CancellationToken::new();
    let usage = Usage::start()?;
    let role = millrace_processor::run_windows(bench.processor.clone(), components, stop.clone());
    let watch = async {
        let result = wait_for(&registry, &log, u64::from(bench.records)).await;
        let spent = usage.spent();
        stop.cancel();
        result.and(spent)
    };
    let (ended, spent) = tokio::join!(role, watch);
    ended.context("the processor ended")?;
    spent
}

async fn wait_for(registry: &prometheus::Registry, log: &LogSettings, records: u64) -> anyhow::Result<()> {
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        let counted = counted(registry);
        if counted == records && drain::windows_caught_up(log).await? {
            return Ok(());
        }
        if counted != last {
            (last, moved) = (counted, Instant::now());
        }
        ensure!(moved.elapsed() < STALL_MAX, "stuck at {counted} of {records} records");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn counted(registry: &prometheus::Registry) -> u64 {
    let families = registry.gather();
    let verdicts = families.iter().find(|family| family.name() == "millrace_combine_records_total");
    let counts = verdicts.into_iter().flat_map(|family| family.get_metric());
    let counted = counts.filter(|metric| metric.get_label().iter().any(|label| label.value() == "counted"));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter of whole numbers")]
    counted.map(|metric| metric.get_counter().get_value() as u64).sum()
}

async fn remove_topics(log: &LogSettings) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = log.client().create()?;
    let names: Vec<String> =
        log.topics().specs(log.topic_partitions).into_iter().map(|spec| spec.name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for removed in admin.delete_topics(&names, &AdminOptions::new()).await? {
        removed.map_err(|(topic, code)| anyhow::anyhow!("removing {topic}: {code}"))?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the table is what the command is for")]
fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    let Report { records, keys, partitions, .. } = report;
    println!("{records} JSON records, {keys} keys, {partitions} partitions, exactly-once transactions on\n");
    println!("{:<34} {:>12} {:>18} {:>12}", "", "records/s", "CPU s per million", "peak RSS MB");
    println!(
        "{:<34} {:>12.0} {:>18.2} {:>12.0}",
        "combine + windows", report.records_per_s, report.cpu_s_per_million, report.peak_rss_mb
    );
    println!(
        "{:<34} {:>12.0} {:>18.2} {:>12}",
        "plain librdkafka drain, 2 threads", report.limit_records_per_s, report.limit_cpu_s_per_million, "-"
    );
    println!(
        "{:<34} {:>11.0}%",
        "share of the limit",
        100.0 * report.records_per_s / report.limit_records_per_s
    );
    if json {
        println!("{}", serde_json::to_string(report)?);
    }
    Ok(())
}
