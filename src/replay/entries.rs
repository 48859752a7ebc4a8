//! The entries of one log, jsonlog or csvlog as its first entry says, each with the line that it starts on.

use crate::replay::{
    csvlog, jsonlog,
    lines::{ENTRY_BYTES_MAX, Line, Lines, Numbered},
    parsed::Parsed,
};
use std::io::{self, BufRead};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
}

/// An entry, and where it is.
#[derive(Debug, PartialEq)]
pub struct Located {
    /// Of the file, from 1.
    pub line: u64,
    pub parsed: Parsed,
}

pub struct Entries<R> {
    lines: Lines<R>,
    format: Option<Format>,
    csv: csvlog::Parser,
}

impl<R: BufRead> Entries<R> {
    pub fn new(reader: R) -> Self {
        Self { lines: Lines::new(reader), format: None, csv: csvlog::Parser::new() }
    }

    /// The next entry, or `None` at the end. After an error there are no more.
    pub fn next(&mut self) -> io::Result<Option<Located>> {
        let line = match self.lines.next()? {
            None => return Ok(None),
            Some(Line::TooLong { number }) => return Ok(Some(too_long(number))),
            Some(Line::Text(line)) => line,
        };
        self.format = self.format.or_else(|| format_of(&line.bytes));
        match self.format {
            None => Ok(Some(broken(line.number, "neither a jsonlog nor a csvlog entry"))),
            Some(Format::Json) => {
                Ok(Some(Located { line: line.number, parsed: jsonlog::parse(&line.bytes) }))
            }
            Some(Format::Csv) => self.csv_entry(line).map(Some),
        }
    }

    /// Adds lines to `first` until no quoted field is open.
    fn csv_entry(&mut self, first: Numbered) -> io::Result<Located> {
        let mut open = csvlog::open_after(false, &first.bytes);
        let mut bytes = first.bytes.len();
        let mut lines = vec![first];
        while open {
            match self.lines.next()? {
                Some(Line::Text(line)) => {
                    open = csvlog::open_after(open, &line.bytes);
                    bytes += line.bytes.len() + 1;
                    lines.push(line);
                }
                Some(Line::TooLong { .. }) => bytes = usize::MAX,
                None => return Ok(self.give_up(lines, "the file ends within a quoted field")),
            }
            if bytes > ENTRY_BYTES_MAX {
                return Ok(self.give_up(lines, TOO_LONG));
            }
        }
        Ok(self.whole_csv_entry(lines))
    }

    fn whole_csv_entry(&mut self, lines: Vec<Numbered>) -> Located {
        let mut record = Vec::with_capacity(lines.iter().map(|line| line.bytes.len() + 1).sum());
        for line in &lines {
            record.extend_from_slice(&line.bytes);
            record.push(b'\n');
        }
        if record.ends_with(b"\r\n") {
            record.truncate(record.len() - 2);
            record.push(b'\n');
        }
        match self.csv.parse(&record) {
            Ok(parsed) => Located { line: lines[0].number, parsed },
            Err(error) => self.give_up(lines, &error.to_string()),
        }
    }

    /// A server that crashed leaves half an entry, whose open quote swallows those that follow: only the first line is
    /// lost, and reading goes on where the next entry may start.
    fn give_up(&mut self, lines: Vec<Numbered>, reason: &str) -> Located {
        let located = broken(lines[0].number, reason);
        let again = lines.into_iter().skip(1).skip_while(|line| !csvlog::may_start(&line.bytes));
        let again: Vec<_> = again.collect();
        self.lines.put_back(again.into_iter());
        located
    }
}

const TOO_LONG: &str = "longer than 16 MiB";

fn too_long(line: u64) -> Located {
    broken(line, TOO_LONG)
}

fn broken(line: u64, reason: &str) -> Located {
    Located { line, parsed: Parsed::Broken(reason.to_owned()) }
}

fn format_of(line: &[u8]) -> Option<Format> {
    if line.first() == Some(&b'{') {
        Some(Format::Json)
    } else if csvlog::may_start(line) {
        Some(Format::Csv)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
