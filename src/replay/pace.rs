//! When each record is due, so that a replay is as fast as the log was, or so many times faster. Pure.

use crate::replay::settings::Speed;
use millrace_schemas::EventTime;
use std::time::{Duration, Instant};

pub struct Pacer {
    speed: Speed,
    first: Option<(EventTime, Instant)>,
}

impl Pacer {
    pub fn new(speed: Speed) -> Self {
        Self { speed, first: None }
    }

    /// How long a record of `time` has still to wait at `now`. The first sets the clock and waits for nothing.
    pub fn wait(&mut self, time: EventTime, now: Instant) -> Duration {
        let Some(factor) = self.speed.0 else { return Duration::ZERO };
        let (first_time, started) = *self.first.get_or_insert((time, now));
        let micros = u64::try_from(time.as_micros().saturating_sub(first_time.as_micros())).unwrap_or(0);
        let due = Duration::from_micros(micros).div_f64(factor);
        due.saturating_sub(now.saturating_duration_since(started))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: EventTime = EventTime(1_000_000);

    #[test]
    fn the_time_between_records_is_kept_or_shortened() {
        let now = Instant::now();
        let later = EventTime(START.0 + 20_000_000);
        for (factor, wait_s) in [(1.0, 15), (2.0, 5), (10.0, 0)] {
            let mut pacer = Pacer::new(Speed(Some(factor)));
            assert_eq!(pacer.wait(START, now), Duration::ZERO);
            assert_eq!(pacer.wait(later, now + Duration::from_secs(5)), Duration::from_secs(wait_s));
        }
    }

    #[test]
    fn what_is_out_of_order_or_unpaced_does_not_wait() {
        let now = Instant::now();
        let mut pacer = Pacer::new(Speed(Some(1.0)));
        pacer.wait(START, now);
        assert_eq!(pacer.wait(EventTime(0), now), Duration::ZERO);
        let mut unpaced = Pacer::new(Speed(None));
        unpaced.wait(START, now);
        assert_eq!(unpaced.wait(EventTime(i64::MAX), now), Duration::ZERO);
    }
}
