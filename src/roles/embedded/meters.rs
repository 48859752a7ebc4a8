//! The embedded log's numbers as Prometheus metrics.

use millrace_broker::Meters;
use prometheus::{
    IntCounter, IntCounterVec, IntGauge, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use std::sync::atomic::{AtomicU64, Ordering};

/// Asks the log when it is asked.
pub struct LogMeters {
    log: Meters,
}

impl LogMeters {
    pub fn new(log: Meters) -> Self {
        Self { log }
    }

    fn families(&self) -> Result<Vec<MetricFamily>, prometheus::Error> {
        let (asked, traffic) = (self.log.requests(), self.log.traffic());
        let requests = IntCounterVec::new(
            Opts::new("millrace_log_requests_total", "Requests to the embedded log"),
            &["api"],
        )?;
        for (api, count) in asked.requests() {
            requests.with_label_values(&[&format!("{api:?}")]).inc_by(count);
        }
        let connections =
            IntGauge::new("millrace_log_connections", "Connections to the embedded log that are open")?;
        connections.set(i64::try_from(self.log.connections_open()).unwrap_or(i64::MAX));
        let counts = [
            ("malformed_requests_total", "Requests that closed their connection", asked.malformed_total()),
            ("unsupported_requests_total", "Requests for what is not offered", asked.unsupported_total()),
            ("connections_accepted_total", "Connections taken", read(&traffic.connections_accepted)),
            ("connections_refused_total", "Connections beyond the limit", read(&traffic.connections_refused)),
            ("received_bytes_total", "Bytes of requests", read(&traffic.bytes_in)),
            ("sent_bytes_total", "Bytes of answers", read(&traffic.bytes_out)),
        ];
        let mut families = requests.collect();
        families.extend(connections.collect());
        for (name, help, value) in counts {
            let counter =
                IntCounter::new(format!("millrace_log_{name}"), format!("{help}, of the embedded log"))?;
            counter.inc_by(value);
            families.extend(counter.collect());
        }
        Ok(families)
    }
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

impl Collector for LogMeters {
    /// None: the names are this file's own, and it is registered once.
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.families().expect("the names are valid")
    }
}
