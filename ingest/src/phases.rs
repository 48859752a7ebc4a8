//! Where the time of an acknowledged request goes, phase by phase, as Prometheus sees it.

use prometheus::{Histogram, HistogramOpts, HistogramVec, Registry};
use std::time::Instant;

/// From what is only computed to what waits for a disk.
const SECONDS_BUCKETS: [f64; 8] = [0.000_01, 0.000_1, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0];

/// In the order of a request; what HTTP itself costs comes before and after them.
#[derive(Clone, Copy)]
pub enum Phase {
    /// The key is looked up and there is room.
    Authenticate,
    /// The body arrives.
    Read,
    /// It is decompressed, and its events are parsed, validated and written as records.
    Parse,
    /// The records are handed to the log's client.
    Append,
    /// The log has not acknowledged all of them.
    Acknowledge,
}

impl Phase {
    const ALL: [(Self, &str); 5] = [
        (Self::Authenticate, "authenticate"),
        (Self::Read, "read"),
        (Self::Parse, "parse"),
        (Self::Append, "append"),
        (Self::Acknowledge, "acknowledge"),
    ];
}

pub struct Phases([Histogram; Phase::ALL.len()]);

/// The phases of one request; each ends where the next begins. Only a request that was acknowledged is observed.
pub struct Laps {
    last: Instant,
    seconds: [f64; Phase::ALL.len()],
}

impl Phases {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let options = HistogramOpts::new(
            "millrace_ingest_phase_seconds",
            "Time that acknowledged requests spent in each phase of being handled",
        );
        let phases = HistogramVec::new(options.buckets(SECONDS_BUCKETS.to_vec()), &["phase"])?;
        registry.register(Box::new(phases.clone()))?;
        Ok(Self(Phase::ALL.map(|(_, name)| phases.with_label_values(&[name]))))
    }

    pub fn observe(&self, laps: &Laps) {
        for (histogram, seconds) in self.0.iter().zip(laps.seconds) {
            histogram.observe(seconds);
        }
    }
}

impl Laps {
    pub fn start(now: Instant) -> Self {
        Self { last: now, seconds: [0.0; Phase::ALL.len()] }
    }

    pub fn end(&mut self, phase: Phase, now: Instant) {
        self.seconds[phase as usize] += now.saturating_duration_since(self.last).as_secs_f64();
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_phase_has_its_own_time() {
        let registry = Registry::new();
        let phases = Phases::register(&registry).expect("a new registry");
        let start = Instant::now();
        let mut laps = Laps::start(start);
        laps.end(Phase::Authenticate, start + Duration::from_secs(1));
        laps.end(Phase::Acknowledge, start + Duration::from_secs(4));
        phases.observe(&laps);
        let sums = phases.0.each_ref().map(Histogram::get_sample_sum);
        assert!(
            sums.iter().zip([1.0, 0.0, 0.0, 0.0, 3.0]).all(|(sum, expected)| (sum - expected).abs() < 1e-9)
        );
    }
}
