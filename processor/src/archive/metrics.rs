//! The archive's numbers for Prometheus.

use super::manifest::Manifest;
use prometheus::{Error, Histogram, HistogramOpts, IntCounter, IntGaugeVec, Opts, Registry};

/// Buckets of seconds: a chunk may be a few records on a disk or many megabytes to a bucket.
const SECONDS: [f64; 10] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

#[derive(Clone)]
pub struct ArchiveMetrics {
    records: IntCounter,
    files: IntCounter,
    bytes: IntCounter,
    pub seconds: Histogram,
    /// Files of cut-short attempts that were removed.
    pub orphans: IntCounter,
    lag: IntGaugeVec,
}

impl ArchiveMetrics {
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        let seconds =
            HistogramOpts::new("millrace_archive_seconds", "Time to archive one stretch of a partition");
        let metrics = Self {
            records: IntCounter::new("millrace_archive_records_total", "Records archived")?,
            files: IntCounter::new("millrace_archive_files_total", "Parquet files written")?,
            bytes: IntCounter::new("millrace_archive_bytes_total", "Bytes of the Parquet files written")?,
            seconds: Histogram::with_opts(seconds.buckets(SECONDS.to_vec()))?,
            orphans: IntCounter::new(
                "millrace_archive_orphans_total",
                "Files of cut-short attempts removed",
            )?,
            lag: IntGaugeVec::new(
                Opts::new("millrace_archive_lag_records", "Raw records that are not archived yet"),
                &["partition"],
            )?,
        };
        registry.register(Box::new(metrics.records.clone()))?;
        registry.register(Box::new(metrics.files.clone()))?;
        registry.register(Box::new(metrics.bytes.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.orphans.clone()))?;
        registry.register(Box::new(metrics.lag.clone()))?;
        Ok(metrics)
    }

    pub fn archived(&self, manifest: &Manifest) {
        self.records.inc_by(manifest.records);
        self.files.inc_by(manifest.files.len() as u64);
        self.bytes.inc_by(manifest.files.iter().map(|file| file.bytes).sum());
    }

    pub fn lag(&self, partition: i32, records: i64) {
        self.lag.with_label_values(&[&partition.to_string()]).set(records);
    }

    /// The partitions belong to others now, who tell their lag.
    pub fn forget_lags(&self) {
        self.lag.reset();
    }
}
