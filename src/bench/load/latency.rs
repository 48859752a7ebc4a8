//! Latencies, all of them kept: percentiles are exact.

use serde::Serialize;
use std::time::Duration;

/// In microseconds.
#[derive(Debug, Default)]
pub struct Latencies(Vec<u32>);

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub mean_ms: f64,
}

impl Latencies {
    pub fn add_one(&mut self, latency: Duration) {
        self.0.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    pub fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// By nearest rank; none of nothing.
    pub fn percentiles(mut self) -> Option<Percentiles> {
        self.0.sort_unstable();
        let at = |percent: usize| {
            let rank = (self.0.len() * percent).div_ceil(100).max(1);
            self.0.get(rank - 1).map(|us| f64::from(*us) / 1000.0)
        };
        let total_us: f64 = self.0.iter().map(|us| f64::from(*us)).sum();
        let count = u32::try_from(self.0.len()).map_or(f64::MAX, f64::from);
        Some(Percentiles {
            p50_ms: at(50)?,
            p95_ms: at(95)?,
            p99_ms: at(99)?,
            mean_ms: total_us / count / 1000.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_nearest_rank() {
        let mut latencies = Latencies::default();
        (1..=200).rev().for_each(|ms| latencies.add_one(Duration::from_millis(ms)));
        let found = latencies.percentiles().expect("there are some");
        let all = [found.p50_ms, found.p95_ms, found.p99_ms, found.mean_ms];
        assert!(
            all.iter().zip([100.0, 190.0, 198.0, 100.5]).all(|(found, exact)| (found - exact).abs() < 1e-9)
        );
        assert!(Latencies::default().percentiles().is_none());
    }
}
