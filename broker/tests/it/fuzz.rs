//! Seeded mutations of what is valid: frames to a running broker, batches to a log, the files that a start reads.
//!
//! Nothing may end the broker, hang it, or make it show what nobody wrote. `MILLRACE_TEST_ROUNDS` multiplies the work;
//! `fuzz/` has the same targets for cargo-fuzz.

mod batches;
mod files;
mod frames;

use crate::harness::Random;

/// Some bytes changed, taken away, put in, doubled, or lengths set to what an attacker would.
fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.bytes(1)[0],
            2 => bytes.truncate(at),
            3 => {
                let more = random.below(16);
                let more = random.bytes(more);
                bytes.splice(at..at, more);
            }
            4 => {
                let end = (at + 4).min(bytes.len());
                let value = *random.pick(&[i32::MAX, i32::MIN, -1, 0, 1 << 20]);
                bytes[at..end].copy_from_slice(&value.to_be_bytes()[..end - at]);
            }
            _ => {
                let piece = bytes[at..(at + random.below(64)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}
