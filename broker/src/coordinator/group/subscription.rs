//! Which topics the members of a consumer group are subscribed to, as far as their subscriptions can be read.

use super::{Group, State};
use kafka_protocol::ResponseError;
use std::collections::BTreeSet;

const CONSUMER: &str = "consumer";

impl Group {
    /// Topics whose offsets may not be deleted. NonEmptyGroup where that can't be known.
    pub fn topics_in_use(&self) -> Result<InUse, ResponseError> {
        if self.state == State::Empty {
            return Ok(InUse::Some(BTreeSet::new()));
        }
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return Err(ResponseError::NonEmptyGroup);
        }
        let Some(protocol) = &self.protocol else { return Ok(InUse::All) };
        let mut topics = BTreeSet::new();
        for (_, member) in self.members() {
            match subscribed(&member.metadata(protocol)) {
                Some(more) => topics.extend(more),
                None => return Ok(InUse::All),
            }
        }
        Ok(InUse::Some(topics))
    }
}

#[derive(Debug, PartialEq)]
pub enum InUse {
    /// A subscription can't be read.
    All,
    Some(BTreeSet<String>),
}

impl InUse {
    pub fn contains(&self, topic: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(topics) => topics.contains(topic),
        }
    }
}

/// Topics of a ConsumerProtocolSubscription: a version, then an array of strings.
fn subscribed(metadata: &[u8]) -> Option<Vec<String>> {
    let (_version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut topics = Vec::new();
    for _ in 0..u32::try_from(i32::from_be_bytes(*count)).ok()? {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let len = usize::try_from(i16::from_be_bytes(*len)).ok()?;
        let (name, after) = after.split_at_checked(len)?;
        topics.push(std::str::from_utf8(name).ok()?.to_owned());
        rest = after;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_garbage_is_refused() {
        let good = b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff";
        assert_eq!(subscribed(good), Some(vec!["a".into(), "bc".into()]));
        for bad in
            [&b""[..], b"\0", b"\0\0\xff\xff\xff\xff", b"\0\0\x7f\xff\xff\xff", b"\0\0\0\0\0\x01\xff\xff"]
        {
            assert_eq!(subscribed(bad), None, "{bad:?}");
        }
    }
}
