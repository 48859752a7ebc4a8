//! Budgets of what is in flight: requests, and bytes of their bodies.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// At most `max` of something at once. Nobody waits for it: who gets none tells the client to come back.
pub struct Budget {
    used: AtomicUsize,
    max: usize,
}

/// A part of a budget, given back when dropped.
pub struct Reservation {
    budget: Arc<Budget>,
    amount: usize,
}

impl Budget {
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max })
    }

    pub fn reserve(self: &Arc<Self>, amount: usize) -> Option<Reservation> {
        self.take(amount).then(|| Reservation { budget: Arc::clone(self), amount })
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, amount: usize) -> bool {
        let within = |used: usize| used.checked_add(amount).filter(|sum| *sum <= self.max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
    }
}

impl Reservation {
    /// Makes it at least `amount`; false, and unchanged, if the budget has no more.
    #[must_use]
    pub fn grow_to(&mut self, amount: usize) -> bool {
        if amount <= self.amount {
            return true;
        }
        let grown = self.budget.take(amount - self.amount);
        if grown {
            self.amount = amount;
        }
        grown
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_no_more_than_there_is_and_takes_it_back() {
        let budget = Budget::new(10);
        let mut first = budget.reserve(4).expect("there are ten");
        assert!(budget.reserve(7).is_none());
        assert!(first.grow_to(10) && !first.grow_to(11));
        assert_eq!(budget.used(), 10);
        drop(first);
        assert_eq!(budget.used(), 0);
        assert!(budget.reserve(usize::MAX).is_none());
    }
}
