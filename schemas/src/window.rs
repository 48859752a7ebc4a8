//! The tumbling windows that every workspace gets: 5 s, 1 min and 5 min, aligned to the epoch.

use crate::EventTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, time::Duration};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Window {
    #[serde(rename = "5s")]
    FiveSeconds,
    #[serde(rename = "1m")]
    OneMinute,
    #[serde(rename = "5m")]
    FiveMinutes,
}

/// Neither `5s`, `1m` nor `5m`.
#[derive(Debug, thiserror::Error)]
#[error("Invalid window '{0}'. Valid options: 5s, 1m, 5m")]
pub struct InvalidWindow(String);

impl Window {
    /// Smallest first: the first is the bucket of partial states, the others are rolled up from it.
    pub const ALL: [Self; 3] = [Self::FiveSeconds, Self::OneMinute, Self::FiveMinutes];

    pub fn micros(self) -> i64 {
        match self {
            Self::FiveSeconds => 5_000_000,
            Self::OneMinute => 60_000_000,
            Self::FiveMinutes => 300_000_000,
        }
    }

    pub fn duration(self) -> Duration {
        Duration::from_micros(self.micros().unsigned_abs())
    }

    /// The start of the window that holds `time` (inclusive start, exclusive end).
    pub fn start_of(self, time: EventTime) -> EventTime {
        EventTime(time.0.div_euclid(self.micros()).saturating_mul(self.micros()))
    }

    pub fn end_of(self, start: EventTime) -> EventTime {
        EventTime(start.0.saturating_add(self.micros()))
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::FiveSeconds => "5s",
            Self::OneMinute => "1m",
            Self::FiveMinutes => "5m",
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Window {
    type Err = InvalidWindow;
    fn from_str(text: &str) -> Result<Self, InvalidWindow> {
        Self::ALL.into_iter().find(|w| w.as_str() == text).ok_or_else(|| InvalidWindow(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_aligned_to_the_epoch_before_it_too() {
        assert_eq!(Window::FiveSeconds.start_of(EventTime(4_999_999)), EventTime(0));
        assert_eq!(Window::FiveSeconds.start_of(EventTime(5_000_000)), EventTime(5_000_000));
        assert_eq!(Window::OneMinute.start_of(EventTime(-1)), EventTime(-60_000_000));
    }

    #[test]
    fn names_round_trip() {
        for window in Window::ALL {
            assert_eq!(window.to_string().parse::<Window>().ok(), Some(window));
        }
        assert!("2m".parse::<Window>().is_err());
    }
}
