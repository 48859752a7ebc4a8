//! `millrace bench ingest`: durable requests a second through the edge, beside librdkafka with the same records.

mod limit;
mod phases;

use super::{
    drain::{self, Values},
    load::{self, Answered, Load, Shape, batch::Target, latency::Percentiles},
    say,
    site::{
        self, Site,
        role::Role,
        usage::{Spent, Usage, count},
    },
    table::{Table, maybe, whole},
};
use anyhow::Context;
use clap::Args;
use phases::{Phases, Sums};
use serde::Serialize;
use std::{thread::available_parallelism, time::Duration};
use tokio::time::sleep;

/// With more of the machine than this, the load is a good part of what is measured.
const LOAD_SHARE_MAX: f64 = 0.33;

#[derive(Debug, Args)]
pub struct IngestBench {
    #[command(flatten)]
    site: site::Settings,
    /// Connections that send single events, each when the one before is answered: a run for each number
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 400], value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: Vec<u32>,
    /// Events of a request: a run for each number
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1000], value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batches: Vec<u32>,
    /// Connections that send batches
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    batch_connections: u32,
    /// A run of single events at so many a second, over the most connections, whose latency counts from when each should
    /// have been sent; 0 for none
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    rate: u32,
    /// Services that the events are of
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: u32,
    /// How long each run is measured
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How long each run goes on before that
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=600))]
    warm_up_seconds: u64,
    /// Print the result as one line of JSON too, last
    #[arg(long)]
    json: bool,
}

/// The line of JSON; the totals are those of the run with the most events a second.
#[derive(Debug, Serialize)]
struct Report<'a> {
    bench: &'static str,
    #[serde(flatten)]
    best: &'a Run,
    runs: &'a [Run],
}

#[derive(Debug, Serialize)]
struct Run {
    connections: u32,
    events_per_request: u32,
    /// What was asked for.
    rate_per_s: Option<f64>,
    requests_per_s: f64,
    records_per_s: f64,
    limit_records_per_s: Option<f64>,
    refused: u64,
    #[serde(flatten)]
    latency: Percentiles,
    /// Of the edge alone.
    cpu_s_per_million: f64,
    limit_cpu_s_per_million: Option<f64>,
    peak_rss_mb: f64,
    /// Of requests, with their headers.
    bytes_in_per_record: f64,
    /// Values, as JSON.
    bytes_out_per_record: f64,
    /// In the log's files, compressed, where it is embedded.
    log_bytes_per_record: Option<f64>,
    cores_edge: f64,
    /// The embedded log's and store's.
    cores_log: Option<f64>,
    cores_load: f64,
    phases_us: Phases,
}

pub async fn run(bench: IngestBench) -> anyhow::Result<()> {
    let runs = site::on(&bench.site, async |site| bench.measure(site).await).await?;
    let best = runs.iter().max_by(|one, other| one.records_per_s.total_cmp(&other.records_per_s));
    let best = best.context("there was a run")?;
    bench.show(&runs);
    if bench.json {
        say(&serde_json::to_string(&Report { bench: "ingest", best, runs: &runs })?);
    }
    Ok(())
}

impl IngestBench {
    async fn measure(&self, site: &Site) -> anyhow::Result<Vec<Run>> {
        let edge = Role::start(site, "ingest", &[]).await?;
        let target = Target {
            address: edge.address,
            key: site.key.clone(),
            workspace: site.workspace,
            services: self.keys,
        };
        load::first_answer(&target).await?;
        let mut runs = Vec::new();
        for shape in self.shapes() {
            let mut run = self.measure_one(site, &edge, &target, shape).await?;
            if shape.rate.is_none() {
                let limit = limit::measure(&site.log, &target, shape, self.times()).await?;
                run.limit_records_per_s = Some(limit.records_per_s);
                run.limit_cpu_s_per_million = Some(limit.cpu_s_per_million);
            }
            runs.push(run);
        }
        Ok(runs)
    }

    fn times(&self) -> [Duration; 2] {
        [self.warm_up_seconds, self.seconds].map(Duration::from_secs)
    }

    fn shapes(&self) -> Vec<Shape> {
        let single = |connections| Shape { connections, events: 1, rate: None };
        let mut shapes: Vec<_> = self.connections.iter().map(|connections| single(*connections)).collect();
        let most = self.connections.iter().max().copied().unwrap_or(1);
        if self.rate > 0 {
            shapes.push(Shape { rate: Some(f64::from(self.rate)), ..single(most) });
        }
        let connections = self.batch_connections;
        shapes.extend(self.batches.iter().map(|events| Shape { connections, events: *events, rate: None }));
        shapes
    }

