//! A commit token, as any client may send it; with the checksum set right too, which a fuzzer would never guess.
#![no_main]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use millrace_schemas::CommitToken;

fn check(text: &str) {
    if let Ok(token) = CommitToken::decode(text) {
        assert!(token.next.iter().all(|(partition, next)| *partition >= 0 && *next >= 0));
        let written = token.encode().expect("it was read");
        assert_eq!(CommitToken::decode(&written), Ok(token));
    }
}

/// As `schemas/src/token.rs` has it.
fn checksum(bytes: &[u8]) -> u32 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 32) as u32 ^ hash as u32
}

fuzz_target!(|data: &[u8]| {
    check(&String::from_utf8_lossy(data));
    let mut bytes = vec![1];
    bytes.extend(checksum(data).to_le_bytes());
    bytes.extend(data);
    check(&URL_SAFE_NO_PAD.encode(bytes));
});
