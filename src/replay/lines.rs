//! Physical lines of a log, numbered, each bounded in memory, with a way to put lines back.

use std::{
    collections::VecDeque,
    io::{self, BufRead, Read},
};

/// A longer line or entry is reported as broken: the memory for one entry is bounded.
pub const ENTRY_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    Text(Numbered),
    /// More than [`ENTRY_BYTES_MAX`]; skipped.
    TooLong {
        number: u64,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub struct Numbered {
    /// From 1.
    pub number: u64,
    /// Without the line feed.
    pub bytes: Vec<u8>,
}

pub struct Lines<R> {
    reader: R,
    count: u64,
    returned: VecDeque<Numbered>,
}

impl<R: BufRead> Lines<R> {
    pub fn new(reader: R) -> Self {
        Self { reader, count: 0, returned: VecDeque::new() }
    }

    /// The next line, or `None` at the end of the input.
    pub fn next(&mut self) -> io::Result<Option<Line>> {
        if let Some(line) = self.returned.pop_front() {
            return Ok(Some(Line::Text(line)));
        }
        let mut bytes = Vec::new();
        let bytes_max = u64::try_from(ENTRY_BYTES_MAX).expect("16 MiB fit into 64 bits") + 1;
        if (&mut self.reader).take(bytes_max).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        self.count += 1;
        let number = self.count;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        } else if bytes.len() > ENTRY_BYTES_MAX {
            self.reader.skip_until(b'\n')?;
            return Ok(Some(Line::TooLong { number }));
        }
        Ok(Some(Line::Text(Numbered { number, bytes })))
    }

    /// Makes `lines` the next ones again, in their order.
    pub fn put_back(&mut self, lines: impl DoubleEndedIterator<Item = Numbered>) {
        for line in lines.rev() {
            self.returned.push_front(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: u64, text: &str) -> Option<Line> {
        Some(Line::Text(Numbered { number, bytes: text.into() }))
    }

    #[test]
    fn numbers_lines_and_needs_no_final_line_feed() {
        let mut lines = Lines::new(&b"a\n\nb"[..]);
        let mut next = || lines.next().expect("reads from memory");
        assert_eq!((next(), next(), next(), next()), (text(1, "a"), text(2, ""), text(3, "b"), None));
    }

    #[test]
    fn a_line_put_back_comes_again() {
        let mut lines = Lines::new(&b"a\nb\nc"[..]);
        let taken: Vec<_> = (0..2)
            .filter_map(|_| match lines.next() {
                Ok(Some(Line::Text(line))) => Some(line),
                _ => None,
            })
            .collect();
        lines.put_back(taken.into_iter());
        assert_eq!(lines.next().ok(), Some(text(1, "a")));
        assert_eq!(lines.next().ok(), Some(text(2, "b")));
        assert_eq!(lines.next().ok(), Some(text(3, "c")));
    }

    #[test]
    fn a_line_beyond_the_limit_is_skipped_whole() {
        let long = vec![b'x'; ENTRY_BYTES_MAX + 2];
        let mut lines = Lines::new(long.as_slice().chain(&b"\nnext"[..]));
        assert_eq!(lines.next().ok(), Some(Some(Line::TooLong { number: 1 })));
        assert_eq!(lines.next().ok(), Some(text(2, "next")));
    }
}
