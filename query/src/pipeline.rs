//! How far the records of each raw partition have come: the log's end, and the offset that each stage has reached; and
//! where event time stands, and why. Pure; [`groups`] asks the brokers, [`monitor`] puts it together.

pub mod groups;
pub mod meters;
pub mod monitor;

use crate::{reach::Reach, tail::End};
use groups::Committed;
use millrace_schemas::{EventTime, progress::Progress};
use serde::Serialize;
use std::time::Duration;

/// The whole pipeline at one time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pipeline {
    /// The `metrics` topic.
    pub topic: String,
    pub watermark: Watermark,
    /// All partitions together; null where a partition's is not known.
    pub lag: Stages,
    pub partitions: Vec<Partition>,
}

/// A number of each stage; null where it is not known, and for the archive where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stages {
    /// Judged, and combined into partial states.
    pub combine: Option<i64>,
    /// In rows that have been emitted.
    pub windows: Option<i64>,
    /// In rows that have been stored.
    pub sink: Option<i64>,
    /// In archived files.
    pub archive: Option<i64>,
}

/// One partition of the `metrics` topic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Partition {
    pub partition: i32,
    /// One past its last record, at most a second ago.
    pub log_end: i64,
    /// Next offsets: all records before are done.
    pub reached: Stages,
    /// Offsets from there to the log's end.
    pub lag: Stages,
    /// The highest event time that windows know of.
    pub max_event_time: Option<EventTime>,
    pub watermark: Watermark,
    /// When its newest record came, by the log's clock; null if there is none among those read back at start.
    pub last_record_at: Option<EventTime>,
    /// That long ago, by the clock of this service.
    pub active_ms_ago: Option<i64>,
}

/// Event time has come so far, and no record before it is expected any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Watermark {
    /// Null until it is known.
    pub time: Option<EventTime>,
    pub reason: Reason,
}

/// Why a watermark stands where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Of a partition: its highest event time less the delay. Of the pipeline: that of the slowest active partition.
    Active,
    /// The partition is idle, so it goes with the others.
    Idle,
    /// All partitions are idle: the wall clock less the delay.
    WallClock,
    /// A partition has not told anything yet, and nothing is known of its records.
    Unknown,
}

/// What a [`Pipeline`] is made of.
pub struct Parts<'a> {
    pub topic: &'a str,
    pub ends: &'a [End],
    pub reach: &'a Reach,
    pub combine: &'a Committed,
    pub archive: &'a Committed,
    pub now: EventTime,
}

/// One raw partition as all the windows' records together tell it.
#[derive(Clone, Copy)]
struct Source {
    max_event_time: Option<EventTime>,
    idle: bool,
}

impl Pipeline {
    pub fn of(parts: &Parts<'_>) -> Self {
        let told = parts.reach.newest();
        let sources: Vec<Option<Source>> =
            (0..parts.ends.len()).map(|number| source(&told, number)).collect();
        let delay = told.iter().map(|progress| progress.watermark_delay_ms).max().unwrap_or(0);
        let clock = Clock { now: parts.now, delay: Duration::from_millis(delay) };
        let watermark = clock.pipeline(&told, &sources);
        let partitions: Vec<Partition> = (0_i32..)
            .zip(parts.ends)
            .zip(&sources)
            .map(|((number, end), source)| {
                partition(parts, number, *end, clock.partition(*source, watermark))
            })
            .collect();
        let sum =
            |of: fn(&Stages) -> Option<i64>| partitions.iter().map(|partition| of(&partition.lag)).sum();
        let lag = Stages {
            combine: sum(|lag| lag.combine),
            windows: sum(|lag| lag.windows),
            sink: sum(|lag| lag.sink),
            archive: sum(|lag| lag.archive),
        };
        Self { topic: parts.topic.to_owned(), watermark, lag, partitions }
    }
}

fn partition(
    parts: &Parts<'_>,
    number: i32,
    end: End,
    (max_event_time, watermark): (Option<EventTime>, Watermark),
) -> Partition {
    // Nobody commits anything of a partition that never had a record.
    let committed =
        |committed: &Committed| committed.get(&number).copied().or_else(|| (end.offset == 0).then_some(0));
    let reached = Stages {
        combine: committed(parts.combine),
        windows: parts.reach.emitted(number),
        sink: parts.reach.stored(number),
        archive: committed(parts.archive),
    };
    let lag = |reached: Option<i64>| reached.map(|reached| (end.offset - reached).max(0));
    Partition {
        partition: number,
        log_end: end.offset,
        reached,
        lag: Stages {
            combine: lag(reached.combine),
            windows: lag(reached.windows),
            sink: lag(reached.sink),
            archive: lag(reached.archive),
        },
        max_event_time,
        watermark,
        last_record_at: end.newest,
        active_ms_ago: end.newest.map(|newest| (parts.now.as_millis() - newest.as_millis()).max(0)),
    }
}

/// `None` if nobody has told of it. It is idle if all that tell of it say so.
fn source(told: &[Progress], number: usize) -> Option<Source> {
    let each = told.iter().filter_map(|progress| progress.sources.get(number).copied().flatten());
    let each = each.map(|source| Source { max_event_time: source.max_event_time, idle: source.idle });
    each.reduce(|one, other| Source {
        max_event_time: one.max_event_time.max(other.max_event_time),
        idle: one.idle && other.idle,
    })
}

struct Clock {
    now: EventTime,
    delay: Duration,
}

impl Clock {
    /// The watermark of the slowest windows. While all is idle nothing is told, but the wall clock goes on.
    fn pipeline(&self, told: &[Progress], sources: &[Option<Source>]) -> Watermark {
        let count = told.first().map_or(0, |progress| progress.partitions);
        let all_told = usize::try_from(count).is_ok_and(|count| count > 0 && told.len() >= count);
        if !all_told || sources.is_empty() || sources.iter().any(Option::is_none) {
            return Watermark { time: None, reason: Reason::Unknown };
        }
        let time = told.iter().map(|progress| progress.watermark).min().flatten();
        if sources.iter().flatten().all(|source| source.idle) {
            let wall = Some(self.now.saturating_sub(self.delay));
            return Watermark { time: time.max(wall), reason: Reason::WallClock };
        }
        Watermark { time, reason: Reason::Active }
    }

    fn partition(&self, source: Option<Source>, pipeline: Watermark) -> (Option<EventTime>, Watermark) {
        let Some(source) = source else {
            return (None, Watermark { time: None, reason: Reason::Unknown });
        };
        let own = source.max_event_time.map(|time| time.saturating_sub(self.delay));
        let watermark = match (source.idle, pipeline.reason) {
            (false, _) => Watermark { time: own, reason: Reason::Active },
            (true, Reason::WallClock) => pipeline,
            (true, _) => Watermark { time: pipeline.time, reason: Reason::Idle },
        };
        (source.max_event_time, watermark)
    }
}

#[cfg(test)]
mod tests;
