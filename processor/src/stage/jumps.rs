//! Records that retention removed before they were read.

use millrace_log::NextOffset;
use std::collections::BTreeMap;

/// Where the log begins, of partitions in which offsets are left out: those may be marks of transactions; or retention has
/// gone past the reader, which then went on there. `next` is where each partition was to go on, `read` what came then, and
/// `low` asks the log.
pub(crate) fn lows_after_jumps<E>(
    mut next: BTreeMap<i32, NextOffset>,
    read: impl Iterator<Item = (i32, i64)>,
    low: impl Fn(i32) -> Result<NextOffset, E>,
) -> Result<BTreeMap<i32, NextOffset>, E> {
    let mut lows = BTreeMap::new();
    for (partition, offset) in read {
        let Some(next) = next.get_mut(&partition) else { continue };
        if offset > next.get() && !lows.contains_key(&partition) {
            lows.insert(partition, low(partition)?);
        }
        *next = NextOffset::after(offset).max(*next);
    }
    Ok(lows)
}
