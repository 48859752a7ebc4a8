//! Commit tokens: where in the log the records of one ingest request are, as text that a client keeps and shows again.
//!
//! Layout, as base64 (URL-safe, no padding): version, checksum of what follows (u32, little endian; every version has it
//! there), origin (u64, little endian), then for each partition its number and the next offset after the newest of the records, as varints (LEB128),
//! by ascending partition.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use std::collections::BTreeMap;

/// The version that is written; others are refused.
pub const VERSION: u8 = 1;
/// The most partitions that one token names.
pub const PARTITIONS_MAX: usize = 512;
/// The most characters of a token: longer text is refused unread.
pub const TEXT_BYTES_MAX: usize = 10_000;
const PREFIX_BYTES: usize = 13;

/// Which topic of which cluster a token is of: a fingerprint, so that a token of another installation is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(u64);

/// Partition to the next offset after the records, so all of them lie before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitToken {
    pub origin: Origin,
    pub next: BTreeMap<i32, i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("it has {0} characters, of which at most {TEXT_BYTES_MAX} are allowed")]
    TooLong(usize),
    #[error("it has version {0}; this build reads version {VERSION}")]
    Version(u8),
    #[error("it is damaged or no token at all: give it back as the ingest answer has it")]
    Damaged,
}

impl Origin {
    pub fn of(cluster_id: &str, topic: &str) -> Self {
        Self(fnv1a([cluster_id.as_bytes(), &[0], topic.as_bytes()].concat().as_slice()))
    }
}

impl CommitToken {
    /// `None` for more partitions than a token names.
    pub fn encode(&self) -> Option<String> {
        if self.next.len() > PARTITIONS_MAX {
            return None;
        }
        let mut body = self.origin.0.to_le_bytes().to_vec();
        for (partition, next) in &self.next {
            put_varint(&mut body, u64::try_from(*partition).ok()?);
            put_varint(&mut body, u64::try_from(*next).ok()?);
        }
        let mut bytes = vec![VERSION];
        bytes.extend(checksum(&body).to_le_bytes());
        bytes.extend(body);
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads what anybody may have sent.
    pub fn decode(text: &str) -> Result<Self, TokenError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(TokenError::TooLong(text.len()));
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Damaged)?;
        let (prefix, rest) = bytes.split_first_chunk::<PREFIX_BYTES>().ok_or(TokenError::Damaged)?;
        let [version, a, b, c, d, origin @ ..] = *prefix;
        if u32::from_le_bytes([a, b, c, d]) != checksum(&bytes[5..]) {
            return Err(TokenError::Damaged);
        }
        if version != VERSION {
            return Err(TokenError::Version(version));
        }
        let next = read_partitions(rest).ok_or(TokenError::Damaged)?;
        Ok(Self { origin: Origin(u64::from_le_bytes(origin)), next })
    }
}

fn read_partitions(mut bytes: &[u8]) -> Option<BTreeMap<i32, i64>> {
    let mut next = BTreeMap::new();
    let mut last = None;
    while !bytes.is_empty() {
        let partition = i32::try_from(take_varint(&mut bytes)?).ok()?;
        let offset = i64::try_from(take_varint(&mut bytes)?).ok()?;
        if last.is_some_and(|last| partition <= last) || next.len() == PARTITIONS_MAX {
            return None;
        }
        last = Some(partition);
        next.insert(partition, offset);
    }
    Some(next)
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while let Some(more) = std::num::NonZeroU64::new(number >> 7) {
        bytes.push(low_bits(number) | 0x80);
        number = more.get();
    }
    bytes.push(low_bits(number));
}

fn low_bits(number: u64) -> u8 {
    number.to_le_bytes()[0] & 0x7f
}

/// Up to ten bytes; bits past the 64th are no number.
fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(first & 0x7f);
        if bits.leading_zeros() < shift {
            return None;
        }
        number |= bits << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn checksum(bytes: &[u8]) -> u32 {
    let hash = fnv1a(bytes);
    u32::try_from((hash >> 32) ^ (hash & 0xffff_ffff)).expect("both halves have 32 bits")
}

/// FNV-1a, 64 bits (<https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>): against accidents, not attackers.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> impl Strategy<Value = CommitToken> {
        let next = prop::collection::btree_map(0_i32..i32::MAX, 0_i64..i64::MAX, 0..PARTITIONS_MAX);
        (any::<u64>(), next).prop_map(|(origin, next)| CommitToken { origin: Origin(origin), next })
    }

    #[test]
    fn is_short_and_its_format_does_not_change() {
        let token = CommitToken {
            origin: Origin::of("5L6g3nShT-eMCtK--X86sw", "millrace.metrics"),
            next: BTreeMap::from([(0, 12), (3, 1_000_000)]),
        };
        let text = token.encode().expect("two partitions");
        assert_eq!(text, "AWwwCNTKO5Ab1QSzDwAMA8CEPQ");
        assert_eq!(CommitToken::decode(&text), Ok(token));
    }

    #[test]
    fn another_topic_or_cluster_is_another_origin() {
        let origin = Origin::of("a", "bc");
        assert_ne!(origin, Origin::of("ab", "c"));
        assert_ne!(origin, Origin::of("a", "bd"));
    }

    #[test]
    fn says_what_is_wrong() {
        let long = "A".repeat(TEXT_BYTES_MAX + 1);
        assert_eq!(CommitToken::decode(&long), Err(TokenError::TooLong(long.len())));
        assert_eq!(CommitToken::decode("AmwwCNTKO5Ab1QSzDwAMA8CEPQ"), Err(TokenError::Version(2)));
        for damaged in ["", "AQ", "Ag", "?", "AQAAAAAAAAAAAAAAAAA"] {
            assert_eq!(CommitToken::decode(damaged), Err(TokenError::Damaged), "{damaged}");
        }
        let many = (0..=512).map(|partition| (partition, 1)).collect();
        assert_eq!(CommitToken { origin: Origin(1), next: many }.encode(), None);
    }

    proptest! {
        #[test]
        fn reads_what_it_wrote(token in token()) {
            let text = token.encode().expect("not too many partitions");
            prop_assert!(text.len() <= TEXT_BYTES_MAX);
            prop_assert_eq!(CommitToken::decode(&text), Ok(token));
        }

        #[test]
        fn a_changed_character_or_a_cut_is_noticed(token in token(), at in any::<prop::sample::Index>()) {
            let text = token.encode().expect("not too many partitions");
            let at = at.index(text.len());
            prop_assert!(CommitToken::decode(&text[..at]).is_err());
            let other = if &text[at..=at] == "A" { "B" } else { "A" };
            let mut changed = text.clone();
            changed.replace_range(at..=at, other);
            // The last character may have bits that count for nothing; base64 refuses them.
            prop_assert!(CommitToken::decode(&changed).is_err());
        }

        #[test]
        fn any_bytes_are_a_token_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut body = vec![VERSION];
            body.extend(checksum(&bytes).to_le_bytes());
            body.extend(bytes);
            if let Ok(token) = CommitToken::decode(&URL_SAFE_NO_PAD.encode(body)) {
                prop_assert!(token.next.iter().all(|(partition, next)| *partition >= 0 && *next >= 0));
                prop_assert!(token.encode().is_some());
            }
        }
    }
}
