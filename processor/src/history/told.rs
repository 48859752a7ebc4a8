//! What the windows stage told last, and what follows from it: up to which event time windows have left its memory, and
//! whether all records before given offsets are in rows. [`Told`] is pure.

use super::{History, ends::bounds};
use crate::stage::{StageError, past::Range};
use millrace_log::NextOffset;
use millrace_schemas::{EventTime, progress::Progress};
use rdkafka::Message as _;
use std::{collections::BTreeMap, time::Duration};

/// How many offsets are read back: a commit takes two, and several partitions may share one of the topic.
const READ_BACK: i64 = 2_000;

/// What the processor has unless it is told otherwise.
const LATE_HORIZON_DEFAULT: Duration = Duration::from_secs(60);

/// By `partials` partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Told(pub BTreeMap<i32, Progress>);

impl History {
    pub(crate) fn told(&self) -> Result<Told, StageError> {
        let topic = self.log.topics().progress;
        let (mut told, mut past) = (Told::default(), self.past()?);
        for (partition, bounds) in (0..).zip(bounds(&past, &topic)?) {
            let from = bounds.low.max(NextOffset::exclusive(bounds.end.get() - READ_BACK));
            let range = Range { topic: &topic, partition, from, to: bounds.end };
            past.scan::<StageError>(range, &self.shutdown, |message| {
                // What is no progress is somebody else's garbage.
                if let Ok(progress) = Progress::read(message.payload().unwrap_or_default()) {
                    told.0.insert(progress.partition, progress);
                }
                Ok(())
            })?;
        }
        Ok(told)
    }
}

/// Why a range can't be rebuilt yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLeft {
    #[error("the processor has not told anything of partition {0} yet: is it running?")]
    Unknown(i32),
    #[error(
        "the watermark of partition {partition} stands at {watermark}: windows stay in the processor's memory for its late horizon of {} s after that, so --to can be {latest} at the latest",
        horizon.as_secs()
    )]
    Later { partition: i32, watermark: EventTime, horizon: Duration, latest: EventTime },
}

impl Told {
    fn all(&self) -> impl Iterator<Item = Result<&Progress, NotLeft>> {
        let count = self.0.values().map(|progress| progress.partitions).max().unwrap_or(1);
        (0..count).map(|number| self.0.get(&number).ok_or(NotLeft::Unknown(number)))
    }

    /// Windows that end at `to` or before must have left the memory of the windows stage: then only deltas come for them.
    /// For how long it holds them the stage tells itself; `given` counts where it is longer, or an older build told nothing.
    pub(crate) fn has_left(&self, to: EventTime, given: Option<Duration>) -> Result<(), NotLeft> {
        let horizon = self.horizon(given);
        for progress in self.all() {
            let progress = progress?;
            let watermark = progress.watermark.ok_or(NotLeft::Unknown(progress.partition))?;
            let left = watermark.saturating_sub(horizon);
            if to > left {
                let latest = millrace_schemas::Window::FiveMinutes.start_of(self.least_left(horizon, left));
                return Err(NotLeft::Later { partition: progress.partition, watermark, horizon, latest });
            }
        }
        Ok(())
    }

    /// The longest that any tells: partitions may move to who holds windows longer.
    pub(crate) fn horizon(&self, given: Option<Duration>) -> Duration {
        let told = self.0.values().filter_map(|progress| progress.late_horizon_ms).max();
        told.map(Duration::from_millis).max(given).unwrap_or(LATE_HORIZON_DEFAULT)
    }

    fn least_left(&self, horizon: Duration, known: EventTime) -> EventTime {
        let watermarks = self.0.values().filter_map(|progress| progress.watermark);
        watermarks.map(|watermark| watermark.saturating_sub(horizon)).min().unwrap_or(known)
    }

