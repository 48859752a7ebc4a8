//! The ledger for Prometheus, as of the last look at it.

use super::Health;
use prometheus::{Error, Gauge, IntGauge, Registry, core::Collector};

#[derive(Clone)]
pub struct LedgerMeters {
    unbalanced: IntGauge,
    newest_balanced: Gauge,
}

impl LedgerMeters {
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        Ok(Self {
            unbalanced: add(
                registry,
                IntGauge::new(
                    "millrace_ledger_unbalanced_minutes",
                    "Minutes of workspaces in the last 24 hours that are processed and do not balance",
                )?,
            )?,
            newest_balanced: add(
                registry,
                Gauge::new(
                    "millrace_ledger_newest_balanced_minute_seconds",
                    "Begin of the newest minute with records, all of which are accounted for, Unix time",
                )?,
            )?,
        })
    }

    pub fn show(&self, health: &Health) {
        self.unbalanced.set(health.unbalanced);
        if let Some(minute) = health.newest_balanced {
            #[expect(clippy::cast_precision_loss, reason = "seconds for a gauge")]
            self.newest_balanced.set(minute.as_millis() as f64 / 1000.0);
        }
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
