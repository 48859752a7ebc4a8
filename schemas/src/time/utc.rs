//! The fast path for the form that nearly every producer sends: `YYYY-MM-DDTHH:MM:SS[.fraction]Z`. Whatever else there is
//! (offsets, leap seconds, small letters) is left to chrono.

use super::EventTime;

/// Eight bytes at a time, each as it is written with zeros for digits.
const DATE: &[u8; 8] = b"0000-00-";
const DAY: &[u8; 8] = b"00T00:00";
const TIME: &[u8; 8] = b"00:00:00";
const MICROS: &[u8; 8] = b".000000Z";

/// `None` where the text is of another form or no time; the caller asks chrono then.
pub(super) fn parse(text: &[u8]) -> Option<EventTime> {
    let (date, micros) = read(text)?;
    Some(EventTime(days_from_epoch(date) * 86_400_000_000 + micros))
}

/// Whether [`parse`] takes it.
pub(super) fn is_time(text: &[u8]) -> bool {
    read(text).is_some()
}

struct Date {
    year: u32,
    month: u32,
    day: u32,
}

/// A day that there is, and the microseconds since it began.
fn read(text: &[u8]) -> Option<(Date, i64)> {
    let (seconds, rest) = text.split_first_chunk::<19>()?;
    let (date, day, time) = (
        pairs(seconds.first_chunk()?, DATE)?,
        pairs(seconds[8..].first_chunk()?, DAY)?,
        pairs(seconds.last_chunk()?, TIME)?,
    );
    let (hour, minute, second) = (time[0], time[3], time[6]);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let day_seconds = (i64::from(hour) * 60 + i64::from(minute)) * 60 + i64::from(second);
    let year = u32::from(date[0]) * 100 + u32::from(date[2]);
    let date = Date { year, month: u32::from(date[5]), day: u32::from(day[0]) };
    date.exists().then_some((date, day_seconds * 1_000_000 + fraction(rest)?))
}

impl Date {
    fn exists(&self) -> bool {
        let leap =
            self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let days = match self.month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 => 28 + u32::from(leap),
            _ => 0,
        };
        (1..=days).contains(&self.day)
    }
}

/// Microseconds of `.123…Z` or `Z`; digits below are dropped.
fn fraction(rest: &[u8]) -> Option<i64> {
    if let Ok(rest) = rest.try_into()
        && let Some(micros) = pairs(rest, MICROS)
    {
        return Some(i64::from(micros[1]) * 10_000 + i64::from(micros[3]) * 100 + i64::from(micros[5]));
    }
    let digits = match rest {
        b"Z" => return Some(0),
        [b'.', digits @ .., b'Z'] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return None,
    };
    let micros = digits.iter().chain(std::iter::repeat(&b'0')).take(6);
    Some(micros.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
}

/// The number that each byte and the next one are, where the text is of this form: digits for zeros, and all else the same.
fn pairs(text: &[u8; 8], form: &[u8; 8]) -> Option<[u8; 8]> {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    // What must be added to the largest byte that is allowed, until just below the high bit.
    let room = u64::from_le_bytes(form.map(|byte| if byte == b'0' { 0x7f - 9 } else { 0x7f }));
    let digits = u64::from_le_bytes(*text) ^ u64::from_le_bytes(*form);
    let valid = (digits | digits.wrapping_add(room)) & HIGH_BITS == 0;
    valid.then(|| (digits * 10 + (digits >> 8)).to_le_bytes())
}

/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`, for the years 0 to 9999: counted from
/// an era earlier, so that nothing is negative.
fn days_from_epoch(Date { year, month, day }: Date) -> i64 {
    let year = year + 400 - u32::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    i64::from(era * 146_097 + day_of_era) - 146_097 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use proptest::prelude::*;

    /// Whatever the fast path takes, chrono reads the same.
    fn agree(text: &str) {
        assert_eq!(is_time(text.as_bytes()), parse(text.as_bytes()).is_some());
        if let Some(fast) = parse(text.as_bytes()) {
            let slow = DateTime::parse_from_rfc3339(text).map(|time| EventTime(time.timestamp_micros()));
            assert_eq!(slow, Ok(fast), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reads_as_chrono_does(
            year in 0_u32..=9999, month in 0_u32..14, day in 0_u32..33, hour in 0_u32..26, minute in 0_u32..62,
            second in 0_u32..62, fraction in "(\\.[0-9]{0,10})?", zone in prop::sample::select(&["Z", "z", "+01:00", ""][..]),
        ) {
            agree(&format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}"));
        }

        #[test]
        fn never_panics(text in "\\PC{0,30}") {
            agree(&text);
        }
    }

    #[test]
    fn takes_the_common_form() {
        assert_eq!(parse(b"1970-01-01T00:00:01.5Z"), Some(EventTime(1_500_000)));
        assert_eq!(parse(b"2024-02-29T23:59:59.123456789Z"), Some(EventTime(1_709_251_199_123_456)));
        assert_eq!(parse(b"2023-02-29T00:00:00Z"), None);
        for day in ["0000-01-01", "0000-02-29", "0000-03-01", "1969-12-31", "9999-12-31"] {
            let text = format!("{day}T00:00:00Z");
            assert!(parse(text.as_bytes()).is_some(), "{text}");
            agree(&text);
        }
    }
}
