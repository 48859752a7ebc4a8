//! Which batches belong to aborted transactions, and which markers nothing needs any more, as the log is gone through.
//!
//! Kafka's CleanedTransactionMetadata.

use crate::log::{
    batch::{Header, TRANSACTIONAL},
    index::Aborted,
    recovery::outcome_in,
};
use std::collections::{HashMap, HashSet, VecDeque};

pub struct Transactions {
    /// Those to come, by first offset.
    aborted: VecDeque<Aborted>,
    /// Producers in an aborted transaction, and whether a batch of it was met.
    in_aborted: HashMap<i64, bool>,
    in_committed: HashSet<i64>,
}

impl Transactions {
    pub fn new(mut aborted: Vec<Aborted>) -> Self {
        aborted.sort_unstable_by_key(|aborted| aborted.first_offset);
        Self { aborted: aborted.into(), in_aborted: HashMap::new(), in_committed: HashSet::new() }
    }

    /// Whether a data batch was aborted.
    pub fn on_data(&mut self, header: &Header) -> bool {
        self.reach(header.last_offset());
        if !header.is(TRANSACTIONAL) {
            return false;
        }
        match self.in_aborted.get_mut(&header.producer_id) {
            Some(met) => *met = true,
            None => {
                self.in_committed.insert(header.producer_id);
                return false;
            }
        }
        true
    }

    /// Whether the transaction that a marker ended has nothing left in the log. A batch that only keeps a sequence counts:
    /// without the marker a scan would take its transaction for open.
    pub fn on_control(&mut self, header: &Header, batch: &[u8]) -> bool {
        self.reach(header.last_offset());
        if outcome_in(header, batch).is_none() {
            return header.count == 0;
        }
        let aborted = self.in_aborted.remove(&header.producer_id) == Some(true);
        let left = self.in_committed.remove(&header.producer_id);
        !aborted && !left
    }

    fn reach(&mut self, offset: i64) {
        while let Some(aborted) = self.aborted.pop_front_if(|aborted| aborted.first_offset <= offset) {
            self.in_aborted.entry(aborted.producer_id).or_insert(false);
        }
    }
}
