//! Reads JSON from left to right, but only the plain forms of it: each method takes what it names or nothing at all.

use super::{Status, hex};
use crate::{EventTime, ledger::EDGE_END};
use memchr::{memchr, memchr2};
use uuid::Uuid;

/// So many decimal digits fit into the 53 bits of a double, and so many into 64.
const EXACT_DIGITS: usize = 15;
const COUNT_DIGITS: usize = 18;
/// None writes more of a number that means them.
const DIGITS_MAX: usize = 40;
/// Exact as doubles: a quotient by them is rounded once, as the shortest decimal is.
const POWERS: [f64; EXACT_DIGITS + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
/// As most write it, with microseconds.
const TIME_BYTES: usize = "2026-01-31T23:59:59.000000Z".len();
/// But for the one that nearly all have.
const STATUSES: [(&[u8], Status); 4] = [
    (b"failed\"", Status::Failed),
    (b"timeout\"", Status::Timeout),
    (b"cancelled\"", Status::Cancelled),
    (b"running\"", Status::Running),
];

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// All bytes of strings, or'ed: ASCII where they are.
    joined: u8,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, joined: 0 }
    }

    /// Nothing is left but what the edge ends its records with, and all is UTF-8.
    pub(super) fn reaches_end(&mut self) -> bool {
        self.take(EDGE_END);
        self.at == self.bytes.len() && (self.joined.is_ascii() || std::str::from_utf8(self.bytes).is_ok())
    }

    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn next(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    #[inline(always)]
    pub(super) fn take(&mut self, expected: &[u8]) -> bool {
        let found = self.rest().starts_with(expected);
        self.at += if found { expected.len() } else { 0 };
        found
    }

    pub(super) fn expect(&mut self, expected: u8) -> Option<()> {
        (self.next()? == expected).then_some(())
    }

    /// The one space that some writers put after commas and colons.
    pub(super) fn space(&mut self) {
        self.at += usize::from(self.bytes.get(self.at) == Some(&b' '));
    }

    pub(super) fn null(&mut self) -> bool {
        self.take(b"null")
    }

    pub(super) fn uuid(&mut self) -> Option<Uuid> {
        self.expect(b'"')?;
        let id = hex::uuid(self.rest().first_chunk()?)?;
        self.at += hex::UUID_BYTES;
        self.expect(b'"')?;
        Some(id)
    }

    pub(super) fn status(&mut self) -> Option<Status> {
        self.expect(b'"')?;
        if self.take(b"success\"") {
            return Some(Status::Success);
        }
        STATUSES.iter().find(|(name, _)| self.take(name)).map(|(_, status)| *status)
    }

    /// A time in UTC.
    pub(super) fn time(&mut self) -> Option<EventTime> {
        EventTime::parse_utc(self.time_text()?)
    }

    /// What may be a time in UTC.
    pub(super) fn time_text(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let rest = self.rest();
        // A quote that comes before is found as no part of a time.
        let is_usual = rest.get(TIME_BYTES - 1..=TIME_BYTES) == Some(b"Z\"");
        let end = if is_usual { TIME_BYTES } else { memchr(b'"', rest)? };
        self.at += end + 1;
        Some(&rest[..end])
    }

    /// A string that has at most so many bytes as it is written, without `\u`: what stands between its quotes.
    pub(super) fn string(&mut self, bytes_max: usize) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let begin = self.at;
        loop {
            self.at += memchr2(b'"', b'\\', self.rest())?;
            if self.next()? == b'"' {
                break;
            }
            if !matches!(self.next()?, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') {
                return None;
            }
        }
        let text = &self.bytes[begin..self.at - 1];
        let (joined, control) =
            text.iter().fold((0, false), |(joined, control), byte| (joined | byte, control | (*byte < b' ')));
        self.joined |= joined;
        (!control && text.len() <= bytes_max).then_some(text)
    }

    /// An array of at most so many strings, which `each` is given as [`Self::string`] gives them.
    #[inline(always)]
    pub(super) fn strings(
        &mut self,
        (count_max, bytes_max): (usize, usize),
        mut each: impl FnMut(&'a [u8]) -> Option<()>,
    ) -> Option<()> {
        self.expect(b'[')?;
        if self.take(b"]") {
            return Some(());
        }
        for _ in 0..count_max {
            each(self.string(bytes_max)?)?;
            match self.next()? {
                b',' => self.space(),
                b']' => return Some(()),
                _ => return None,
            }
        }
        None
    }

    /// A number that is not negative, without exponent.
    pub(super) fn number(&mut self) -> Option<f64> {
        let begin = self.at;
        let (whole, digits) = self.digits()?;
        let (mantissa, all) = if self.take(b".") { self.fraction(whole, digits)? } else { (whole, digits) };
        if all > DIGITS_MAX {
            return None;
        }
        if all > EXACT_DIGITS {
            // Who divides writes as many as a double has.
            return str::from_utf8(&self.bytes[begin..self.at]).ok()?.parse().ok();
        }
        #[expect(clippy::cast_precision_loss, reason = "of 15 digits none is lost")]
        Some(mantissa as f64 / POWERS[all - digits])
    }

    fn fraction(&mut self, whole: i64, digits: usize) -> Option<(i64, usize)> {
        let begin = self.at;
        let mut mantissa = whole;
        while let Some(digit) = self.digit() {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
        }
        let more = self.at - begin;
        (more > 0).then_some((mantissa, digits + more))
    }

    /// A whole number.
    pub(super) fn count(&mut self) -> Option<i64> {
        let negative = self.take(b"-");
        let (count, _) = self.digits()?;
        match (negative, count) {
            // Some read it as a fraction.
            (true, 0) => None,
            (true, _) => Some(-count),
            (false, _) => Some(count),
        }
    }

    /// A whole number without sign, and how many digits it has.
    fn digits(&mut self) -> Option<(i64, usize)> {
        let begin = self.at;
        let first = self.digit()?;
        let mut number = first;
        while let Some(digit) = self.digit() {
            number = number.wrapping_mul(10).wrapping_add(digit);
        }
        let digits = self.at - begin;
        let valid = digits == 1 || (first != 0 && digits <= COUNT_DIGITS);
        valid.then_some((number, digits))
    }

    fn digit(&mut self) -> Option<i64> {
        let digit = self.bytes.get(self.at)?.wrapping_sub(b'0');
        (digit < 10).then(|| {
            self.at += 1;
            i64::from(digit)
        })
    }
}
