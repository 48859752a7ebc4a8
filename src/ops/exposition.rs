//! Prometheus' text format: first the metrics of the QueryVault contract in its order, then all others by name.

use super::process::Usage;
use prometheus::{Encoder, TextEncoder, proto::MetricFamily};
use std::fmt::Write;

const CONTRACT: [&str; 6] = [
    "queryvault_metrics_ingested_total",
    "queryvault_metrics_dropped_total",
    "queryvault_requests_total",
    "queryvault_buffer_depth",
    "queryvault_websocket_connections",
    "queryvault_info",
];

/// Each family with its HELP and TYPE lines, a blank line between them.
pub fn text(mut families: Vec<MetricFamily>, usage: &Usage) -> String {
    families.sort_by_cached_key(|family| (contract_position(family.name()), family.name().to_owned()));
    let mut texts: Vec<String> = families.into_iter().filter_map(encode).collect();
    texts.extend(process_families(usage));
    texts.join("\n")
}

fn contract_position(name: &str) -> usize {
    CONTRACT.iter().position(|known| *known == name).unwrap_or(CONTRACT.len())
}

fn encode(family: MetricFamily) -> Option<String> {
    let mut bytes = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&[family], &mut bytes) {
        tracing::error!(%error, "a metric can't be written");
        return None;
    }
    Some(String::from_utf8(bytes).expect("the encoder is given strings only"))
}

fn process_families(usage: &Usage) -> Vec<String> {
    let families = [
        ("process_cpu_seconds_total", "counter", "CPU time used, user and system", usage.cpu_s),
        ("process_resident_memory_bytes", "gauge", "Resident memory", usage.resident_bytes),
        ("process_start_time_seconds", "gauge", "When the process started, since the epoch", usage.started_s),
        ("process_threads", "gauge", "Threads", usage.threads),
    ];
    let known = families.into_iter().filter_map(|(name, kind, help, value)| Some((name, kind, help, value?)));
    known.map(|(name, kind, help, value)| family(name, kind, help, value)).collect()
}

fn family(name: &str, kind: &str, help: &str, value: f64) -> String {
    let mut text = String::new();
    write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
        .expect("writing to a string does not fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::{IntCounter, IntGauge, Registry};

    fn registry() -> Registry {
        let registry = Registry::new();
        for name in
            ["millrace_a_total", "queryvault_metrics_dropped_total", "queryvault_metrics_ingested_total"]
        {
            let counter = IntCounter::new(name, "Help").expect("a valid name");
            registry.register(Box::new(counter)).expect("new");
        }
        let depth = IntGauge::new("queryvault_buffer_depth", "Help").expect("a valid name");
        registry.register(Box::new(depth)).expect("new");
        registry
    }

    #[test]
    fn the_contracts_metrics_come_first_and_in_its_order() {
        let usage = Usage { resident_bytes: Some(1e9), ..Usage::default() };
        let text = text(registry().gather(), &usage);
        let names: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        assert_eq!(
            names,
            [
                "# TYPE queryvault_metrics_ingested_total counter",
                "# TYPE queryvault_metrics_dropped_total counter",
                "# TYPE queryvault_buffer_depth gauge",
                "# TYPE millrace_a_total counter",
                "# TYPE process_resident_memory_bytes gauge",
            ]
        );
        assert!(
            text.contains("\nqueryvault_metrics_dropped_total 0\n\n# HELP queryvault_buffer_depth Help\n")
        );
        assert!(text.ends_with("process_resident_memory_bytes 1000000000\n"), "{text}");
    }
}
