//! How many events a second each key may send: token buckets that may go into debt, so that one large request passes and
//! the next waits for it. Time is an argument.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

/// Buckets kept at once. Only valid keys have one, so in practice there are as many as keys in use.
const BUCKETS_MAX: usize = 100_000;

pub struct Rates {
    events_per_s: f64,
    buckets: Mutex<HashMap<[u8; 32], Bucket>>,
}

/// Full at one second's worth of events.
struct Bucket {
    tokens: f64,
    refilled_at: Instant,
}

impl Rates {
    /// `None` for no limit (0).
    pub fn new(events_per_s: u32) -> Option<Self> {
        (events_per_s > 0).then(|| Self { events_per_s: f64::from(events_per_s), buckets: Mutex::default() })
    }

    /// Takes `events` from the key's bucket; from an empty one nothing, and the answer is how long to wait.
    pub fn take(&self, key: [u8; 32], events: u32, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().expect("no code panics while it holds the buckets");
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(&key) {
            // A full bucket is as good as none.
            buckets.retain(|_, bucket| bucket.refilled(self.events_per_s, now) < self.events_per_s);
            if buckets.len() >= BUCKETS_MAX {
                buckets.clear();
            }
        }
        let new = || Bucket { tokens: self.events_per_s, refilled_at: now };
        let bucket = buckets.entry(key).or_insert_with(new);
        bucket.tokens = bucket.refilled(self.events_per_s, now);
        bucket.refilled_at = now;
        if bucket.tokens <= 0.0 {
            return Err(Duration::from_secs_f64(-bucket.tokens / self.events_per_s));
        }
        bucket.tokens -= f64::from(events);
        Ok(())
    }
}

impl Bucket {
    fn refilled(&self, events_per_s: f64, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.refilled_at);
        (self.tokens + elapsed.as_secs_f64() * events_per_s).min(events_per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [1; 32];

    #[test]
    fn no_limit_needs_no_buckets() {
        assert!(Rates::new(0).is_none());
    }

    #[test]
    fn a_large_request_passes_and_the_next_waits_for_it() {
        let rates = Rates::new(100).expect("a limit");
        let start = Instant::now();
        assert!(rates.take(KEY, 600, start).is_ok());
        assert_eq!(rates.take(KEY, 1, start), Err(Duration::from_secs(5)));
        assert!(rates.take([2; 32], 1, start).is_ok(), "another key has its own bucket");
        assert!(rates.take(KEY, 1, start + Duration::from_millis(5010)).is_ok());
    }

    #[test]
    fn a_bucket_holds_no_more_than_a_second() {
        let rates = Rates::new(100).expect("a limit");
        let start = Instant::now();
        assert!(rates.take(KEY, 0, start).is_ok());
        let later = start + Duration::from_secs(3600);
        assert!(rates.take(KEY, 100, later).is_ok());
        assert!(rates.take(KEY, 1, later).is_err());
    }
}
