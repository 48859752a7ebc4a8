//! The sparse indexes of one segment in Kafka's formats: by offset, by time, and its aborted transactions.
//!
//! In memory while the segment is written to, then in files that are searched where they lie. They only make things fast:
//! all that they say can be found by scanning the segment.

use super::{Error, batch::Header, files};
use bytes::{Buf, BufMut};
use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

/// Bytes between two entries, as in Kafka (index.interval.bytes).
const INTERVAL: u64 = 4096;
const OFFSET_ENTRY: usize = 8;
const TIME_ENTRY: usize = 12;
const ABORTED_ENTRY: usize = 34;

/// The greatest timestamp in a segment, and the last offset of the first batch that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Largest {
    pub timestamp: i64,
    pub offset: i64,
}

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    pub producer_id: i64,
    pub first_offset: i64,
    /// Of its marker.
    pub last_offset: i64,
    /// When it ended, all before this was decided.
    pub last_stable: i64,
}

#[derive(Clone, Debug)]
pub struct Index {
    base: i64,
    /// (last offset of a batch from the base, position of the batch)
    offsets: Vec<(u32, u32)>,
    /// (greatest timestamp so far, its offset from the base)
    times: Vec<(i64, u32)>,
    bytes_since_entry: u64,
    pub largest: Largest,
    pub aborted: Vec<Aborted>,
}

impl Index {
    pub fn new(base: i64) -> Self {
        let largest = Largest { timestamp: -1, offset: base };
        Self {
            base,
            offsets: Vec::new(),
            times: Vec::new(),
            bytes_since_entry: 0,
            largest,
            aborted: Vec::new(),
        }
    }

    /// Takes note of a batch at `position`.
    pub fn push(&mut self, header: &Header, position: u64) {
        if header.max_timestamp > self.largest.timestamp {
            self.largest = Largest { timestamp: header.max_timestamp, offset: header.last_offset() };
        }
        if self.bytes_since_entry > INTERVAL {
            self.offsets.push((relative(header.last_offset(), self.base), position as u32));
            self.push_time();
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += header.size as u64;
    }

    fn push_time(&mut self) {
        if self.largest.timestamp > self.times.last().map_or(-1, |(timestamp, _)| *timestamp) {
            self.times.push((self.largest.timestamp, relative(self.largest.offset, self.base)));
        }
    }

    /// A position at or before the batch with `offset`.
    pub fn position(&self, offset: i64) -> u64 {
        let wanted = relative(offset, self.base);
        let after = self.offsets.partition_point(|(last, _)| *last <= wanted);
        after.checked_sub(1).map_or(0, |at| u64::from(self.offsets[at].1))
    }

    /// A position that lies behind the batch with the last record before `offset`; None where only the end does.
    pub fn position_after(&self, offset: i64) -> Option<u64> {
        let wanted = relative(offset, self.base);
        let after = self.offsets.partition_point(|(last, _)| *last < wanted);
        self.offsets.get(after + 1).map(|(_, position)| u64::from(*position))
    }

    /// No record before this offset is at or after `timestamp`.
    pub fn offset_before(&self, timestamp: i64) -> i64 {
        let after = self.times.partition_point(|(time, _)| *time <= timestamp);
        after.checked_sub(1).map_or(self.base, |at| self.base + i64::from(self.times[at].1))
    }

    /// Writes the three files and forces them to the disk, so that a checkpoint may rely on them.
    pub fn save(&self, folder: &Path, suffix: &str) -> Result<(), Error> {
        let mut all = self.clone();
        all.push_time();
        let write = |extension: &str, bytes: &[u8]| {
            files::replace(&files::named(folder, self.base, &format!("{extension}{suffix}")), bytes)
        };
        let mut bytes = Vec::with_capacity(all.offsets.len() * OFFSET_ENTRY);
        for (offset, position) in &all.offsets {
            bytes.put_u32(*offset);
            bytes.put_u32(*position);
        }
        write("index", &bytes)?;
        bytes.clear();
        for (timestamp, offset) in &all.times {
            bytes.put_i64(*timestamp);
            bytes.put_u32(*offset);
        }
        write("timeindex", &bytes)?;
        if all.aborted.is_empty() {
            return files::remove(&files::named(folder, self.base, &format!("txnindex{suffix}")));
        }
        bytes.clear();
        all.aborted.iter().for_each(|aborted| aborted.put(&mut bytes));
        write("txnindex", &bytes)
    }

    /// Reads the files of a segment that is written to again, as far as they speak of what is before `position` and
    /// `offset`. None where they are missing or can't be of this segment.
    pub fn load(folder: &Path, base: i64, position: u64, offset: i64) -> Option<Self> {
        let read = |extension: &str| std::fs::read(files::named(folder, base, extension)).ok();
        let mut index = Self::new(base);
        let (offsets, times) = (read("index")?, read("timeindex")?);
        index.offsets =
            offsets.chunks_exact(OFFSET_ENTRY).map(|mut at| (at.get_u32(), at.get_u32())).collect();
        index.times = times.chunks_exact(TIME_ENTRY).map(|mut at| (at.get_i64(), at.get_u32())).collect();
        index.aborted = read("txnindex").map_or_else(Vec::new, |bytes| Aborted::all_in(&bytes));
        let end = relative(offset, base);
        index.offsets.retain(|(last, at)| *last < end && u64::from(*at) < position);
        index.times.retain(|(_, last)| *last < end);
        index.aborted.retain(|aborted| aborted.last_offset < offset);
        let rises = index.offsets.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1);
        if let Some((timestamp, last)) = index.times.last() {
            index.largest = Largest { timestamp: *timestamp, offset: base + i64::from(*last) };
        }
        index.bytes_since_entry = position - index.offsets.last().map_or(0, |(_, at)| u64::from(*at));
        (rises && index.times.is_sorted()).then_some(index)
    }
}

