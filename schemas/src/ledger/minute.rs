//! The minute in which the log got a record.

use crate::EventTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const MICROS: i64 = 60_000_000;

/// A whole minute by the log's clock, written as the time at which it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "EventTime", into = "EventTime")]
#[schemars(with = "EventTime")]
pub struct Minute(EventTime);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not the beginning of a minute")]
pub struct NoMinute(EventTime);

impl Minute {
    pub const LENGTH: Duration = Duration::from_secs(60);

    /// The one that `time` lies in.
    pub fn of(time: EventTime) -> Self {
        Self(EventTime(time.as_micros().div_euclid(MICROS).saturating_mul(MICROS)))
    }

    /// Inclusive.
    pub fn start(self) -> EventTime {
        self.0
    }

    /// Exclusive.
    pub fn end(self) -> EventTime {
        self.0.saturating_add(Self::LENGTH)
    }
}

impl TryFrom<EventTime> for Minute {
    type Error = NoMinute;

    fn try_from(time: EventTime) -> Result<Self, NoMinute> {
        let minute = Self::of(time);
        if minute.0 == time { Ok(minute) } else { Err(NoMinute(time)) }
    }
}

impl From<Minute> for EventTime {
    fn from(minute: Minute) -> Self {
        minute.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_its_beginning_and_not_its_end() {
        let time = |text| EventTime::parse(text).expect("a time");
        let minute = Minute::of(time("2026-11-21T10:05:59.999999Z"));
        assert_eq!(minute.start(), time("2026-11-21T10:05:00Z"));
        assert_eq!(Minute::of(minute.start()), minute);
        assert_ne!(Minute::of(minute.end()), minute);
        assert_eq!(Minute::of(EventTime(-1)).start(), EventTime(-MICROS));
    }

    #[test]
    fn is_read_only_if_it_is_whole() {
        let read = |text| serde_json::from_str::<Minute>(text);
        let minute = read(r#""2026-11-21T10:05:00Z""#).expect("a minute");
        assert_eq!(serde_json::to_string(&minute).expect("plain data"), r#""2026-11-21T10:05:00Z""#);
        assert!(read(r#""2026-11-21T10:05:01Z""#).is_err());
    }
}
