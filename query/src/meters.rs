//! The service's Prometheus metrics.

use prometheus::{
    Error, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

const REQUEST_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 3.0];

/// Cheap to clone: the clones count together.
#[derive(Clone)]
pub struct Meters {
    pub sockets: IntGauge,
    pub requests: IntCounterVec,
    pub request_seconds: HistogramVec,
    pub live_events: IntCounter,
    pub live_dropped: IntCounter,
    pub tail_records: IntCounterVec,
    pub tail_lag: IntGaugeVec,
    pub archive_failures: IntCounter,
}

impl Meters {
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        let seconds = HistogramOpts::new("millrace_query_request_seconds", "Time to answer a request")
            .buckets(REQUEST_SECONDS.to_vec());
        Ok(Self {
            sockets: add(registry, IntGauge::new("queryvault_websocket_connections", "Open WebSockets")?)?,
            requests: add(
                registry,
                IntCounterVec::new(
                    Opts::new("millrace_query_requests_total", "Requests answered, by route and status"),
                    &["route", "code"],
                )?,
            )?,
            request_seconds: add(registry, HistogramVec::new(seconds, &["route"])?)?,
            live_events: add(
                registry,
                IntCounter::new(
                    "millrace_live_events_total",
                    "Events queued for WebSockets, once for each socket",
                )?,
            )?,
            live_dropped: add(
                registry,
                IntCounter::new(
                    "millrace_live_dropped_total",
                    "Of these, dropped because the client was too slow",
                )?,
            )?,
            tail_records: add(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "millrace_query_tail_records_total",
                        "Records read from the log's tail, by topic and kind",
                    ),
                    &["topic", "kind"],
                )?,
            )?,
            tail_lag: add(
                registry,
                IntGaugeVec::new(
                    Opts::new("millrace_query_tail_lag_records", "Records of a topic that are not read yet"),
                    &["topic"],
                )?,
            )?,
            archive_failures: add(
                registry,
                IntCounter::new(
                    "millrace_query_archive_failures_total",
                    "Times that the archive could not be read",
                )?,
            )?,
        })
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
