//! Dead letters as people work on them: listed newest first, a page at a time, and sent through once more. What a request
//! costs is bounded: [`page`] decides what is read, [`reader`] reads it, [`replay`] produces.

pub mod page;
pub mod reader;
pub mod replay;
mod view;

pub use view::LetterView;

use millrace_schemas::{EventTime, WorkspaceId, dead_letter};
use rdkafka::{
    Message, Timestamp,
    message::{BorrowedMessage, Headers},
};
use serde::Deserialize;
use std::{fmt, str::FromStr};

/// Where a dead letter is: partition and offset of the `dead-letters` topic, written `partition-offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LetterId {
    pub partition: i32,
    pub offset: i64,
}

/// Neither.
#[derive(Debug, thiserror::Error)]
#[error("Invalid id '{0}': an id is partition and offset, such as 0-17")]
pub struct InvalidId(String);

/// What decides whether a letter is wanted, without its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub id: LetterId,
    /// When it became a dead letter, by the log's clock.
    pub at: EventTime,
    pub reason: Option<String>,
    /// What its value says; `None` where that can't be read.
    pub workspace: Option<WorkspaceId>,
    pub bytes: usize,
}

/// A whole dead letter.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    pub entry: Entry,
    pub error: Option<String>,
    pub source: Source,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// How many bytes the value had, where key or value was too large and cut.
    pub cut_from_bytes: Option<String>,
}

/// Where it was read from; `None` where the letter does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub offset: Option<i64>,
    pub time: Option<EventTime>,
}

/// Whose letters are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those of one workspace.
    Of(WorkspaceId),
    /// All of the installation.
    All,
}

impl Whose {
    pub fn has(self, entry: &Entry) -> bool {
        match self {
            Self::Of(workspace) => entry.workspace == Some(workspace),
            Self::All => true,
        }
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition, self.offset)
    }
}

impl FromStr for LetterId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let parse = || {
            let (partition, offset) = text.split_once('-')?;
            let valid = digits(partition) && digits(offset);
            valid.then_some(Self { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
        };
        parse().ok_or_else(|| InvalidId(text.chars().take(64).collect()))
    }
}

#[derive(Deserialize)]
struct ValueHead {
    workspace_id: WorkspaceId,
}

impl Entry {
    pub fn of(message: &BorrowedMessage<'_>) -> Self {
        let at = match message.timestamp() {
            Timestamp::NotAvailable => EventTime(0),
            Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) => EventTime::from_millis(ms),
        };
        // serde_json has a limit of its own to how deep it reads.
        let head = message.payload().and_then(|value| serde_json::from_slice::<ValueHead>(value).ok());
        Self {
            id: LetterId { partition: message.partition(), offset: message.offset() },
            at,
            reason: header(message, dead_letter::REASON),
            workspace: head.map(|head| head.workspace_id),
            bytes: message.payload_len() + message.key_len(),
        }
    }
}

impl Letter {
    pub fn of(message: &BorrowedMessage<'_>) -> Self {
        let number = |name| header(message, name).and_then(|text| text.parse().ok());
        Self {
            entry: Entry::of(message),
            error: header(message, dead_letter::ERROR),
            source: Source {
                topic: header(message, dead_letter::SOURCE_TOPIC),
                partition: number(dead_letter::SOURCE_PARTITION)
                    .and_then(|number: i64| number.try_into().ok()),
                offset: number(dead_letter::SOURCE_OFFSET),
                time: header(message, dead_letter::SOURCE_TIME).and_then(|text| EventTime::parse(&text)),
            },
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            cut_from_bytes: header(message, dead_letter::CUT_FROM_BYTES),
        }
    }
}

fn header(message: &BorrowedMessage<'_>, name: &str) -> Option<String> {
    let headers = message.headers()?;
    let value = headers.iter().find(|header| header.key == name)?.value?;
    Some(String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn entry(partition: i32, offset: i64, at_s: i64) -> Entry {
        Entry {
            id: LetterId { partition, offset },
            at: EventTime(at_s * 1_000_000),
            reason: Some("invalid".to_owned()),
            workspace: None,
            bytes: 10,
        }
    }

    #[test]
    fn ids_are_partition_and_offset() {
        let id = LetterId { partition: 3, offset: 1_000_000_000_000 };
        assert_eq!(id.to_string().parse::<LetterId>().ok(), Some(id));
        for bad in ["", "3", "-3", "3-", "3-+4", "3--4", "a-1", "1-9223372036854775808", "3-4-5", " 3-4"] {
            assert!(bad.parse::<LetterId>().is_err(), "{bad}");
        }
    }
}
