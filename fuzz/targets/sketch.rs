//! A sketch, as a frame or a delta may bring it: what is read has one encoding, and can be merged and asked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_fuzz::sketch::{PerMille, Sketch};

fuzz_target!(|data: &[u8]| {
    // Two, to be merged.
    let (one, other) = data.split_at(data.len() / 2);
    let Ok(sketch) = Sketch::from_bytes(data).or_else(|_| Sketch::from_bytes(one)) else { return };
    let bytes = sketch.to_bytes();
    assert_eq!(Sketch::from_bytes(&bytes).as_ref(), Ok(&sketch));
    let other = Sketch::from_bytes(other).unwrap_or_else(|_| sketch.clone());
    let mut left = sketch.clone();
    left.merge(&other);
    let mut right = other;
    right.merge_bytes(&bytes).expect("our own");
    assert_eq!(left.to_bytes(), right.to_bytes());
    let asked = [0, 1, 500, 999, 1000].map(PerMille);
    let quantiles: Vec<_> = asked.into_iter().filter_map(|q| left.quantile(q)).collect();
    assert_eq!(quantiles.len(), if left.is_empty() { 0 } else { 5 });
    assert_eq!(left.quantiles(asked).map(Vec::from).unwrap_or_default(), quantiles);
    assert!(quantiles.is_sorted(), "{quantiles:?}");
});