    async fn measure_one(
        &self,
        site: &Site,
        edge: &Role,
        target: &Target,
        shape: Shape,
    ) -> anyhow::Result<Run> {
        let [warm_up, duration] = self.times();
        let mut load = Load::start(target, shape).await?;
        sleep(warm_up).await;
        let ends = drain::raw_ends(&site.log).await?;
        let (log_bytes, sums) = (site.log_bytes(), Sums::of(edge).await?);
        let (edge_usage, log_usage, own_usage) = (edge.usage()?, site.host_usage()?, Usage::start()?);
        load.measure();
        sleep(duration).await;
        let log = log_usage.map(|usage| usage.spent()).transpose()?;
        let (edge_spent, own) = (edge_usage.spent()?, own_usage.spent()?);
        let sums = [sums, Sums::of(edge).await?];
        let written = site.log_bytes().zip(log_bytes).map(|(now, before)| now.saturating_sub(before));
        let (answered, elapsed) = load.end().await?;
        let values = drain::raw_values(&site.log, ends).await?;
        let measured =
            Measured { shape, answered, elapsed, edge: edge_spent, log, load: own, sums, values, written };
        measured.summarize().context("no request was accepted")
    }

    fn show(&self, runs: &[Run]) {
        let mut table = Table::new(&[
            "acknowledged by the log",
            "requests/s",
            "events/s",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "limit events/s",
            "CPU s per million",
            "limit's",
            "peak RSS MB",
            "bytes in",
            "out",
            "in the log's files",
            "cores: edge",
            "log",
            "load",
        ]);
        runs.iter().for_each(|run| table.row(run.cells()));
        say(&format!(
            "{} s each after {} s, {} services, {} partitions; limit: librdkafka alone, as many events in flight\n\n{table}",
            self.seconds, self.warm_up_seconds, self.keys, self.site.log.topic_partitions
        ));
        say(&phases::table(runs.iter().map(|run| (run.name(), &run.phases_us))).to_string());
        let cores = available_parallelism().map_or(1, usize::from);
        let share = |run: &Run| run.cores_load / f64::from(u32::try_from(cores).unwrap_or(1));
        for run in runs.iter().filter(|run| share(run) > LOAD_SHARE_MAX) {
            say(&format!(
                "{}: the load took {:.0} % of this machine's {cores} cores itself",
                run.name(),
                100.0 * share(run)
            ));
        }
        for run in runs.iter().filter(|run| run.refused > 0) {
            say(&format!("{}: {} requests were refused", run.name(), run.refused));
        }
    }
}

/// What one run came to.
struct Measured {
    shape: Shape,
    answered: Answered,
    elapsed: Duration,
    edge: Spent,
    log: Option<Spent>,
    load: Spent,
    sums: [Sums; 2],
    /// From the first one measured on, and those that came after the last.
    values: Values,
    written: Option<u64>,
}

impl Measured {
    /// None where no request was accepted.
    fn summarize(self) -> Option<Run> {
        let Self { shape, answered, edge, .. } = self;
        let (seconds, accepted) = (self.elapsed.as_secs_f64(), answered.latencies.len() as u64);
        let records = accepted * u64::from(shape.events);
        let latency = answered.latencies.percentiles()?;
        let waited_us = shape.rate.is_none().then_some(latency.mean_ms * 1000.0);
        let [before, after] = &self.sums;
        Some(Run {
            connections: shape.connections,
            events_per_request: shape.events,
            rate_per_s: shape.rate,
            requests_per_s: count(accepted) / seconds,
            records_per_s: count(records) / seconds,
            limit_records_per_s: None,
            refused: answered.refused,
            latency,
            cpu_s_per_million: edge.cpu_s_per_million(records),
            limit_cpu_s_per_million: None,
            peak_rss_mb: edge.peak_rss_mb,
            bytes_in_per_record: count(answered.bytes_sent)
                / count(answered.requests * u64::from(shape.events)),
            bytes_out_per_record: count(self.values.bytes) / count(self.values.records),
            log_bytes_per_record: self.written.map(|bytes| count(bytes) / count(records)),
            cores_edge: edge.cores(),
            cores_log: self.log.map(|log| log.cores()),
            cores_load: self.load.cores(),
            phases_us: before.until(after, waited_us),
        })
    }
}

impl Run {
    fn name(&self) -> String {
        let Self { connections, events_per_request, .. } = self;
        let rate = self.rate_per_s.map(|rate| format!(" at {}/s", whole(rate))).unwrap_or_default();
        match events_per_request {
            1 => format!("single events{rate}, {connections} connections"),
            events => format!("batches of {events}{rate}, {connections} connections"),
        }
    }

    fn cells(&self) -> Vec<String> {
        let cores = |cores: f64| format!("{cores:.2}");
        let two = |number: f64| format!("{number:.2}");
        vec![
            self.name(),
            whole(self.requests_per_s),
            whole(self.records_per_s),
            two(self.latency.p50_ms),
            two(self.latency.p95_ms),
            two(self.latency.p99_ms),
            maybe(self.limit_records_per_s, whole),
            two(self.cpu_s_per_million),
            maybe(self.limit_cpu_s_per_million, two),
            whole(self.peak_rss_mb),
            whole(self.bytes_in_per_record),
            whole(self.bytes_out_per_record),
            maybe(self.log_bytes_per_record, whole),
            cores(self.cores_edge),
            maybe(self.cores_log, cores),
            cores(self.cores_load),
        ]
    }
}
