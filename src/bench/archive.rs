//! `millrace bench archive`: a full topic becomes Parquet, beside a plain drain and a plain writer of the same rows.

mod limit;

use super::{
    aside, fill,
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
use millrace_processor::{
    archive::{self, ArchiveComponents, ArchiveMetrics, ArchiveSettings, Location},
    settings::AdmissionSettings,
};
use prometheus::Registry;
use serde::Serialize;
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long a record may wait for its file: so long the last ones wait, which is not the archive's work.
const INTERVAL: &str = "1s";
/// Records of a partition that wait for their file: the default.
const CHUNK_RECORDS: u32 = 100_000;
const POLL: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
pub struct ArchiveBench {
    #[command(flatten)]
    site: site::Settings,
    /// Records to fill the topic with, 387 bytes each
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
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
    partitions: i32,
    /// From the first chunk on, until all are archived that fill a chunk.
    records_per_s: f64,
    /// Until the first chunk.
    startup_s: f64,
    /// Of the plain drain.
    limit_records_per_s: f64,
    /// Of the plain Parquet writer, on one thread, with the rows in memory.
    writer_records_per_s: f64,
    cpu_s_per_million: f64,
    limit_cpu_s_per_million: f64,
    writer_cpu_s_per_million: f64,
    peak_rss_mb: f64,
    /// As JSON.
    bytes_in_per_record: f64,
    /// In the log's files, where it is embedded.
    log_bytes_per_record: Option<f64>,
    bytes_out_per_record: f64,
    files: u64,
}

pub async fn run(bench: ArchiveBench) -> anyhow::Result<()> {
    report(&bench.site, bench.json, async |site| bench.measure(site).await).await
}

impl ArchiveBench {
    async fn measure(&self, site: &Site) -> anyhow::Result<Report> {
        let records = u64::from(self.records);
        let fill = fill::Fill { workspaces: vec![site.workspace], records: self.records, keys: self.keys };
        aside::fill(&site.log, &fill).await?;
        let log_bytes = site.log_bytes();
        let limit = aside::drain(&site.log, records).await?;
        let registry = Registry::new();
        let Archived { spent, startup, records_per_s } = self.archive(site, &registry).await?;
        let folder = site.folder().join("archive");
        let writer = tokio::task::spawn_blocking(move || limit::write(&folder)).await??;
        let (bytes, files) = (sum(&registry, "bytes"), sum(&registry, "files"));
        Ok(Report {
            bench: "archive",
            records: self.records,
            keys: self.keys,
            partitions: site.log.topic_partitions,
            records_per_s,
            startup_s: startup.as_secs_f64(),
            limit_records_per_s: count(records) / limit.elapsed.as_secs_f64(),
            writer_records_per_s: count(writer.rows) / writer.spent.elapsed.as_secs_f64(),
            cpu_s_per_million: spent.cpu_s_per_million(records),
            limit_cpu_s_per_million: limit.cpu_s_per_million(records),
            writer_cpu_s_per_million: writer.spent.cpu_s_per_million(writer.rows),
            peak_rss_mb: spent.peak_rss_mb,
            bytes_in_per_record: count(fill::RECORD_BYTES as u64),
            log_bytes_per_record: log_bytes.map(|bytes| count(bytes) / count(records)),
            bytes_out_per_record: count(bytes) / count(records),
            files,
        })
    }

    /// From the start of the archive until each record is in a file that is part of it.
    async fn archive(&self, site: &Site, registry: &Registry) -> anyhow::Result<Archived> {
        let components = ArchiveComponents {
            log: site.log.clone(),
            directory: site.directory.clone(),
            location: Location::open(&site.archive_url())?,
            admission: AdmissionSettings::default(),
            settings: ArchiveSettings {
                archive_url: site.archive_url(),
                archive_interval: INTERVAL.parse()?,
                archive_records: CHUNK_RECORDS,
                no_archive: false,
            },
            metrics: ArchiveMetrics::register(registry)?,
            instance: "bench".to_owned(),
        };
        let stop = CancellationToken::new();
        let watch = async {
            let archived = self.follow(registry, site.log.topic_partitions).await;
            stop.cancel();
            archived
        };
        let (ended, archived) = tokio::join!(archive::run(components, stop.clone()), watch);
        ended.context("the archive ended")?;
        archived
    }

    async fn follow(&self, registry: &Registry, partitions: i32) -> anyhow::Result<Archived> {
        let (records, usage, mut watch) = (u64::from(self.records), Usage::start()?, Watch::new());
        let partial = u64::from(partitions.unsigned_abs()) * u64::from(CHUNK_RECORDS);
        let (mut first, mut full) = (None, None);
        loop {
            let archived = sum(registry, "records");
            let now = (archived, usage.spent()?);
            if archived >= records {
                return Ok(Archived::of(first.unwrap_or(now), full.unwrap_or(now), now));
            }
            if archived > 0 {
                first = first.or(Some(now));
            }
            if archived + partial >= records {
                full = full.or(Some(now));
            }
            watch.look(archived, || format!("stuck at {archived} of {records} records"))?;
            sleep(POLL).await;
        }
    }
}

/// What it took to archive all records.
struct Archived {
    spent: Spent,
    startup: Duration,
    records_per_s: f64,
}

impl Archived {
    /// From how much was archived when: first, when all chunks were that fill up, and at the end. With too few records for
    /// that, all count, with the start.
    fn of(first: (u64, Spent), full: (u64, Spent), (records, spent): (u64, Spent)) -> Self {
        let rate = |records: u64, time: Duration| count(records) / time.as_secs_f64();
        let records_per_s = if full.0 > first.0 {
            rate(full.0 - first.0, full.1.elapsed - first.1.elapsed)
        } else {
            rate(records, spent.elapsed)
        };
        Self { startup: first.1.elapsed, records_per_s, spent }
    }
}

/// Of what the archive counts.
fn sum(registry: &Registry, what: &str) -> u64 {
    counter(registry, &format!("millrace_archive_{what}_total"), None)
}

impl super::Report for Report {
    fn show(&self) {
        let mut table = Table::new(&["", "records/s", "CPU s per million", "peak RSS MB", "bytes in", "out"]);
        let mut row = |name: &str, [speed, cpu]: [f64; 2], rest: [String; 3]| {
            let numbers = vec![name.to_owned(), whole(speed), format!("{cpu:.2}")];
            table.row([numbers, rest.to_vec()].concat());
        };
        let [none, json] = [maybe(None, whole), whole(self.bytes_in_per_record)];
        let out = format!("{:.1}", self.bytes_out_per_record);
        row(
            "log → Parquet",
            [self.records_per_s, self.cpu_s_per_million],
            [whole(self.peak_rss_mb), json.clone(), out.clone()],
        );
        row(
            "plain librdkafka drain, 2 threads",
            [self.limit_records_per_s, self.limit_cpu_s_per_million],
            [none.clone(), json, none.clone()],
        );
        row(
            "plain Parquet writer of the same rows, 1 thread",
            [self.writer_records_per_s, self.writer_cpu_s_per_million],
            [none.clone(), none, out],
        );
        let log = self
            .log_bytes_per_record
            .map_or_else(String::new, |bytes| format!("; {bytes:.1} bytes a record in the log's files"));
        say(&format!(
            "{} records, {} services, {} partitions, {} files{log}, after {:.1} s to start\n\n{table}",
            whole(self.records.into()),
            self.keys,
            self.partitions,
            self.files,
            self.startup_s,
        ));
    }
}
