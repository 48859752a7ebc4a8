//! Simple counts of what was asked.

use kafka_protocol::messages::ApiKey;
use std::sync::atomic::{AtomicU64, Ordering};

const KEYS: usize = 100;

/// Counts since the start.
#[derive(Debug)]
pub struct Counters {
    requests: [AtomicU64; KEYS],
    malformed: AtomicU64,
    unsupported: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        let requests = [const { AtomicU64::new(0) }; KEYS];
        Self { requests, malformed: AtomicU64::new(0), unsupported: AtomicU64::new(0) }
    }
}

impl Counters {
    pub(super) fn request(&self, key: ApiKey) {
        if let Some(count) = self.requests.get(key as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn unsupported(&self) {
        self.unsupported.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests of each API that was asked for at least once.
    pub fn requests(&self) -> impl Iterator<Item = (ApiKey, u64)> {
        let counts = ApiKey::iter().filter_map(|key| Some((key, self.requests.get(key as usize)?)));
        counts.map(|(key, count)| (key, count.load(Ordering::Relaxed))).filter(|(_, count)| *count > 0)
    }

    /// Requests that closed their connection.
    pub fn malformed_total(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    /// Requests for what is not offered.
    pub fn unsupported_total(&self) -> u64 {
        self.unsupported.load(Ordering::Relaxed)
    }
}
