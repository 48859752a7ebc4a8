//! Event time: when a thing happened at the producer, in microseconds since the Unix epoch, UTC.

mod utc;

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};
use std::{borrow::Cow, fmt, time::Duration};

/// Microseconds since the Unix epoch. Written as RFC 3339 in UTC with `Z`; the fraction has 0, 3 or 6 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventTime(pub i64);

impl EventTime {
    pub fn from_millis(ms: i64) -> Self {
        Self(ms.saturating_mul(1000))
    }

    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since the epoch, rounded down.
    pub fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Reads RFC 3339 with any offset; digits below a microsecond are dropped.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(time) = Self::parse_utc(text.as_bytes()) {
            return Some(time);
        }
        let time = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
        // Beyond, it could not be written so that it is read again.
        (0..=9999).contains(&time.year()).then(|| Self(time.timestamp_micros()))
    }

    /// Reads the form that nearly every producer sends, `YYYY-MM-DDTHH:MM:SS[.fraction]Z`, and no other.
    pub fn parse_utc(text: &[u8]) -> Option<Self> {
        utc::parse(text)
    }

    /// Whether [`Self::parse_utc`] reads it, which is less work.
    pub fn is_utc(text: &[u8]) -> bool {
        utc::is_time(text)
    }

    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl From<DateTime<Utc>> for EventTime {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.timestamp_micros())
    }
}

impl From<EventTime> for DateTime<Utc> {
    /// Times beyond chrono's range (about the year 262,000) become its nearest end.
    fn from(time: EventTime) -> Self {
        let end = if time.0 < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
        DateTime::from_timestamp_micros(time.0).unwrap_or(end)
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&DateTime::<Utc>::from(*self).to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

impl Serialize for EventTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

/// Reads the text where it lies.
struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = EventTime;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an RFC 3339 time")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<EventTime, E> {
        EventTime::parse(text).ok_or_else(|| E::custom(format!("`{text}` is not an RFC 3339 time")))
    }
}

impl JsonSchema for EventTime {
    fn schema_name() -> Cow<'static, str> {
        "EventTime".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "RFC 3339 with any offset; digits below a microsecond are dropped."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_utc_with_as_many_digits_as_needed() {
        let show = |text| EventTime::parse(text).map(|t| t.to_string());
        assert_eq!(show("2026-01-10T00:00:00+01:00").as_deref(), Some("2026-01-09T23:00:00Z"));
        assert_eq!(show("2026-01-10T00:00:00.12Z").as_deref(), Some("2026-01-10T00:00:00.120Z"));
        assert_eq!(show("2026-01-10T00:00:00.123456789Z").as_deref(), Some("2026-01-10T00:00:00.123456Z"));
        assert_eq!(show("2026-01-10"), None);
    }

    #[test]
    fn what_is_read_can_be_written_and_read_again() {
        for text in ["9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00+01:00"] {
            assert_eq!(EventTime::parse(text), None, "{text}");
        }
        for text in ["9999-12-31T23:59:59.999999Z", "0000-01-01T00:00:00Z", "2026-01-10T00:00:00.5+01:00"] {
            let time = EventTime::parse(text);
            assert!(
                time.is_some() && time == EventTime::parse(&time.map(|t| t.to_string()).unwrap_or_default()),
                "{text}"
            );
        }
    }

    #[test]
    fn millis_round_down_before_the_epoch_too() {
        assert_eq!(EventTime(-1).as_millis(), -1);
        assert_eq!(EventTime(1999).as_millis(), 1);
    }
}
