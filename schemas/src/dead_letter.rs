//! Dead letters: a record that could not be counted keeps its key and value byte for byte; where it came from and why
//! it is here stand in its headers (UTF-8 text).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Header: one of [`Reason`].
pub const REASON: &str = "millrace.reason";
/// Header: what was wrong, for a person to read.
pub const ERROR: &str = "millrace.error";
/// Header: the topic it was read from.
pub const SOURCE_TOPIC: &str = "millrace.source.topic";
/// Header: the partition it was read from, decimal.
pub const SOURCE_PARTITION: &str = "millrace.source.partition";
/// Header: its offset there, decimal.
pub const SOURCE_OFFSET: &str = "millrace.source.offset";
/// Header: when the log had got it there, RFC 3339. Letters of older builds do not have it.
pub const SOURCE_TIME: &str = "millrace.source.time";

/// Header of a record of the `metrics` topic that was a dead letter and was sent again: the dead letter's partition and
/// offset in its topic, `partition-offset`.
pub const REPLAYED_FROM: &str = "millrace.replayed_from";

/// Header, only where key or value was too large for a dead letter and cut: how many bytes the value had, decimal.
pub const CUT_FROM_BYTES: &str = "millrace.cut_from_bytes";

/// Why a record is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Not a valid record: no JSON, a field missing or out of its limits.
    Invalid,
    /// No workspace has its `workspace_id`.
    UnknownWorkspace,
    /// `completed_at` lies further ahead of the log's clock than the allowed skew.
    Future,
}

impl Reason {
    pub const ALL: [Self; 3] = [Self::Invalid, Self::UnknownWorkspace, Self::Future];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::UnknownWorkspace => "unknown_workspace",
            Self::Future => "future",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The headers of a dead letter as one object: the shape of what tools show of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterHeaders {
    #[serde(rename = "millrace.reason")]
    pub reason: Reason,
    #[serde(rename = "millrace.error")]
    pub error: String,
    #[serde(rename = "millrace.source.topic")]
    pub source_topic: String,
    #[serde(rename = "millrace.source.partition")]
    pub source_partition: String,
    #[serde(rename = "millrace.source.offset")]
    pub source_offset: String,
    #[serde(rename = "millrace.source.time", default, skip_serializing_if = "Option::is_none")]
    pub source_time: Option<String>,
    /// Only where the value was cut.
    #[serde(rename = "millrace.cut_from_bytes", default, skip_serializing_if = "Option::is_none")]
    pub cut_from_bytes: Option<String>,
}
