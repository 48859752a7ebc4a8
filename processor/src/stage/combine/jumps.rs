//! Records that retention removed before they were read.

use crate::stage::{
    StageError,
    chunk::{Record, Source},
    positions::Positions,
};
use millrace_log::NextOffset;
use std::collections::BTreeMap;

/// Where the log begins, of partitions in which offsets are left out: those may be marks of transactions; or retention has
/// gone past this reader, which then went on there.
pub(super) fn lows_after_jumps(
    sources: &BTreeMap<i32, Source>,
    positions: &Positions,
    records: &[Record],
) -> Result<BTreeMap<i32, NextOffset>, StageError> {
    let mut next: BTreeMap<i32, NextOffset> =
        sources.iter().map(|(partition, source)| (*partition, source.next)).collect();
    let mut lows = BTreeMap::new();
    for Record { partition, offset, .. } in records {
        let Some(next) = next.get_mut(partition) else { continue };
        if *offset > next.get() && !lows.contains_key(partition) {
            lows.insert(*partition, positions.low(*partition)?);
        }
        *next = NextOffset::after(*offset);
    }
    Ok(lows)
}
