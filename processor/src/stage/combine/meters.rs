//! What Prometheus sees of combine.

use super::judging::DeadLetter;
use crate::stage::chunk::Counts;
use millrace_schemas::dead_letter::Reason;
use prometheus::{Error, IntCounter, IntCounterVec, Opts, Registry};

/// Counters of all combine workers of a process.
#[derive(Clone)]
pub struct Meters {
    pub(super) records: IntCounterVec,
    dead_letters: IntCounterVec,
    transactions: IntCounter,
}

impl Meters {
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        let records = IntCounterVec::new(
            Opts::new(
                "millrace_combine_records_total",
                "Raw records by verdict: counted, running (no outcome yet), duplicate, dead_letter",
            ),
            &["verdict"],
        )?;
        let dead_letters = IntCounterVec::new(
            Opts::new(
                "millrace_combine_dead_letters_total",
                "Raw records that could not be counted, by reason",
            ),
            &["reason"],
        )?;
        let transactions =
            IntCounter::new("millrace_combine_transactions_total", "Transactions committed by combine")?;
        registry.register(Box::new(records.clone()))?;
        registry.register(Box::new(dead_letters.clone()))?;
        registry.register(Box::new(transactions.clone()))?;
        for verdict in ["counted", "running", "duplicate", "dead_letter"] {
            records.with_label_values(&[verdict]).inc_by(0);
        }
        for reason in Reason::ALL {
            dead_letters.with_label_values(&[reason.as_str()]).inc_by(0);
        }
        Ok(Self { records, dead_letters, transactions })
    }

    pub(super) fn add(&self, counts: Counts, dead: &[DeadLetter]) {
        self.transactions.inc();
        for (verdict, count) in [
            ("counted", counts.counted),
            ("running", counts.running),
            ("duplicate", counts.duplicate),
            ("dead_letter", counts.dead_letter),
        ] {
            self.records.with_label_values(&[verdict]).inc_by(count);
        }
        for letter in dead {
            self.dead_letters.with_label_values(&[letter.reason.as_str()]).inc();
        }
    }
}
