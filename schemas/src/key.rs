//! Record keys and the partitioner: `workspace/service` as text, hashed with murmur2 as Kafka's own clients do.

use crate::{ServiceId, WorkspaceId};

/// The key of a record: the two ids in their hyphenated form, with a slash between.
pub fn record_key(workspace: WorkspaceId, service: ServiceId) -> String {
    format!("{workspace}/{service}")
}

/// The key of a record without a value that a stage writes to end a transaction which Kafka has left open. It says nothing.
pub const CLOSING: &str = "millrace.closing";

/// Header of what a stage writes in a transaction: of each entry of the ledger and each dead letter, elsewhere of the first record
/// in a partition. It has the transaction's number (a UUID of version 7), a partition whose offset it commits, and its
/// transactional id, with spaces between. The metadata of the offsets that it commits end with a bar and the number.
pub const TRANSACTION: &str = "millrace.transaction";

/// The partition that Kafka's default partitioner gives `key` (librdkafka: `murmur2_random`).
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    let hash = i32::from_ne_bytes((murmur2(key) & 0x7fff_ffff).to_ne_bytes());
    hash % partitions.max(1)
}

/// MurmurHash2, 32 bits, seed 0x9747b28c (org.apache.kafka.common.utils.Utils.murmur2).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c ^ length;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let tail = chunks.remainder();
    if !tail.is_empty() {
        for (index, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own UtilsTest.testMurmur2.
    #[test]
    fn hashes_as_the_java_client_does() {
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, expected) in cases {
            assert_eq!(i32::from_ne_bytes(murmur2(key.as_bytes()).to_ne_bytes()), expected, "{key}");
        }
    }
}
