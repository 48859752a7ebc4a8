//! The ledger's numbers for Prometheus.

use super::entries::{Fault, FaultKind, Plan};
use millrace_schemas::ledger::Counts;
use prometheus::{Error, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

#[derive(Clone)]
pub struct LedgerMetrics {
    records: IntCounterVec,
    gaps: IntCounterVec,
    rereads: IntCounterVec,
    /// Records of the topic that are no entries.
    pub skipped: IntCounter,
    lag: IntGaugeVec,
}

impl LedgerMetrics {
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        let by = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            records: by(
                "millrace_ledger_records_total",
                "Records in the ledger, by the stage that dealt with them and what became of them",
                &["stage", "outcome"],
            )?,
            gaps: by(
                "millrace_ledger_gaps_total",
                "Ranges of offsets of which no stage has told the ledger, or only with what it had already",
                &["stage"],
            )?,
            rereads: by(
                "millrace_ledger_rereads_total",
                "Ranges of offsets that were told again and left out; a restarted archive tells its last one again",
                &["stage"],
            )?,
            skipped: IntCounter::new(
                "millrace_ledger_skipped_total",
                "Records of the ledger topic that are no entries",
            )?,
            lag: IntGaugeVec::new(
                Opts::new(
                    "millrace_ledger_lag_records",
                    "Records of the ledger topic that are not stored yet",
                ),
                &["partition"],
            )?,
        };
        registry.register(Box::new(metrics.records.clone()))?;
        registry.register(Box::new(metrics.gaps.clone()))?;
        registry.register(Box::new(metrics.rereads.clone()))?;
        registry.register(Box::new(metrics.skipped.clone()))?;
        registry.register(Box::new(metrics.lag.clone()))?;
        for stage in ["combine", "windows", "archive"] {
            metrics.gaps.with_label_values(&[stage]).inc_by(0);
            metrics.rereads.with_label_values(&[stage]).inc_by(0);
            metrics.count(stage, &Counts::default());
        }
        Ok(metrics)
    }

    pub fn stored(&self, plan: &Plan) {
        plan.added.iter().for_each(|(stage, counts)| self.count(stage, counts));
        for Fault { reader, kind, .. } in &plan.faults {
            let counter = match kind {
                FaultKind::Gap | FaultKind::Torn => &self.gaps,
                FaultKind::Reread => &self.rereads,
            };
            counter.with_label_values(&[&reader.stage]).inc();
        }
    }

    fn count(&self, stage: &str, counts: &Counts) {
        let outcomes: &[(&str, i64)] = match stage {
            "combine" => &[
                ("read", counts.read),
                ("from_edge", counts.from_edge),
                ("counted", counts.counted),
                ("running", counts.running),
                ("duplicate", counts.duplicate),
                ("invalid", counts.dead_lettered.invalid),
                ("unknown_workspace", counts.dead_lettered.unknown_workspace),
                ("future", counts.dead_lettered.future),
            ],
            "windows" => &[("late", counts.late), ("backfilled", counts.backfilled)],
            _ => &[("archived", counts.archived)],
        };
        for (outcome, count) in outcomes {
            let count = u64::try_from(*count).unwrap_or(0);
            self.records.with_label_values(&[stage, outcome]).inc_by(count);
        }
    }

    pub fn lag(&self, partition: i32, records: i64) {
        self.lag.with_label_values(&[&partition.to_string()]).set(records);
    }

    /// The partitions belong to others now, who tell their lag.
    pub fn forget_lags(&self) {
        self.lag.reset();
    }
}
