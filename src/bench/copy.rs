//! The limit of memory: the same bytes, copied once.

use super::site::usage::count;
use std::{hint::black_box, time::Instant};

/// Far more than the caches hold.
const PIECE_BYTES: usize = 64 * 1024 * 1024;

/// Records of so many bytes that one thread copies in a second.
pub(super) async fn records_per_s(records: u64, record_bytes: usize) -> anyhow::Result<f64> {
    let copied = tokio::task::spawn_blocking(move || {
        let (from, mut to) = (vec![1_u8; PIECE_BYTES], vec![2_u8; PIECE_BYTES]);
        let mut left = usize::try_from(records).unwrap_or(usize::MAX).saturating_mul(record_bytes);
        let started = Instant::now();
        while left > 0 {
            let bytes = left.min(PIECE_BYTES);
            black_box(&mut to)[..bytes].copy_from_slice(&black_box(&from)[..bytes]);
            left -= bytes;
        }
        started.elapsed()
    });
    Ok(count(records) / copied.await?.as_secs_f64())
}
