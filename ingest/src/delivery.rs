//! Follows the records of one request until the log has answered for each.

use crate::{admission::Reservation, metrics::Metrics};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Notify;

/// Shared by the request, which waits, and the log's client, which reports. It lives, and holds the request's bytes in
/// flight, until the last report: also when the client of the edge has gone away.
pub struct Delivery {
    records: usize,
    acknowledged: AtomicUsize,
    pending: AtomicUsize,
    unusual_failure: OnceLock<String>,
    settled: Notify,
    metrics: Arc<Metrics>,
    _in_flight: Reservation,
}

/// What the log has said so far.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub acknowledged: usize,
    /// Failed, or without an answer yet.
    pub unacknowledged: usize,
    /// Why, where it was not merely late or too much.
    pub unusual_failure: Option<String>,
}

impl Delivery {
    /// Expects `records` reports, at least one.
    pub fn new(records: usize, metrics: Arc<Metrics>, in_flight: Reservation) -> Arc<Self> {
        Arc::new(Self {
            records,
            acknowledged: AtomicUsize::new(0),
            pending: AtomicUsize::new(records),
            unusual_failure: OnceLock::new(),
            settled: Notify::new(),
            metrics,
            _in_flight: in_flight,
        })
    }

    /// The log has one record more.
    pub fn acknowledge(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.settle(1);
    }

    /// The log does not have, or may not have, `records` of them. The first reason given is kept.
    pub fn fail(&self, records: usize, unusual: Option<String>) {
        if let Some(reason) = unusual {
            self.unusual_failure.get_or_init(|| reason);
        }
        self.settle(records);
    }

    /// Returns when there was a report for each record. One task may wait.
    pub async fn settled(&self) {
        while self.pending.load(Ordering::Acquire) > 0 {
            self.settled.notified().await;
        }
    }

    pub fn outcome(&self) -> Outcome {
        let acknowledged = self.acknowledged.load(Ordering::Acquire);
        Outcome {
            acknowledged,
            unacknowledged: self.records - acknowledged,
            unusual_failure: self.unusual_failure.get().cloned(),
        }
    }

    fn settle(&self, records: usize) {
        if self.pending.fetch_sub(records, Ordering::AcqRel) == records {
            let outcome = self.outcome();
            self.metrics.count_delivered(outcome.acknowledged, outcome.unacknowledged);
            self.settled.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Budget;
    use prometheus::Registry;

    #[tokio::test]
    async fn settles_when_each_record_has_its_report() {
        let budget = Budget::new(100);
        let metrics = Arc::new(Metrics::register(&Registry::new()).expect("a new registry"));
        let delivery = Delivery::new(4, metrics, budget.reserve(100).expect("there is enough"));
        delivery.acknowledge();
        let expected = Outcome { acknowledged: 1, unacknowledged: 3, unusual_failure: None };
        assert_eq!(delivery.outcome(), expected);
        delivery.fail(1, None);
        delivery.fail(2, Some("no such topic".to_owned()));
        delivery.settled().await;
        let expected =
            Outcome { acknowledged: 1, unacknowledged: 3, unusual_failure: Some("no such topic".to_owned()) };
        assert_eq!(delivery.outcome(), expected);
        assert_eq!(budget.used(), 100);
        drop(delivery);
        assert_eq!(budget.used(), 0);
    }
}
