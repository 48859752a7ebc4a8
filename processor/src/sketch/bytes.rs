//! The sketch as bytes: version, zeros, number of bins, then (index, count) of each; LEB128 integers, the first index
//! zigzag, the others as distance from the one before. One sketch has one encoding.

use super::{Sketch, VALUE_MAX, VALUE_MIN, bin_of};

const VERSION: u8 = 1;
/// Bytes below are whole integers.
const CONTINUES: u8 = 0x80;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SketchError {
    #[error("a sketch of version {0}; this build reads version {VERSION}")]
    Version(u8),
    #[error("a sketch cut short or with bytes that don't belong there")]
    Malformed,
    #[error("a sketch that is not base64")]
    Base64,
}

impl Sketch {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + 3 * self.bins.len());
        self.write(&mut out);
        out
    }

    /// Appends the bytes to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put(out, self.zeros);
        let filled = self.bins.filled();
        put(out, u64::try_from(filled).expect("bins number some thousands"));
        out.reserve(2 * filled);
        let mut previous = None;
        self.bins.for_each(|index, count| {
            let distance = previous.map_or_else(|| zigzag(index), |previous| index.abs_diff(previous).into());
            match (u8::try_from(distance), u8::try_from(count)) {
                (Ok(distance @ ..CONTINUES), Ok(count @ ..CONTINUES)) => out.extend([distance, count]),
                _ => {
                    put(out, distance);
                    put(out, count);
                }
            }
            previous = Some(index);
        });
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SketchError> {
        let mut sketch = Self::default();
        sketch.merge_bytes(bytes)?;
        Ok(sketch)
    }

    /// Merges an encoded sketch without building it. After an error the sketch is as it was or holds a part of the
    /// other: throw it away.
    pub fn merge_bytes(&mut self, bytes: &[u8]) -> Result<(), SketchError> {
        let (version, mut rest) = bytes.split_first().ok_or(SketchError::Malformed)?;
        if *version != VERSION {
            return Err(SketchError::Version(*version));
        }
        self.zeros = self.zeros.saturating_add(take(&mut rest)?);
        let bins = take(&mut rest)?;
        if self.bins.is_empty() {
            // As many as it says there are, but no more than can be in so many bytes.
            self.bins.reserve(usize::try_from(bins).unwrap_or(usize::MAX).min(rest.len() / 2));
        }
        let bins_possible = bin_of(VALUE_MIN)..=bin_of(VALUE_MAX);
        let mut previous = None;
        for _ in 0..bins {
            let index = match previous {
                None => unzigzag(take(&mut rest)?)?,
                Some(previous) => next_index(previous, take(&mut rest)?)?,
            };
            let count = take(&mut rest)?;
            if count == 0 || !bins_possible.contains(&index) {
                return Err(SketchError::Malformed);
            }
            self.bins.add(index, count);
            previous = Some(index);
        }
        if rest.is_empty() { Ok(()) } else { Err(SketchError::Malformed) }
    }
}

fn next_index(previous: i32, distance: u64) -> Result<i32, SketchError> {
    let distance = i32::try_from(distance).map_err(|_| SketchError::Malformed)?;
    match previous.checked_add(distance) {
        Some(index) if distance > 0 => Ok(index),
        _ => Err(SketchError::Malformed),
    }
}

fn zigzag(value: i32) -> u64 {
    u64::from(((value << 1) ^ (value >> 31)).cast_unsigned())
}

fn unzigzag(value: u64) -> Result<i32, SketchError> {
    let value = u32::try_from(value).map_err(|_| SketchError::Malformed)?;
    Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
fn take(bytes: &mut &[u8]) -> Result<u64, SketchError> {
    match bytes.split_first() {
        Some((byte, rest)) if *byte < CONTINUES => {
            *bytes = rest;
            Ok((*byte).into())
        }
        _ => take_long(bytes),
    }
}

fn take_long(bytes: &mut &[u8]) -> Result<u64, SketchError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(SketchError::Malformed)?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            return Err(SketchError::Malformed);
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(SketchError::Malformed)
}
