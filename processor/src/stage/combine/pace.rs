//! When a chunk of records ends by the clock. Pure: time is an argument.

use millrace_schemas::EventTime;
use std::time::{Duration, Instant};

/// So long after its time the record has come here that lets a window close, where producers are near: it is in time for the
/// beat.
const ARRIVAL: Duration = Duration::from_millis(20);

/// Of a backlog records are taken for so long: a transaction has its price, here and in the brokers, however many it is of.
/// A worker seldom comes to the most records of a chunk meanwhile.
const BACKLOG_GATHER: Duration = Duration::from_millis(300);
/// Where fewer are there at once the end is near.
const BACKLOG_RECORDS: usize = 1_024;

/// The times of the clock at which all workers commit: an interval lies between them. A window closes once every partition
/// has a committed record from the watermark's delay after its end; where the interval divides 5 s, a beat follows at once.
#[derive(Clone, Copy)]
pub(super) struct Beat {
    pub interval: Duration,
    pub watermark_delay: Duration,
}

impl Beat {
    /// How long it is until the next: never longer than the interval, and never nothing.
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
    /// Of the chunk before: of the first nobody knows.
    was_backlog: bool,
    /// There has always been more to take.
    is_backlog: bool,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { end: now, end_in_backlog: now, was_backlog: false, is_backlog: false }
    }

    /// The next chunk. Where no record comes it ends after `idle`.
    pub(super) fn next(&mut self, now: Instant, idle: Duration) {
        let end = now + idle;
        *self = Self { end, end_in_backlog: end, was_backlog: self.is_backlog, is_backlog: false };
    }

    /// The first records have come, when the clock said so.
    pub(super) fn begin(&mut self, now: Instant, beat: Beat, clock: EventTime) {
        let gather = if self.was_backlog { beat.interval.max(BACKLOG_GATHER) } else { Duration::ZERO };
        self.end = now + beat.after(clock);
        self.end_in_backlog = self.end.max(now + gather);
        self.is_backlog = true;
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
    const IDLE: Duration = Duration::from_millis(90);
    /// From [`CLOCK`] to the next beat.
    const TO_BEAT: Duration = Duration::from_millis(70);
    const CLOCK: EventTime = EventTime(50_000);

    /// A chunk has begun after one of a backlog or of none; the next beat is `to_beat` away.
    fn begun(was_backlog: bool, interval: Duration, to_beat: Duration) -> (Instant, Pace) {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let beat = Beat { interval, watermark_delay: Duration::ZERO };
        pace.next(start, IDLE);
        assert_eq!(pace.left(start), IDLE, "nothing has come");
        pace.begin(start, beat, CLOCK);
        pace.took(if was_backlog { 1_024 } else { 1_023 });
        assert_eq!(pace.left(start), to_beat, "whether it is a backlog is seen at its end");
        pace.next(start, IDLE);
        assert_eq!(pace.left(start), IDLE, "nothing has come");
        pace.begin(start, beat, CLOCK);
        (start, pace)
    }

    #[test]
    fn workers_commit_at_the_same_times_right_after_windows_can_close() {
        let beat = Beat { interval: INTERVAL, watermark_delay: Duration::from_millis(2_030) };
        let after = |ms| beat.after(EventTime::from_millis(ms)).as_millis();
        let window_end = 1_800_000_000_000;
        let closable = window_end + 2_030;
        assert_eq!(after(closable), 20, "what tells of it has time to arrive");
        assert_eq!(after(closable + 19), 1);
        assert_eq!(after(closable + 20), 100);
        assert_eq!(after(closable + 119), 1);
        assert_eq!(after(closable - 79), 99);
        assert!(beat.after(EventTime(i64::MIN)) <= INTERVAL, "whatever the clock says");
    }

    #[test]
    fn a_backlog_is_taken_for_longer() {
        let left = |was_backlog, interval, to_beat| {
            let (start, mut pace) = begun(was_backlog, interval, to_beat);
            pace.took(1_024);
            pace.left(start)
        };
        assert_eq!(left(true, INTERVAL, TO_BEAT), BACKLOG_GATHER);
        assert_eq!(left(false, INTERVAL, TO_BEAT), TO_BEAT, "after what was none");
        let long = Duration::from_millis(600);
        assert_eq!(left(true, long, Duration::from_millis(570)), long, "never shorter than the interval");
    }

    #[test]
    fn who_has_come_to_the_end_waits_no_longer_than_the_interval() {
        let (start, mut pace) = begun(true, INTERVAL, TO_BEAT);
        pace.took(1_024);
        pace.took(1_023);
        assert_eq!(pace.left(start), TO_BEAT);
        pace.took(1_024);
        assert_eq!(pace.left(start), TO_BEAT, "a record that came before must not wait for more of them");
        assert_eq!(pace.left(start + INTERVAL * 2), Duration::ZERO);
    }
}
