//! What the journal keeps: one event for each durable change of groups, offsets and transactions.
//!
//! The names of variants and fields are the format on the disk: a change needs a new version in `journal`.

use super::transaction::Transaction;
use bytes::Bytes;
use kafka_protocol::ResponseError;
use serde::{Deserialize, Serialize};

/// A topic's name and the number of a partition.
pub type Partition = (String, i32);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Producer ids below `until` may have been given out.
    ProducerIds {
        until: i64,
    },
    /// A generation as it became stable, or a group that became empty.
    Group(GroupRecord),
    /// The group and its offsets are gone.
    GroupDeleted {
        group: String,
    },
    Offsets {
        group: String,
        offsets: Vec<Offset>,
    },
    OffsetsDeleted {
        group: String,
        partitions: Vec<Partition>,
    },
    /// Offsets that count once the transaction of this producer commits.
    PendingOffsets {
        producer_id: i64,
        group: String,
        offsets: Vec<Offset>,
    },
    /// A transactional id as it is now. With `PrepareCommit` its pending offsets become committed, with `PrepareAbort` they
    /// are dropped: the decision is this one event.
    Transaction(Transaction),
    TransactionExpired {
        id: String,
    },
    TopicDeleted {
        topic: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offset {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
    pub committed_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupRecord {
    pub group: String,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    pub since_ms: i64,
    pub members: Vec<MemberRecord>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberRecord {
    pub id: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub protocols: Vec<Protocol>,
    #[serde(with = "hex")]
    pub assignment: Bytes,
}

/// One way of assigning partitions that a member offers, with its subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    pub name: String,
    #[serde(with = "hex")]
    pub metadata: Bytes,
}

/// Where events go before what they say holds.
pub trait Store {
    /// After an error nothing has changed.
    fn store(&mut self, event: &Event) -> Result<(), ResponseError>;
}

/// What a step of a state machine has at hand.
pub struct Turn<'a> {
    pub store: &'a mut dyn Store,
    pub now_ms: i64,
}

/// Events in memory, for tests.
#[cfg(test)]
#[derive(Debug, Default)]
pub struct Memory {
    pub events: Vec<Event>,
    pub is_full: bool,
}

#[cfg(test)]
impl Store for Memory {
    fn store(&mut self, event: &Event) -> Result<(), ResponseError> {
        if self.is_full {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        self.events.push(event.clone());
        Ok(())
    }
}

/// Bytes as hexadecimal text.
mod hex {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    const DIGITS: &[u8; 16] = b"0123456789abcdef";

    pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
        let text: String = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        serializer.serialize_str(&text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        let byte = |pair: &[u8]| match *pair {
            [high, low] => Some(value(high)? << 4 | value(low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        bytes.map(Bytes::from).ok_or_else(|| D::Error::custom("not hexadecimal"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_they_were_written() {
        let all = Protocol { name: "range".into(), metadata: (0..=255).collect() };
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Protocol>(&text).unwrap(), all);
        assert!(serde_json::from_str::<Protocol>(r#"{"name":"x","metadata":"0"}"#).is_err());
        assert!(serde_json::from_str::<Protocol>(r#"{"name":"x","metadata":"zz"}"#).is_err());
    }
}
