//! The frame of the `partials` topic: what one combine transaction adds for one windows partition.
//!
//! Layout: `b'M'`, version, header length (u32, little endian), header (JSON, [`Header`]), then an Arrow IPC stream of
//! partial aggregate states, or nothing. The Arrow part stays opaque here.

use crate::EventTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const MAGIC: u8 = b'M';
/// The version written; an unknown newer one is refused.
pub const VERSION: u8 = 1;
const PREFIX_BYTES: usize = 6;

/// How far one raw partition has been combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// The raw partition.
    pub partition: i32,
    /// The next raw offset to be combined.
    pub next_offset: i64,
    /// The highest event time seen in it; absent while it never had a record.
    pub max_event_time: Option<EventTime>,
    /// Nothing came for a while and all of it is read: it does not hold the watermark back.
    pub idle: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Header {
    /// Partitions of the raw topic: as many progresses the watermark waits for.
    pub sources: i32,
    pub progress: Vec<Progress>,
    /// When the oldest record of the chunk came, by the log's clock. Absent in frames of older builds and of chunks without
    /// records; older builds pass over it, so it needs no version of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_arrival: Option<EventTime>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial<'a> {
    pub header: Header,
    /// An Arrow IPC stream; empty where the transaction had nothing for this partition.
    pub states: &'a [u8],
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("not a partials frame: it does not begin with the letter M")]
    Magic,
    #[error(
        "a partials frame of version {0}; this build reads up to {VERSION}: upgrade the windows stage first"
    )]
    Version(u8),
    #[error("a partials frame cut short at byte {0}")]
    Short(usize),
    #[error("the header of a partials frame")]
    Header(#[source] serde_json::Error),
}

impl Header {
    /// Puts the header before `states`.
    pub fn encode(&self, states: &[u8]) -> Result<Vec<u8>, Error> {
        let header = serde_json::to_vec(self).map_err(Error::Header)?;
        let length = u32::try_from(header.len()).map_err(|_| Error::Short(header.len()))?;
        let mut frame = Vec::with_capacity(PREFIX_BYTES + header.len() + states.len());
        frame.extend([MAGIC, VERSION]);
        frame.extend(length.to_le_bytes());
        frame.extend(header);
        frame.extend(states);
        Ok(frame)
    }
}

impl<'a> Partial<'a> {
    pub fn decode(frame: &'a [u8]) -> Result<Self, Error> {
        let [magic, version, a, b, c, d, rest @ ..] = frame else { return Err(Error::Short(frame.len())) };
        if *magic != MAGIC {
            return Err(Error::Magic);
        }
        if *version != VERSION {
            return Err(Error::Version(*version));
        }
        let length = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
        let (header, states) = rest.split_at_checked(length).ok_or(Error::Short(frame.len()))?;
        Ok(Self { header: serde_json::from_slice(header).map_err(Error::Header)?, states })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let progress = Progress {
            partition: 3,
            next_offset: 42,
            max_event_time: Some(EventTime(1_500_000)),
            idle: false,
        };
        Header { sources: 4, progress: vec![progress], oldest_arrival: Some(EventTime(2_000_000)) }
    }

    /// As builds wrote it before there was `oldest_arrival`: it must be read for ever.
    const GOLDEN: &[u8] = b"M\x01\x74\x00\x00\x00{\"sources\":4,\"progress\":[{\"partition\":3,\"next_offset\":42,\"max_event_time\":\"1970-01-01T00:00:01.500Z\",\"idle\":false}]}arrow";

    #[test]
    fn reads_and_writes_what_older_builds_wrote() {
        let header = Header { oldest_arrival: None, ..header() };
        assert_eq!(header.encode(b"arrow").expect("encodes"), GOLDEN);
        assert_eq!(Partial::decode(GOLDEN).expect("decodes"), Partial { header, states: b"arrow" });
    }

    /// So a new build's frames do not stop a windows stage that has not been upgraded yet.
    #[test]
    fn a_field_that_is_not_known_is_passed_over() {
        let frame =
            [b"M\x01\x2b\x00\x00\x00".as_slice(), br#"{"sources":4,"progress":[],"newer":{"a":1}}"#].concat();
        let header = Header { sources: 4, progress: Vec::new(), oldest_arrival: None };
        assert_eq!(Partial::decode(&frame[..]).map(|partial| partial.header).ok(), Some(header));
    }

    #[test]
    fn reads_what_it_wrote() {
        let frame = header().encode(b"arrow").expect("encodes");
        assert_eq!(Partial::decode(&frame).expect("decodes"), Partial { header: header(), states: b"arrow" });
    }

    #[test]
    fn refuses_other_versions_and_every_cut() {
        let mut frame = header().encode(b"").expect("encodes");
        for cut in 0..frame.len() {
            assert!(matches!(Partial::decode(&frame[..cut]), Err(Error::Short(_))), "cut at {cut}");
        }
        frame[1] = VERSION + 1;
        assert!(matches!(Partial::decode(&frame), Err(Error::Version(2))));
        frame[0] = b'{';
        assert!(matches!(Partial::decode(&frame), Err(Error::Magic)));
    }
}
