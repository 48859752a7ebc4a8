//! Whether the archive has all that it says it has: manifests that follow each other, and the files that they name.

use super::Shelf;
use crate::archive::{
    Error,
    manifest::{DataFile, Manifest},
    path::Source,
};
use futures::{StreamExt as _, TryStreamExt as _};
use millrace_log::NextOffset;
use millrace_schemas::EventTime;
use std::{collections::BTreeSet, fmt};

/// Manifests read at once.
const READ_AT_ONCE: usize = 16;
/// Lacks that are named; the others are counted.
const NAMED_MAX: usize = 10;

/// What is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// No manifest tells of this stretch.
    Manifest { partition: i32, from: i64, to: i64 },
    /// A manifest names it, and it is not there.
    File { path: String, records: u64 },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lacks(pub Vec<Lack>);

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest { partition, from, to } => {
                write!(f, "the manifests of partition {partition} from offset {from} to {to}")
            }
            Self::File { path, records } => write!(f, "{path} ({records} records)"),
        }
    }
}

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, lack) in self.0.iter().take(NAMED_MAX).enumerate() {
            write!(f, "{}{lack}", if number == 0 { "" } else { "; " })?;
        }
        match self.0.len().saturating_sub(NAMED_MAX) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// The manifests of a partition up to an offset, from the first on that may tell of records that came at a time or later.
pub(super) struct Checked {
    /// The files that they name.
    pub files: Vec<DataFile>,
    /// Where the first of them begins.
    pub from: i64,
}

impl Shelf {
    /// What is between two manifests, or before the first, is added to `lacks`.
    pub(super) async fn checked(
        &self,
        source: &Source,
        (arrived_from, to): (EventTime, NextOffset),
        lacks: &mut Lacks,
    ) -> Result<Checked, Error> {
        let mut begins = self.begins(source).await?;
        begins.retain(|begin| *begin < to.get());
        // The one before tells where the first must begin.
        let first = self.first_since(source, &begins, arrived_from).await?.saturating_sub(1);
        let mut next = if first == 0 { 0 } else { begins[first] };
        let mut checked = Checked { files: Vec::new(), from: begins.get(first).copied().unwrap_or(0) };
        let manifests = futures::stream::iter(begins[first..].iter().copied())
            .map(|begin| async move {
                let manifest = self.manifest(source, NextOffset::exclusive(begin)).await?;
                Ok::<_, Error>((begin, manifest))
            })
            .buffered(READ_AT_ONCE);
        let mut manifests = std::pin::pin!(manifests);
        while let Some((begin, manifest)) = manifests.try_next().await? {
            // One that has gone since it was listed is missed by the next one.
            let Some(Manifest { to, files, .. }) = manifest else { continue };
            if begin > next {
                lacks.0.push(Lack::Manifest { partition: source.partition, from: next, to: begin });
            }
            next = to;
            checked.files.extend(files);
        }
        if next < to.get() {
            lacks.0.push(Lack::Manifest { partition: source.partition, from: next, to: to.get() });
        }
        Ok(checked)
    }

    /// The number of the first manifest that may tell of records that came at this time or later: they were written in the
    /// order in which their records came. Those of older builds don't say when that was.
    async fn first_since(&self, source: &Source, begins: &[i64], time: EventTime) -> Result<usize, Error> {
        let (mut low, mut high) = (0, begins.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let manifest = self.manifest(source, NextOffset::exclusive(begins[middle])).await?;
            let arrived =
                manifest.and_then(|manifest| manifest.ledger.iter().filter_map(|span| span.arrived).max());
            if arrived.is_some_and(|arrived| arrived < time) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

/// Adds those of `files` to `lacks` that are not among the `listed`; the others are left.
pub(super) fn present(files: Vec<DataFile>, listed: &BTreeSet<String>, lacks: &mut Lacks) -> Vec<DataFile> {
    let (present, missing): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|file| listed.contains(&file.path));
    lacks.0.extend(missing.into_iter().map(|file| Lack::File { path: file.path, records: file.rows }));
    present
}
