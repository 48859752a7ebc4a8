//! The archive of one partition, walked through side by side with its log: manifest after manifest, in bounded memory.

use super::finding::{Check, Findings};
use crate::{
    admission::Identity,
    archive::{self, Archived, Shelf, Source},
    record::Measured,
};
use hashbrown::HashMap;
use millrace_log::NextOffset;

/// The records of one manifest.
#[derive(Default)]
struct Stretch {
    from: i64,
    to: i64,
    /// By offset; and how often it is there.
    records: HashMap<i64, (Archived, u32)>,
    /// One of its files is missing.
    broken: bool,
}

pub(super) struct Shelved {
    shelf: Shelf,
    source: Source,
    /// Where manifests begin, ascending; those not yet read.
    begins: std::vec::IntoIter<i64>,
    current: Stretch,
    /// What is archived before it is not looked at.
    first: i64,
    pub manifests: u64,
    pub records: u64,
}

/// Whether the archive has a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Found {
    Yes(Archived),
    No,
    /// It may have been in a file that is missing, or before or behind what is archived.
    Unknown,
}

impl Shelved {
    /// From the manifest on that holds `from`.
    pub(super) async fn open(shelf: Shelf, source: Source, from: NextOffset) -> Result<Self, archive::Error> {
        let mut begins = shelf.begins(&source).await?;
        let before = begins.partition_point(|begin| *begin <= from.get());
        begins.drain(..before.saturating_sub(1));
        let current = Stretch { to: begins.first().copied().unwrap_or(0), ..Stretch::default() };
        let (begins, first) = (begins.into_iter(), from.get());
        Ok(Self { shelf, source, begins, current, first, manifests: 0, records: 0 })
    }

    /// Takes the record at `offset` from what is left. Offsets must ascend.
    pub(super) async fn take(
        &mut self,
        offset: i64,
        findings: &mut Findings,
    ) -> Result<Found, archive::Error> {
        while offset >= self.current.to {
            if !self.next(findings).await? {
                return Ok(Found::Unknown);
            }
        }
        if offset < self.current.from {
            return Ok(Found::Unknown);
        }
        let partition = self.source.partition;
        Ok(match self.current.records.remove(&offset) {
            Some((archived, times)) => {
                if times > 1 {
                    findings.add(Check::ArchivedTwice, || {
                        format!("record {partition}-{offset} {} times, id {}", times, archived.identity.id)
                    });
                }
                Found::Yes(archived)
            }
            None if self.current.broken => Found::Unknown,
            None => Found::No,
        })
    }

    /// What is left when the log has been walked through up to `to`.
    pub(super) fn finish(&mut self, to: NextOffset, findings: &mut Findings) {
        self.current.records.retain(|offset, _| *offset < to.get());
        self.leave(findings);
    }

    /// Goes on to the next manifest; false where there is none.
    async fn next(&mut self, findings: &mut Findings) -> Result<bool, archive::Error> {
        let Some(from) = self.begins.next() else { return Ok(false) };
        self.leave(findings);
        if from != self.current.to {
            let (expected, partition) = (self.current.to, self.source.partition);
            findings.add(Check::ManifestGap, || {
                format!(
                    "partition {partition}: the manifest before ends at {expected}, the next begins at {from}"
                )
            });
        }
        self.current = Stretch { from, to: from, ..Stretch::default() };
        let Some(manifest) = self.shelf.manifest(&self.source, NextOffset::exclusive(from)).await? else {
            return Ok(true);
        };
        self.current.to = manifest.to;
        self.manifests += 1;
        for file in &manifest.files {
            match self.shelf.records(&file.path).await {
                Ok(batches) => {
                    for batch in batches {
                        self.load(batch?);
                    }
                }
                Err(archive::Error::Missing(path)) => {
                    self.current.broken = true;
                    findings.add(Check::FileMissing, || format!("{path}, {} records", file.rows));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn load(&mut self, batch: Vec<Archived>) {
        self.records += batch.len() as u64;
        for archived in batch.into_iter().filter(|archived| archived.offset >= self.first) {
            self.current.records.entry(archived.offset).or_insert((archived, 0)).1 += 1;
        }
    }

    fn leave(&mut self, findings: &mut Findings) {
        let partition = self.source.partition;
        for (offset, (archived, _)) in self.current.records.drain() {
            findings.add(Check::ArchivedWrongly, || {
                format!("record {partition}-{offset}, id {}: not in the log", archived.identity.id)
            });
        }
    }
}

/// Whether the archive has what the log has.
pub(super) fn is_same(archived: &Archived, identity: &Identity, measured: &Measured) -> bool {
    archived.identity == *identity && archived.measured == *measured
}
