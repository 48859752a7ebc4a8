//! PostgreSQL's csvlog: 26 columns since 14, 24 in 13, 23 before. A quoted field may span lines.

use crate::replay::{
    entry::{self, Entry},
    parsed::Parsed,
};
use csv_core::{ReadRecordResult, Reader};
use std::{borrow::Cow, ops::Range};

const COLUMN_COUNTS: [usize; 3] = [23, 24, 26];
const COLUMNS_MAX: usize = 32;

// Positions of the columns used, the same in all versions that have them.
const TIME: usize = 0;
const DATABASE: usize = 2;
const SESSION_ID: usize = 5;
const SESSION_LINE: usize = 6;
const SEVERITY: usize = 11;
const SQLSTATE: usize = 12;
const MESSAGE: usize = 13;
const QUERY: usize = 19;
const APPLICATION: usize = 22;
const BACKEND_TYPE: usize = 23;

/// These bytes, which may be several lines, are not one whole csvlog entry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a csvlog entry has 23, 24 or 26 columns; this one has {0}")]
pub struct NotAnEntry(usize);

/// Whether a quoted field that is `open` before `line` is open after it; a quote within a field is doubled.
pub fn open_after(open: bool, line: &[u8]) -> bool {
    let quotes = line.iter().filter(|byte| **byte == b'"').count();
    open ^ (quotes % 2 == 1)
}

/// Whether an entry may start here: all start with a date.
pub fn may_start(line: &[u8]) -> bool {
    let date = b"0000-00-00 ";
    line.len() > date.len()
        && date.iter().zip(line).all(|(form, byte)| match form {
            b'0' => byte.is_ascii_digit(),
            _ => byte == form,
        })
}

/// Splits entries into columns; keeps its buffers from one entry to the next.
pub struct Parser {
    reader: Reader,
    text: Vec<u8>,
    ends: [usize; COLUMNS_MAX],
}

impl Parser {
    pub fn new() -> Self {
        Self { reader: Reader::new(), text: Vec::new(), ends: [0; COLUMNS_MAX] }
    }

    /// Reads one entry, which ends with a line feed.
    pub fn parse(&mut self, record: &[u8]) -> Result<Parsed, NotAnEntry> {
        let columns = self.split(record);
        if !COLUMN_COUNTS.contains(&columns) {
            return Err(NotAnEntry(columns));
        }
        Ok(Parsed::from(entry::statement(&self.entry(columns))))
    }

    /// How many columns `record` has; no number of an entry if it holds more than one.
    fn split(&mut self, record: &[u8]) -> usize {
        self.reader.reset();
        self.text.resize(record.len(), 0);
        let (result, read, _, columns) = self.reader.read_record(record, &mut self.text, &mut self.ends);
        match result {
            ReadRecordResult::Record if read == record.len() => columns,
            ReadRecordResult::OutputEndsFull => COLUMNS_MAX + 1,
            _ => 0,
        }
    }

    fn entry(&self, columns: usize) -> Entry<'_> {
        let query = self.column(QUERY);
        Entry {
            time: self.column(TIME),
            database: self.column(DATABASE),
            application: self.column(APPLICATION),
            backend_type: (columns > BACKEND_TYPE).then(|| self.column(BACKEND_TYPE)),
            session_id: self.column(SESSION_ID),
            session_line: self.column(SESSION_LINE),
            severity: self.column(SEVERITY),
            sqlstate: self.column(SQLSTATE),
            message: self.column(MESSAGE),
            statement: (!query.is_empty()).then_some(query),
        }
    }

    /// Bytes that are not UTF-8 (a database may hold any) are replaced.
    fn column(&self, index: usize) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.text[self.range(index)])
    }

    fn range(&self, index: usize) -> Range<usize> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        start..self.ends[index]
    }
}

#[cfg(test)]
mod tests;
