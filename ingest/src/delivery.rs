//! Follows the records of one request until the log has answered for each.

use crate::{admission::Reservation, metrics::Metrics};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tokio::sync::Notify;

/// Shared by the request, which waits, and the log's client, which reports. It lives, and holds the request's bytes in
/// flight, until the last report: also when the client of the edge has gone away.
pub struct Delivery {
    records: usize,
    acknowledged: AtomicUsize,
    pending: AtomicUsize,
    /// Partition to the offset after the newest record.
    next: Mutex<BTreeMap<i32, i64>>,
    /// The log has a record, but did not say where.
    lost_sight: AtomicBool,
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
    /// By partition, the offset after the newest record that was acknowledged; `None` where the log did not say.
    pub next: Option<BTreeMap<i32, i64>>,
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
            next: Mutex::default(),
            lost_sight: AtomicBool::new(false),
            unusual_failure: OnceLock::new(),
            settled: Notify::new(),
            metrics,
            _in_flight: in_flight,
        })
    }

    /// The log has one record more, at this offset of the partition; negative where it does not say.
    pub fn acknowledge(&self, partition: i32, offset: i64) {
        if offset < 0 {
            self.lost_sight.store(true, Ordering::Relaxed);
        } else {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = next.entry(partition).or_default();
            *newest = (*newest).max(offset + 1);
        }
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
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Outcome {
            next: (!self.lost_sight.load(Ordering::Relaxed)).then_some(next),
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
        delivery.acknowledge(7, 41);
        let next = Some(BTreeMap::from([(7, 42)]));
        let expected =
            Outcome { acknowledged: 1, unacknowledged: 3, next: next.clone(), unusual_failure: None };
        assert_eq!(delivery.outcome(), expected);
        delivery.fail(1, None);
        delivery.fail(2, Some("no such topic".to_owned()));
        delivery.settled().await;
        let expected = Outcome {
            acknowledged: 1,
            unacknowledged: 3,
            next,
            unusual_failure: Some("no such topic".to_owned()),
        };
        assert_eq!(delivery.outcome(), expected);
        assert_eq!(budget.used(), 100);
        drop(delivery);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn knows_where_the_newest_record_of_each_partition_is_unless_the_log_does_not_say() {
        let metrics = Arc::new(Metrics::register(&Registry::new()).expect("a new registry"));
        let delivery = Delivery::new(4, metrics, Budget::new(0).reserve(0).expect("nothing"));
        for (partition, offset) in [(1, 5), (0, 0), (1, 4)] {
            delivery.acknowledge(partition, offset);
        }
        assert_eq!(delivery.outcome().next, Some(BTreeMap::from([(0, 1), (1, 6)])));
        delivery.acknowledge(0, -1);
        assert_eq!(delivery.outcome().next, None);
    }
}
