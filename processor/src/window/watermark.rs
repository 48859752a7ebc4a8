//! The watermark: how far event time has certainly come, computed from what every source partition has told.

use super::Checkpoint;
use millrace_schemas::{EventTime, partial::Header};
use std::time::Duration;

/// What is known of one raw partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Highest event time; absent where it never had a record.
    pub max_event_time: Option<EventTime>,
    pub idle: bool,
}

/// Minimum over active sources of (highest event time - delay); when all are idle, the wall clock - delay. It never goes
/// back. A source that has not told anything yet holds it: nothing is known of its records.
#[derive(Clone, Debug)]
pub struct Watermark {
    delay: Duration,
    current: Option<EventTime>,
    sources: Vec<Option<Source>>,
}

impl Watermark {
    pub fn new(delay: Duration) -> Self {
        Self { delay, current: None, sources: Vec::new() }
    }

    pub(super) fn resume(&mut self, checkpoint: &Checkpoint) {
        self.current = checkpoint.watermark;
        self.sources.clone_from(&checkpoint.sources);
    }

    pub(super) fn observe(&mut self, header: &Header) {
        let sources = usize::try_from(header.sources).unwrap_or(0);
        if sources > self.sources.len() {
            self.sources.resize(sources, None);
        }
        for progress in &header.progress {
            let Some(slot) = usize::try_from(progress.partition).ok().and_then(|at| self.sources.get_mut(at))
            else {
                continue;
            };
            let before = slot.and_then(|source| source.max_event_time);
            *slot = Some(Source { max_event_time: before.max(progress.max_event_time), idle: progress.idle });
        }
    }

    /// Moves on as far as the sources allow, but not past `limit`; whether it has moved.
    pub(super) fn advance(&mut self, now: EventTime, limit: Option<EventTime>) -> bool {
        let allowed = self.allowed(now).map(|allowed| limit.map_or(allowed, |limit| allowed.min(limit)));
        let before = self.current;
        self.current = before.max(allowed);
        self.current != before
    }

    fn allowed(&self, now: EventTime) -> Option<EventTime> {
        if self.sources.is_empty() {
            return None;
        }
        let sources = self.sources.iter().copied().collect::<Option<Vec<Source>>>()?;
        let active: Vec<_> = sources.iter().filter(|source| !source.idle).collect();
        let newest = match active.iter().map(|source| source.max_event_time).min() {
            Some(slowest) => slowest?,
            None => now,
        };
        Some(newest.saturating_sub(self.delay))
    }

    pub fn current(&self) -> Option<EventTime> {
        self.current
    }

    pub fn sources(&self) -> &[Option<Source>] {
        &self.sources
    }

    pub fn has_passed(&self, time: EventTime) -> bool {
        self.current.is_some_and(|current| current >= time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_schemas::partial::Progress;

    fn at(second: i64) -> EventTime {
        EventTime(second * 1_000_000)
    }

    fn tell(watermark: &mut Watermark, partition: i32, max: Option<i64>, idle: bool) {
        let progress = Progress { partition, next_offset: 0, max_event_time: max.map(at), idle };
        watermark.observe(&Header { sources: 2, progress: vec![progress], oldest_arrival: None });
        watermark.advance(at(1000), None);
    }

    #[test]
    fn stops_at_the_limit_and_says_whether_it_moved() {
        let mut watermark = Watermark::new(Duration::from_secs(2));
        tell(&mut watermark, 0, None, true);
        tell(&mut watermark, 1, None, true);
        assert_eq!(watermark.current(), Some(at(998)));
        assert!(!watermark.advance(at(2000), Some(at(5))), "it never goes back");
        assert!(watermark.advance(at(2000), Some(at(1500))));
        assert_eq!(watermark.current(), Some(at(1500)));
    }

    #[test]
    fn waits_for_the_slowest_active_source_and_for_those_never_heard_of() {
        let mut watermark = Watermark::new(Duration::from_secs(2));
        tell(&mut watermark, 0, Some(100), false);
        assert_eq!(watermark.current(), None);
        tell(&mut watermark, 1, Some(50), false);
        assert_eq!(watermark.current(), Some(at(48)));
        tell(&mut watermark, 1, Some(200), false);
        assert_eq!(watermark.current(), Some(at(98)));
    }

    #[test]
    fn idle_sources_leave_the_minimum_and_the_wall_clock_closes_when_all_are() {
        let mut watermark = Watermark::new(Duration::from_secs(2));
        tell(&mut watermark, 0, Some(100), false);
        tell(&mut watermark, 1, None, true);
        assert_eq!(watermark.current(), Some(at(98)));
        tell(&mut watermark, 0, None, true);
        assert_eq!(watermark.current(), Some(at(998)));
    }

    #[test]
    fn never_goes_back_and_an_active_source_without_records_holds_it() {
        let mut watermark = Watermark::new(Duration::from_secs(2));
        tell(&mut watermark, 0, Some(100), true);
        tell(&mut watermark, 1, None, true);
        assert_eq!(watermark.current(), Some(at(998)));
        tell(&mut watermark, 1, None, false);
        assert_eq!(watermark.current(), Some(at(998)));
        tell(&mut watermark, 1, Some(10), false);
        assert_eq!(watermark.current(), Some(at(998)));
    }
}
