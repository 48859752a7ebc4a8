//! Which transactions in a range of offsets were aborted.

use crate::log::{
    Refused,
    core::{Core, storage},
    index::Aborted,
};
use std::{io, sync::Arc};

impl Core {
    /// (producer id, first offset) of those that overlap with `from` to `upper`, by first offset.
    pub fn aborted_between(&self, from: i64, upper: i64) -> Result<Vec<(i64, i64)>, Refused> {
        let aborted = self.aborted_in(from, upper)?;
        Ok(aborted.iter().map(|aborted| (aborted.producer_id, aborted.first_offset)).collect())
    }

    /// Those that overlap with `from` to `upper`, by first offset.
    pub fn aborted_in(&self, from: i64, upper: i64) -> Result<Vec<Aborted>, Refused> {
        let (sealed, active) = {
            let inner = self.lock();
            let later = inner.sealed[inner.segment_with(from)..].iter();
            let sealed: Vec<_> = later.filter(|segment| segment.has_aborted).map(Arc::clone).collect();
            (sealed, overlapping(&inner.active.index.aborted, from, upper))
        };
        let mut found = Vec::new();
        for segment in &sealed {
            let aborted = match segment.aborted(&self.folder) {
                // It was removed: its offsets are before the start of the log, or another one has its place, which
                // the caller notices.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(storage(format!("reading aborted transactions failed: {error}"))),
                Ok(aborted) => aborted,
            };
            found.extend(overlapping(&aborted, from, upper));
            if aborted.last().is_some_and(|last| last.last_stable >= upper) {
                return Ok(sorted(found));
            }
        }
        found.extend(active);
        Ok(sorted(found))
    }
}

fn overlapping(aborted: &[Aborted], from: i64, upper: i64) -> Vec<Aborted> {
    aborted.iter().filter(|aborted| aborted.overlaps(from, upper)).copied().collect()
}

fn sorted(mut found: Vec<Aborted>) -> Vec<Aborted> {
    found.sort_unstable_by_key(|aborted| aborted.first_offset);
    found
}
