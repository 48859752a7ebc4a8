//! When a chunk of records ends by the clock. Pure: time is an argument.

use std::time::{Duration, Instant};

/// Of a backlog records are taken for as many times as long as the last commit took, but for no longer than
/// [`BACKLOG_MAX`]: so most of the time is for records.
const GATHER_PER_COMMIT: u32 = 6;
const BACKLOG_MAX: Duration = Duration::from_millis(600);
/// Where fewer are there at once the end is near.
const BACKLOG_RECORDS: usize = 1_024;

pub(super) struct Pace {
    end: Instant,
    end_in_backlog: Instant,
    /// There has always been more to take.
    is_backlog: bool,
}

impl Pace {
    /// Where no record comes it ends after `idle`.
    pub(super) fn new(now: Instant, idle: Duration) -> Self {
        Self { end: now + idle, end_in_backlog: now + idle, is_backlog: false }
    }

    /// The first records have come.
    pub(super) fn begin(&mut self, now: Instant, interval: Duration, commit_took: Duration) {
        let longer = (commit_took * GATHER_PER_COMMIT).min(BACKLOG_MAX).max(interval);
        *self = Self { end: now + interval, end_in_backlog: now + longer, is_backlog: true };
    }

    pub(super) fn took(&mut self, records: usize) {
        self.is_backlog &= records >= BACKLOG_RECORDS;
    }

    /// How long it may still go on.
    pub(super) fn left(&self, now: Instant) -> Duration {
        let end = if self.is_backlog { self.end_in_backlog } else { self.end };
        end.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);

    fn begun(commit_took: Duration) -> (Instant, Pace) {
        let start = Instant::now();
        let mut pace = Pace::new(start, INTERVAL);
        assert_eq!(pace.left(start), INTERVAL, "nothing has come");
        pace.begin(start + INTERVAL, INTERVAL, commit_took);
        (start + INTERVAL, pace)
    }

    #[test]
    fn a_backlog_is_taken_for_longer_where_commits_take_long() {
        let left = |commit_took| {
            let (start, mut pace) = begun(Duration::from_millis(commit_took));
            pace.took(1_024);
            pace.left(start)
        };
        assert_eq!(left(0), INTERVAL);
        assert_eq!(left(10), INTERVAL, "six times as long is less");
        assert_eq!(left(50), Duration::from_millis(300));
        assert_eq!(left(5_000), BACKLOG_MAX);
    }

    #[test]
    fn who_has_come_to_the_end_waits_no_longer_than_the_interval() {
        let (start, mut pace) = begun(Duration::from_millis(50));
        pace.took(1_024);
        pace.took(1_023);
        assert_eq!(pace.left(start), INTERVAL);
        pace.took(1_024);
        assert_eq!(pace.left(start), INTERVAL, "a record that came before must not wait for more of them");
        assert_eq!(pace.left(start + INTERVAL * 2), Duration::ZERO);
    }
}