fn relative(offset: i64, base: i64) -> u32 {
    u32::try_from(offset.saturating_sub(base).max(0)).unwrap_or(u32::MAX)
}

impl Aborted {
    fn put(&self, to: &mut Vec<u8>) {
        to.put_i16(0);
        to.put_i64(self.producer_id);
        to.put_i64(self.first_offset);
        to.put_i64(self.last_offset);
        to.put_i64(self.last_stable);
    }

    fn all_in(bytes: &[u8]) -> Vec<Self> {
        let one = |mut at: &[u8]| {
            at.advance(2);
            Self {
                producer_id: at.get_i64(),
                first_offset: at.get_i64(),
                last_offset: at.get_i64(),
                last_stable: at.get_i64(),
            }
        };
        bytes.chunks_exact(ABORTED_ENTRY).map(one).collect()
    }

    /// Those in the file of a segment.
    pub fn load(folder: &Path, base: i64) -> io::Result<Vec<Self>> {
        std::fs::read(files::named(folder, base, "txnindex")).map(|bytes| Self::all_in(&bytes))
    }

    pub fn overlaps(&self, from: i64, upper: i64) -> bool {
        self.last_offset >= from && self.first_offset < upper
    }
}

/// As `Index::position`, searched in the file.
pub fn position_in_file(folder: &Path, base: i64, offset: i64) -> io::Result<u64> {
    let wanted = relative(offset, base);
    let entry =
        search(&files::named(folder, base, "index"), OFFSET_ENTRY, |mut entry| entry.get_u32() <= wanted)?;
    Ok(entry.map_or(0, |entry| u64::from((&entry[4..]).get_u32())))
}

/// As `Index::offset_before`, searched in the file.
pub fn offset_before_in_file(folder: &Path, base: i64, timestamp: i64) -> io::Result<i64> {
    let path = files::named(folder, base, "timeindex");
    let entry = search(&path, TIME_ENTRY, |mut entry| entry.get_i64() <= timestamp)?;
    Ok(entry.map_or(base, |entry| base + i64::from((&entry[8..]).get_u32())))
}

/// What the files of a sealed segment of `size` bytes say of it; None where they are missing or bad.
pub fn largest_in_files(folder: &Path, base: i64, size: u64) -> Option<Largest> {
    let last = |extension: &str, entry: usize| -> Option<Vec<u8>> {
        let file = File::open(files::named(folder, base, extension)).ok()?;
        let bytes = file.metadata().ok()?.len();
        if bytes % entry as u64 != 0 {
            return None;
        }
        let mut found = vec![0; if bytes == 0 { 0 } else { entry }];
        file.read_exact_at(&mut found, bytes.saturating_sub(entry as u64)).ok()?;
        Some(found)
    };
    let offset = last("index", OFFSET_ENTRY)?;
    if !offset.is_empty() && u64::from((&offset[4..]).get_u32()) >= size {
        return None;
    }
    let time = last("timeindex", TIME_ENTRY)?;
    let mut at = &time[..];
    let nothing = Largest { timestamp: -1, offset: base };
    Some(if at.is_empty() {
        nothing
    } else {
        Largest { timestamp: at.get_i64(), offset: base + i64::from(at.get_u32()) }
    })
}

/// The last entry for which `before` holds; it holds for none after the first for which it does not.
fn search(path: &Path, entry: usize, before: impl Fn(&[u8]) -> bool) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    let (mut low, mut high) = (0, file.metadata()?.len() / entry as u64);
    let mut found = None;
    let mut bytes = vec![0; entry];
    while low < high {
        let middle = low.midpoint(high);
        file.read_exact_at(&mut bytes, middle * entry as u64)?;
        if before(&bytes) {
            found = Some(bytes.clone());
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
