//! The fast path for the form that nearly every producer sends: `YYYY-MM-DDTHH:MM:SS[.fraction]Z`. Whatever else there is
//! (offsets, leap seconds, small letters) is left to chrono.

use super::EventTime;

/// `None` where the text is of another form or no time; the caller asks chrono then.
pub(super) fn parse(text: &[u8]) -> Option<EventTime> {
    let (seconds, rest) = text.split_first_chunk::<19>()?;
    let date = (number(&seconds[0..4])?, number(&seconds[5..7])?, number(&seconds[8..10])?);
    let (hour, minute, second) =
        (number(&seconds[11..13])?, number(&seconds[14..16])?, number(&seconds[17..19])?);
    let separators = [seconds[4], seconds[7], seconds[10], seconds[13], seconds[16]];
    if separators != *b"--T::" || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let day_seconds = i64::from((hour * 60 + minute) * 60 + second);
    Some(EventTime((days_from_epoch(date)? * 86_400 + day_seconds) * 1_000_000 + fraction(rest)?))
}

/// Microseconds of `.123…Z` or `Z`; digits below are dropped.
fn fraction(rest: &[u8]) -> Option<i64> {
    let digits = match rest {
        b"Z" => return Some(0),
        [b'.', digits @ .., b'Z'] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return None,
    };
    let micros = digits.iter().chain(std::iter::repeat(&b'0')).take(6);
    Some(micros.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0')))
}

/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`, for the years 0 to 9999: counted from
/// an era earlier, so that nothing is negative.
fn days_from_epoch((year, month, day): (u32, u32, u32)) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        _ => return None,
    };
    if !(1..=days).contains(&day) {
        return None;
    }
    let year = year + 400 - u32::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(i64::from(era * 146_097 + day_of_era) - 146_097 - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use proptest::prelude::*;

    /// Whatever the fast path takes, chrono reads the same.
    fn agree(text: &str) {
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
