//! What does not agree: by kind, with examples. Pure.

use serde::Serialize;
use std::collections::BTreeMap;

/// Examples kept of each kind.
const EXAMPLES_MAX: usize = 10;

/// What two sides do not agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// A stage has not come so far within the wait.
    NotProcessed,
    /// A record that can't be counted has no dead letter.
    LetterMissing,
    LetterTwice,
    /// A record that counts, or is a duplicate, has one.
    LetterOfCounted,
    /// There is no such record.
    LetterOfNothing,
    /// The stretches of the manifests do not follow each other.
    ManifestGap,
    /// A manifest names a file that is not there.
    FileMissing,
    NotArchived,
    ArchivedTwice,
    /// Archived, though it is a duplicate or a dead letter, or not in the log.
    ArchivedWrongly,
    /// Archived with other values than the log's.
    ArchivedOther,
    /// The rows of 5 s hold another number of records.
    Windows,
    /// The ledger holds other numbers.
    Ledger,
    /// Retention has left nothing that can be judged.
    NothingExact,
}

impl Check {
    /// What is wrong, and what to do.
    pub fn explain(self) -> (&'static str, &'static str) {
        match self {
            Self::NotProcessed => (
                "not processed in time",
                "see that the processor runs and GET /api/v1/pipeline; then run it again, with more --wait",
            ),
            Self::LetterMissing => (
                "records that can't be counted and have no dead letter",
                "if the rules have changed since (--future-skew, a new build, a workspace removed), that is why",
            ),
            Self::LetterTwice => (
                "records with more than one dead letter",
                "look at who else writes to the dead-letters topic; a replay of both is counted once",
            ),
            Self::LetterOfCounted => (
                "dead letters of records that are counted or duplicates",
                "look at who else writes to the dead-letters topic; a replay of them is a duplicate",
            ),
            Self::LetterOfNothing => (
                "dead letters of records that the log does not have",
                "look at who else writes to the dead-letters topic",
            ),
            Self::ManifestGap => (
                "manifests of the archive that don't follow each other",
                "bring the manifest back from a backup; the records are in the log as long as it keeps them",
            ),
            Self::FileMissing => (
                "files that the archive's manifests name and that are not there",
                "bring them back from a backup; the records are in the log as long as it keeps them",
            ),
            Self::NotArchived => {
                ("records that count and are not in the archive", "keep the log, and report it")
            }
            Self::ArchivedTwice => ("records that are in the archive more than once", "report it"),
            Self::ArchivedWrongly => (
                "records in the archive that are duplicates, dead letters or not in the log",
                "report it, unless --dedupe-records or --future-skew are not the processor's",
            ),
            Self::ArchivedOther => (
                "records whose values in the archive are not the log's",
                "bring the files back from a backup",
            ),
            Self::Windows => (
                "numbers of queries in the rows of 5 s that are not those of the log",
                "`millrace rebuild` shows which rows, and mends them with --apply",
            ),
            Self::Ledger => (
                "numbers of the ledger that are not those of the log",
                "look for changes by hand in the ledger's tables; the log is right",
            ),
            Self::NothingExact => (
                "nothing could be judged",
                "duplicates can only be told two times --dedupe-records after the log's first record",
            ),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub count: u64,
    pub examples: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Findings(pub BTreeMap<Check, Finding>);

impl Findings {
    /// `example` is only made where there is room for it.
    pub(super) fn add(&mut self, check: Check, example: impl FnOnce() -> String) {
        let finding = self.0.entry(check).or_default();
        finding.count += 1;
        if finding.examples.len() < EXAMPLES_MAX {
            finding.examples.push(example());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_few_are_shown() {
        let mut findings = Findings::default();
        assert!(findings.is_empty());
        for number in 0..100 {
            findings.add(Check::LetterTwice, || number.to_string());
        }
        let finding = &findings.0[&Check::LetterTwice];
        assert_eq!((finding.count, finding.examples.len()), (100, EXAMPLES_MAX));
    }
}
