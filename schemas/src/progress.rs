//! The `progress` topic: how far the windows of one `partials` partition are. A record is written in every transaction of
//! the windows stage, with the rows that it speaks of; its key is the partition, decimal.

use crate::EventTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version that [`Progress::version`] has today; a reader passes over a newer one.
pub const VERSION: u8 = 1;

/// How far the windows of one partition are. Offsets are exclusive: the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// 1
    pub version: u8,
    /// Of `partials`, and of the same number of `aggregates`.
    pub partition: i32,
    /// Partitions of `partials`: as many of these records there are to look at.
    pub partitions: i32,
    /// The next offset of the `partials` partition to be taken in.
    pub position: i64,
    /// One past the newest row in the `aggregates` partition: who has stored all before it has stored what `emitted` says.
    /// Null while it is not known.
    pub aggregates: Option<i64>,
    /// Event time has come so far; null while a raw partition has not told anything.
    pub watermark: Option<EventTime>,
    /// How far the watermark stays behind the newest event, or behind the wall clock when all raw partitions are idle.
    pub watermark_delay_ms: u64,
    /// How long windows stay in memory after their end, in event time; absent where an older build wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_horizon_ms: Option<u64>,
    /// By raw partition; null for one that has not told anything.
    pub sources: Vec<Option<Source>>,
}

/// One raw partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// All records before it are in the windows' memory, in a row, a duplicate or a dead letter. Null after a restart,
    /// until it is told anew.
    pub taken: Option<i64>,
    /// All records before it are in rows that have been emitted, duplicates or dead letters.
    pub emitted: Option<i64>,
    /// The highest event time seen in it.
    pub max_event_time: Option<EventTime>,
    /// Nothing came for a while: it does not hold the watermark back.
    pub idle: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a progress record of version {0}; this build reads up to {VERSION}")]
    Newer(u8),
    #[error("not a progress record")]
    Json(#[source] serde_json::Error),
}

#[derive(Deserialize)]
struct Versioned {
    version: u8,
}

impl Progress {
    /// Reads what anybody who may write to the topic wrote.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let Versioned { version } = serde_json::from_slice(bytes).map_err(Error::Json)?;
        if version > VERSION {
            return Err(Error::Newer(version));
        }
        serde_json::from_slice(bytes).map_err(Error::Json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_version_is_told_from_garbage() {
        assert!(matches!(Progress::read(br#"{"version":2,"other":"shape"}"#), Err(Error::Newer(2))));
        assert!(matches!(Progress::read(br#"{"version":1}"#), Err(Error::Json(_))));
        assert!(matches!(Progress::read(b"garbage"), Err(Error::Json(_))));
    }
}
