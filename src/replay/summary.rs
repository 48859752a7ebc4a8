//! What a replay has read and sent, in words and as an exit code.

use crate::replay::{
    progress::rate_per_s,
    reading::{BrokenLine, Chunk},
    sink::Counts,
};
use indicatif::HumanCount;
use std::{fmt, time::Duration};

/// Broken lines that are listed; the others are only counted.
const BROKEN_SHOWN: usize = 20;

/// What has been read.
#[derive(Debug, Default)]
pub struct Tally {
    pub records: u64,
    pub others: u64,
    pub broken: u64,
    first_broken: Vec<BrokenLine>,
}

impl Tally {
    pub fn add(&mut self, chunk: &mut Chunk) {
        let others = chunk.entries - chunk.statements.len() - chunk.broken.len();
        self.records += chunk.statements.len() as u64;
        self.others += others as u64;
        self.broken += chunk.broken.len() as u64;
        let room = BROKEN_SHOWN - self.first_broken.len();
        self.first_broken.extend(chunk.broken.drain(..).take(room));
    }
}

/// All there is to say at the end.
pub struct Summary {
    pub tally: Tally,
    pub counts: Counts,
    pub target: String,
    pub elapsed: Duration,
    pub interrupted: bool,
}

impl Summary {
    /// Nothing accepted though there was something to read; or, if `strict`, anything broken or not accepted.
    pub fn failed(&self, strict: bool) -> bool {
        let nothing = self.counts.accepted == 0 && self.tally.records + self.tally.broken > 0;
        let not_all = self.tally.broken > 0 || self.counts.accepted < self.tally.records;
        nothing || (strict && not_all)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { records, others, broken, first_broken } = &self.tally;
        let lines = records + others + broken;
        if self.interrupted {
            writeln!(f, "interrupted")?;
        }
        writeln!(
            f,
            "read {} lines: {} records, {} others, {} broken",
            HumanCount(lines),
            HumanCount(*records),
            HumanCount(*others),
            HumanCount(*broken)
        )?;
        for BrokenLine { file, line, reason } in first_broken {
            writeln!(f, "  {file}:{line}: {reason}")?;
        }
        let unlisted = broken - first_broken.len() as u64;
        if unlisted > 0 {
            writeln!(f, "  and {} more", HumanCount(unlisted))?;
        }
        let Counts { accepted, rejected, first_rejection } = &self.counts;
        writeln!(
            f,
            "{}: {} accepted, {} rejected",
            self.target,
            HumanCount(*accepted),
            HumanCount(*rejected)
        )?;
        if let Some(reason) = first_rejection {
            writeln!(f, "  the first rejection: {reason}")?;
        }
        let rate = rate_per_s(*accepted, self.elapsed);
        write!(f, "in {:.1} s, {} records/s", self.elapsed.as_secs_f64(), HumanCount(rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(line: u64) -> BrokenLine {
        BrokenLine { file: "log".to_owned(), line, reason: "half".to_owned() }
    }

    fn counts(accepted: u64, rejected: u64) -> Counts {
        let first_rejection = (rejected > 0).then(|| "completed_at: in the future".to_owned());
        Counts { accepted, rejected, first_rejection }
    }

    fn summary(broken_lines: u64, counts: Counts) -> Summary {
        let mut tally = Tally { records: 1_000, ..Tally::default() };
        for line in 1..=broken_lines {
            tally.add(&mut Chunk { entries: 2, statements: Vec::new(), broken: vec![broken(line)] });
        }
        Summary {
            tally,
            counts,
            target: "there".to_owned(),
            elapsed: Duration::from_secs(2),
            interrupted: false,
        }
    }

    #[test]
    fn says_what_was_read_and_sent() {
        let text = summary(2, counts(999, 1)).to_string();
        let expected = "read 1,004 lines: 1,000 records, 2 others, 2 broken\n  log:1: half\n  log:2: half\n\
                        there: 999 accepted, 1 rejected\n  the first rejection: completed_at: in the future\nin 2.0 s, 499 records/s";
        assert_eq!(text, expected);
    }

    #[test]
    fn lists_no_more_broken_lines_than_one_wants_to_read() {
        let text = summary(1_025, Counts::default()).to_string();
        assert_eq!(text.matches(": half").count(), BROKEN_SHOWN);
        assert!(text.contains("and 1,005 more"), "{text}");
    }

    #[test]
    fn fails_when_nothing_was_sent_or_strictly_anything_was_wrong() {
        let all = || counts(1_000, 0);
        assert!(!summary(0, all()).failed(true));
        assert!(!summary(1, all()).failed(false));
        assert!(summary(1, all()).failed(true));
        assert!(summary(0, counts(999, 1)).failed(true));
        assert!(summary(0, Counts::default()).failed(false));
    }
}
