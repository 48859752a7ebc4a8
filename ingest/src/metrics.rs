//! What Prometheus sees of the edge.

use crate::{admission::Budget, kafka::Log, phases::Phases};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use std::sync::Arc;

/// From a fast local broker to the longest delivery time-out one would set.
const SECONDS_BUCKETS: [f64; 11] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// The counters that the edge itself moves.
pub struct Metrics {
    pub requests: IntCounterVec,
    pub acknowledged_seconds: Histogram,
    pub phases: Phases,
    accepted: IntCounter,
    rejected: IntCounter,
    unacknowledged: IntCounter,
    ingested_compatible: IntCounter,
    dropped_compatible: IntCounter,
    requests_compatible: IntCounter,
}

impl Metrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new(
                "millrace_ingest_requests_total",
                "Requests to the ingest edge by the status of the answer",
            ),
            &["code"],
        )?;
        let events = IntCounterVec::new(
            Opts::new(
                "millrace_ingest_events_total",
                "Events received: accepted (the log has them), rejected (invalid or not allowed), or unacknowledged",
            ),
            &["outcome"],
        )?;
        let acknowledged_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "millrace_ingest_acknowledged_seconds",
                "Time from a request's headers to the log's acknowledgement of its last event",
            )
            .buckets(SECONDS_BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(events.clone()))?;
        registry.register(Box::new(acknowledged_seconds.clone()))?;
        Ok(Self {
            requests,
            acknowledged_seconds,
            phases: Phases::register(registry)?,
            accepted: events.with_label_values(&["accepted"]),
            rejected: events.with_label_values(&["rejected"]),
            unacknowledged: events.with_label_values(&["unacknowledged"]),
            ingested_compatible: counter(registry, "queryvault_metrics_ingested_total", "Metrics ingested")?,
            dropped_compatible: counter(registry, "queryvault_metrics_dropped_total", "Metrics dropped")?,
            requests_compatible: counter(registry, "queryvault_requests_total", "Requests")?,
        })
    }

    pub fn count_request(&self, code: u16) {
        self.requests.with_label_values(&[&code.to_string()]).inc();
        self.requests_compatible.inc();
    }

    pub fn count_rejected(&self, events: usize) {
        self.rejected.inc_by(events as u64);
        self.dropped_compatible.inc_by(events as u64);
    }

    /// What became of the events that were given to the log.
    pub fn count_delivered(&self, acknowledged: usize, unacknowledged: usize) {
        self.accepted.inc_by(acknowledged as u64);
        self.ingested_compatible.inc_by(acknowledged as u64);
        self.unacknowledged.inc_by(unacknowledged as u64);
        self.dropped_compatible.inc_by(unacknowledged as u64);
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

/// Gauges that are read when Prometheus asks.
pub struct Live {
    bytes: Arc<Budget>,
    log: Arc<dyn Log>,
    in_flight_bytes: IntGauge,
    buffer_depth: IntGauge,
}

impl Live {
    pub fn register(
        registry: &Registry,
        bytes: Arc<Budget>,
        log: Arc<dyn Log>,
    ) -> Result<(), prometheus::Error> {
        let in_flight_bytes = IntGauge::new(
            "millrace_ingest_in_flight_bytes",
            "Bytes of bodies being read or waiting for the log",
        )?;
        let buffer_depth = IntGauge::new("queryvault_buffer_depth", "Records waiting for the broker")?;
        registry.register(Box::new(Self { bytes, log, in_flight_bytes, buffer_depth }))
    }
}

impl Collector for Live {
    fn desc(&self) -> Vec<&Desc> {
        [self.in_flight_bytes.desc(), self.buffer_depth.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.in_flight_bytes.set(i64::try_from(self.bytes.used()).unwrap_or(i64::MAX));
        self.buffer_depth.set(self.log.waiting());
        [self.in_flight_bytes.collect(), self.buffer_depth.collect()].concat()
    }
}
