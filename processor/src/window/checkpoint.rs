//! What the windows stage commits beside an offset (as the offset's metadata), so that a restart knows where it was.
//!
//! Bytes: version, then watermark, `rebuild_from`, `aggregates_from`, and a number for each source, all i64 little endian;
//! as base64, since Kafka's metadata is text. A source is (milliseconds · 2 + idle), or i64::MIN and its neighbour where
//! it has no event time. 300 partitions take 3,300 of the 4,096 bytes that Kafka allows.

use super::Source;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use millrace_schemas::EventTime;

const VERSION: u8 = 1;
const NONE: i64 = i64::MIN;
/// A source that has not told anything yet.
const UNKNOWN: i64 = i64::MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub watermark: Option<EventTime>,
    /// The oldest offset of the partials partition that a window still held has states from.
    pub rebuild_from: i64,
    /// No row of a window still held lies before this offset of the aggregates partition.
    pub aggregates_from: i64,
    pub sources: Vec<Option<Source>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    #[error("a windows checkpoint of version {0}; this build reads version {VERSION}: upgrade it")]
    Version(u8),
    #[error(
        "a windows checkpoint that can't be read: reset the offsets of the windows group to rebuild from the log"
    )]
    Malformed,
}

impl Checkpoint {
    pub fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        let watermark = self.watermark.map_or(NONE, EventTime::as_micros);
        let sources = self.sources.iter().map(|source| source.as_ref().map_or(UNKNOWN, encode_source));
        for number in [watermark, self.rebuild_from, self.aggregates_from].into_iter().chain(sources) {
            bytes.extend(number.to_le_bytes());
        }
        STANDARD_NO_PAD.encode(bytes)
    }

    pub fn decode(text: &str) -> Result<Self, CheckpointError> {
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| CheckpointError::Malformed)?;
        let (version, numbers) = bytes.split_first().ok_or(CheckpointError::Malformed)?;
        if *version != VERSION {
            return Err(CheckpointError::Version(*version));
        }
        let (numbers, rest) = numbers.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|number| i64::from_le_bytes(*number));
        let mut next = || numbers.next().ok_or(CheckpointError::Malformed);
        let (watermark, rebuild_from, aggregates_from) = (next()?, next()?, next()?);
        if !rest.is_empty() {
            return Err(CheckpointError::Malformed);
        }
        let watermark = (watermark != NONE).then_some(EventTime(watermark));
        Ok(Self { watermark, rebuild_from, aggregates_from, sources: numbers.map(decode_source).collect() })
    }
}

fn encode_source(source: &Source) -> i64 {
    // Far within an i64: event times are microseconds, so milliseconds leave ten bits.
    source.max_event_time.map_or(NONE, |time| time.as_millis() * 2) + i64::from(source.idle)
}

fn decode_source(number: i64) -> Option<Source> {
    if number == UNKNOWN {
        return None;
    }
    let idle = number & 1 == 1;
    let time = number & !1;
    Some(Source { max_event_time: (time != NONE).then(|| EventTime::from_millis(time / 2)), idle })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source() -> impl Strategy<Value = Option<Source>> {
        let time =
            prop::option::of((-1_000_000_000_000_i64..4_000_000_000_000).prop_map(EventTime::from_millis));
        prop::option::of(
            (time, any::<bool>()).prop_map(|(max_event_time, idle)| Source { max_event_time, idle }),
        )
    }

    /// As version 1 wrote it: groups hold it for as long as a processor may be off.
    #[test]
    fn the_first_version_is_read() {
        let golden = include_str!("../../golden/checkpoint-1.txt");
        let source =
            |millis, idle| Some(Source { max_event_time: Some(EventTime::from_millis(millis)), idle });
        let checkpoint = Checkpoint {
            watermark: Some(EventTime(1_767_225_600_000_000)),
            rebuild_from: 7,
            aggregates_from: 9,
            sources: vec![
                None,
                Some(Source { max_event_time: None, idle: true }),
                source(1_767_225_602_000, false),
                source(-1, true),
            ],
        };
        assert_eq!(Checkpoint::decode(golden), Ok(checkpoint.clone()));
        assert_eq!(checkpoint.encode(), golden);
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let error = Checkpoint::decode("AgAA").expect_err("newer");
        assert_eq!(error, CheckpointError::Version(2));
        assert_eq!(
            error.to_string(),
            "a windows checkpoint of version 2; this build reads version 1: upgrade it"
        );
    }

    proptest! {
        #[test]
        fn reads_what_it_wrote(
            watermark in prop::option::of(-9_000_000_000_000_000_i64..9_000_000_000_000_000),
            from in 0_i64..i64::MAX, sources in prop::collection::vec(source(), 0..301),
        ) {
            let watermark = watermark.map(EventTime);
            let checkpoint = Checkpoint { watermark, rebuild_from: from, aggregates_from: from / 2, sources };
            let text = checkpoint.encode();
            prop_assert!(text.len() <= 4096);
            prop_assert_eq!(Checkpoint::decode(&text), Ok(checkpoint));
        }

        #[test]
        fn garbage_is_an_error_not_a_panic(text in "\\PC{0,80}") {
            prop_assert!(Checkpoint::decode(&text).is_err());
        }
    }
}