    /// Up to where the sink must have stored each partition of rows, so that all records before `wanted` (by raw
    /// partition) are in them; `None` while they aren't emitted.
    pub(crate) fn rows_with(&self, wanted: &[i64]) -> Option<BTreeMap<i32, i64>> {
        let rows = |progress: &Progress| {
            let emitted = |number: usize| progress.sources.get(number).copied().flatten()?.emitted;
            let all = wanted
                .iter()
                .enumerate()
                .all(|(number, next)| *next == 0 || emitted(number).is_some_and(|emitted| emitted >= *next));
            if all { progress.aggregates } else { None }
        };
        self.all().map(|progress| progress.ok().and_then(|p| Some((p.partition, rows(p)?)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_schemas::progress::{Source, VERSION};

    fn at(minute: i64) -> EventTime {
        EventTime(minute * 60_000_000)
    }

    fn progress(partition: i32, watermark: Option<i64>, emitted: i64) -> (i32, Progress) {
        let source = Source { taken: None, emitted: Some(emitted), max_event_time: None, idle: false };
        let progress = Progress {
            version: VERSION,
            partition,
            partitions: 2,
            position: 0,
            aggregates: Some(i64::from(partition) + 70),
            watermark: watermark.map(at),
            watermark_delay_ms: 2_000,
            late_horizon_ms: None,
            sources: vec![Some(source), None],
        };
        (partition, progress)
    }

    #[test]
    fn a_range_has_left_when_it_has_left_every_partition() {
        let told = Told([progress(0, Some(30), 1), progress(1, Some(21), 1)].into());
        let horizon = Some(Duration::from_secs(60));
        assert_eq!(told.has_left(at(20), horizon), Ok(()));
        let Err(NotLeft::Later { partition, latest, .. }) = told.has_left(at(25), horizon) else {
            panic!("partition 1 holds it")
        };
        assert_eq!((partition, latest), (1, at(20)));
        let unknown = Told([progress(0, Some(30), 1)].into());
        assert_eq!(unknown.has_left(at(20), horizon), Err(NotLeft::Unknown(1)));
        let silent = Told([progress(0, None, 1), progress(1, Some(30), 1)].into());
        assert_eq!(silent.has_left(at(20), horizon), Err(NotLeft::Unknown(0)));
        assert_eq!(Told::default().has_left(at(0), horizon), Err(NotLeft::Unknown(0)));
    }

    #[test]
    fn what_the_processor_tells_of_its_memory_counts_unless_more_is_given() {
        let told = |minutes: Option<u64>| {
            let (number, progress) = progress(0, Some(30), 1);
            let late_horizon_ms = minutes.map(|minutes| minutes * 60_000);
            Told([(number, Progress { partitions: 1, late_horizon_ms, ..progress })].into())
        };
        let minutes = |minutes: u64| Some(Duration::from_secs(minutes * 60));
        let left = |told: Told, to, given| told.has_left(at(to), given).is_ok();
        assert!(left(told(Some(10)), 20, None) && !left(told(Some(10)), 21, None));
        assert!(!left(told(Some(10)), 21, minutes(1)), "a smaller one that is given");
        assert!(!left(told(Some(10)), 20, minutes(11)) && left(told(Some(10)), 19, minutes(11)));
        assert!(left(told(None), 20, minutes(10)) && !left(told(None), 21, minutes(10)));
        assert!(left(told(None), 29, None) && !left(told(None), 30, None), "the default");
    }

    #[test]
    fn records_are_in_rows_when_every_partition_says_so() {
        let told = Told([progress(0, None, 9), progress(1, None, 5)].into());
        assert_eq!(told.rows_with(&[5, 0]), Some([(0, 70), (1, 71)].into()));
        assert_eq!(told.rows_with(&[6, 0]), None, "partition 1 is behind");
        assert_eq!(told.rows_with(&[5, 1]), None, "of the second nothing was told");
        assert_eq!(Told([progress(0, None, 9)].into()).rows_with(&[5]), None, "partition 1 is not known");
    }
}
