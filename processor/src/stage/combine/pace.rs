//! When a chunk of records ends by the clock. Pure: time is an argument.

use millrace_schemas::EventTime;
use std::time::{Duration, Instant};

/// What is said of the last moments of a window comes so long after it.
const ARRIVAL: Duration = Duration::from_millis(20);

/// Of a backlog records are taken for so long: what a transaction costs, here and in the brokers, goes with their number.
const BACKLOG_GATHER: Duration = Duration::from_millis(500);
/// Where fewer are there at once the end is near.
const BACKLOG_RECORDS: usize = 1_024;

/// The times of the clock at which all workers commit: an interval lies between them. Windows close once every worker has
/// committed what came until their end and the watermark's delay, so one of them is right after that.
#[derive(Clone, Copy)]
pub(super) struct Beat {
    pub interval: Duration,
    pub watermark_delay: Duration,
}

impl Beat {
    /// How long it is until the next: never longer than the interval.
    fn after(self, clock: EventTime) -> Duration {
        let interval = i64::try_from(self.interval.as_micros()).unwrap_or(i64::MAX).max(1);
        let since = clock.saturating_sub(self.watermark_delay).saturating_sub(ARRIVAL);
        let passed = since.as_micros().rem_euclid(interval);
        Duration::from_micros((interval - passed).unsigned_abs())
    }
}

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
    pub(super) fn begin(&mut self, now: Instant, beat: Beat, clock: EventTime) {
        let longer = beat.interval.max(BACKLOG_GATHER);
        *self = Self { end: now + beat.after(clock), end_in_backlog: now + longer, is_backlog: true };
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
    use std::cmp::Ordering;

    const INTERVAL: Duration = Duration::from_millis(100);

    fn begun(interval: Duration) -> (Instant, Pace) {
        let start = Instant::now();
        let mut pace = Pace::new(start, INTERVAL);
        assert_eq!(pace.left(start), INTERVAL, "nothing has come");
        // Right at a beat: the next one is an interval from here.
        pace.begin(start + INTERVAL, Beat { interval, watermark_delay: Duration::ZERO }, at_ms(20));
        (start + INTERVAL, pace)
    }

    fn at_ms(ms: i64) -> EventTime {
        EventTime::from_millis(ms)
    }

    #[test]
    fn workers_commit_at_the_same_times_right_after_windows_can_close() {
        let beat = Beat { interval: INTERVAL, watermark_delay: Duration::from_millis(2_030) };
        let after = |ms| beat.after(at_ms(ms)).as_millis();
        let window_end = 1_800_000_000_000;
        let closable = window_end + 2_030;
        assert_eq!(after(closable), 20, "what tells of its end has time to arrive");
        assert_eq!(after(closable + 19), 1);
        assert_eq!(after(closable + 20), 100);
        assert_eq!(after(closable + 119), 1);
        assert_eq!(after(closable - 79), 99);
        assert_eq!(beat.after(EventTime(i64::MIN)).cmp(&INTERVAL), Ordering::Less, "whatever the clock says");
    }

    #[test]
    fn a_backlog_is_taken_for_longer() {
        let left = |interval| {
            let (start, mut pace) = begun(interval);
            pace.took(1_024);
            pace.left(start)
        };
        assert_eq!(left(INTERVAL), BACKLOG_GATHER);
        assert_eq!(left(BACKLOG_GATHER * 2), BACKLOG_GATHER * 2, "never shorter than the interval");
    }

    #[test]
    fn who_has_come_to_the_end_waits_no_longer_than_the_interval() {
        let (start, mut pace) = begun(INTERVAL);
        pace.took(1_024);
        pace.took(1_023);
        assert_eq!(pace.left(start), INTERVAL);
        pace.took(1_024);
        assert_eq!(pace.left(start), INTERVAL, "a record that came before must not wait for more of them");
        assert_eq!(pace.left(start + INTERVAL * 2), Duration::ZERO);
    }
}
