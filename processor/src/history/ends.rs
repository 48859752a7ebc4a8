//! Which offsets the partitions of a topic have.

use super::History;
use crate::stage::{StageError, past::Past};
use millrace_log::NextOffset;
use millrace_schemas::EventTime;

/// `low` is the first offset that retention has left, `end` one past the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub low: NextOffset,
    pub end: NextOffset,
}

impl History {
    /// By partition, from 0 on.
    pub(crate) fn bounds(&self, topic: &str) -> Result<Vec<Bounds>, StageError> {
        bounds(&self.past()?, topic)
    }

    /// By partition, the first record that came at `time` or later; the end where there is none.
    pub(crate) fn offsets_at(&self, topic: &str, time: EventTime) -> Result<Vec<NextOffset>, StageError> {
        let past = self.past()?;
        let (ends, since) = (past.ends(topic)?, past.since(topic, time.as_millis())?);
        Ok(ends.into_iter().map(|(partition, end)| since.get(&partition).copied().unwrap_or(end)).collect())
    }
}

pub(crate) fn bounds(past: &Past, topic: &str) -> Result<Vec<Bounds>, StageError> {
    let (lows, ends) = (past.lows(topic)?, past.ends(topic)?);
    Ok(lows.into_values().zip(ends.into_values()).map(|(low, end)| Bounds { low, end }).collect())
}
