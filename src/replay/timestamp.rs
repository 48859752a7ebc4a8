//! Times as PostgreSQL's log writes them: `2026-11-21 01:47:00.252 UTC`.

use chrono::{Datelike as _, NaiveDateTime, TimeDelta};
use millrace_schemas::EventTime;
use std::ops::RangeInclusive;

/// Names of UTC that tzdata uses. Other abbreviations mean different offsets in different places (`IST`, `CST`).
const UTC_NAMES: [&str; 4] = ["UTC", "GMT", "UCT", "Z"];
/// No server has logged before, and later times can't be written.
const YEARS: RangeInclusive<i32> = 1970..=9999;
const SHOWN_CHARS_MAX: usize = 40;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    #[error("`{0}` is not a log time")]
    Format(String),
    #[error("the time zone `{0}` says no offset for sure: set log_timezone = 'UTC' in postgresql.conf")]
    Zone(String),
}

/// Reads date, time with or without a fraction, and a zone: a name of UTC, or an offset such as `+03` or `-0330`.
pub fn parse(text: &str) -> Result<EventTime, TimestampError> {
    let invalid = || TimestampError::Format(text.chars().take(SHOWN_CHARS_MAX).collect());
    let (local, zone) = text.rsplit_once(' ').ok_or_else(invalid)?;
    let local = NaiveDateTime::parse_from_str(local, "%Y-%m-%d %H:%M:%S%.f").map_err(|_| invalid())?;
    let offset = TimeDelta::minutes(offset_minutes(zone)?);
    let utc = local.checked_sub_signed(offset).ok_or_else(invalid)?.and_utc();
    // A damaged line may have any year; a record of it, or of when it began, would be refused.
    if !YEARS.contains(&utc.year()) {
        return Err(invalid());
    }
    Ok(EventTime(utc.timestamp_micros()))
}

/// Minutes east of UTC.
fn offset_minutes(zone: &str) -> Result<i64, TimestampError> {
    if UTC_NAMES.contains(&zone) {
        return Ok(0);
    }
    numeric_offset(zone).ok_or_else(|| TimestampError::Zone(zone.chars().take(SHOWN_CHARS_MAX).collect()))
}

/// `+03`, `+0530`, `-03:30`.
fn numeric_offset(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = zone[1..].replace(':', "");
    if !matches!(digits.len(), 2 | 4) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let hours: i64 = digits[..2].parse().ok()?;
    let minutes: i64 = if digits.len() == 4 { digits[2..].parse().ok()? } else { 0 };
    (hours <= 15 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, TimestampError> {
        parse(text).map(|time| time.to_string())
    }

    #[test]
    fn utc_and_numeric_offsets_are_read() {
        for (text, expected) in [
            ("2026-11-21 01:47:00.252 UTC", "2026-11-21T01:47:00.252Z"),
            ("2026-11-21 01:47:00 GMT", "2026-11-21T01:47:00Z"),
            ("2026-11-21 01:47:00.252 +03", "2026-11-20T22:47:00.252Z"),
            ("2026-11-21 01:47:00.252 -0330", "2026-11-21T05:17:00.252Z"),
            ("2026-11-21 01:47:00.252 +05:45", "2026-11-20T20:02:00.252Z"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_abbreviation_is_refused_with_the_remedy() {
        let error = parse("2026-11-21 01:47:00.252 CET").expect_err("CET may be summer or winter");
        assert!(error.to_string().contains("log_timezone = 'UTC'"), "{error}");
        for zone in ["+3", "+1é", "+99", "+0099", "é", "IST"] {
            assert!(parse(&format!("2026-11-21 01:47:00 {zone}")).is_err(), "{zone}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let damaged = ["-026-11-21 01:47:00 UTC", "1969-12-31 23:59:59 UTC", "9999-12-31 23:59:59 -01"];
        let others = ["", "UTC", "2026-11-21 UTC", "2026-13-21 01:47:00 UTC", "yesterday at noon UTC"];
        for text in others.into_iter().chain(damaged) {
            assert!(matches!(parse(text), Err(TimestampError::Format(_))), "{text}");
        }
    }
}
