//! The sink's numbers for Prometheus.

use prometheus::{Error, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

/// Why a record of the topic was left out.
#[derive(Clone, Copy, Debug)]
pub enum Skipped {
    /// It is no aggregate row.
    Unreadable,
    /// The database does not take it.
    Refused,
}

#[derive(Clone)]
pub struct SinkMetrics {
    /// Records read from the topic and stored, or superseded within their transaction.
    pub records: IntCounter,
    /// Rows inserted or replaced.
    pub rows: IntCounter,
    /// Stored rows that late records were merged into.
    pub merged: IntCounter,
    skipped: IntCounterVec,
    pub seconds: Histogram,
    lag: IntGaugeVec,
}

impl SinkMetrics {
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        let metrics = Self {
            records: IntCounter::new(
                "millrace_sink_records_total",
                "Aggregate records stored or superseded",
            )?,
            rows: IntCounter::new(
                "millrace_sink_rows_total",
                "Aggregate rows inserted or replaced by a revision",
            )?,
            merged: IntCounter::new(
                "millrace_sink_merged_total",
                "Stored rows that late records were merged into",
            )?,
            skipped: IntCounterVec::new(
                Opts::new(
                    "millrace_sink_skipped_total",
                    "Aggregate records that could not be read or stored",
                ),
                &["reason"],
            )?,
            seconds: Histogram::with_opts(HistogramOpts::new(
                "millrace_sink_seconds",
                "Time of one transaction",
            ))?,
            lag: IntGaugeVec::new(
                Opts::new("millrace_sink_lag_records", "Aggregate records that are not stored yet"),
                &["partition"],
            )?,
        };
        registry.register(Box::new(metrics.records.clone()))?;
        registry.register(Box::new(metrics.rows.clone()))?;
        registry.register(Box::new(metrics.merged.clone()))?;
        registry.register(Box::new(metrics.skipped.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.lag.clone()))?;
        Ok(metrics)
    }

    pub fn skipped(&self, reason: Skipped) {
        let reason = match reason {
            Skipped::Unreadable => "unreadable",
            Skipped::Refused => "refused",
        };
        self.skipped.with_label_values(&[reason]).inc();
    }

    pub fn lag(&self, partition: i32, records: i64) {
        self.lag.with_label_values(&[&partition.to_string()]).set(records);
    }

    /// The partitions belong to others now, who tell their lag.
    pub fn forget_lags(&self) {
        self.lag.reset();
    }
}
