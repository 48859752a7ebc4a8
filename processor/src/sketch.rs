//! A mergeable quantile sketch with a bounded relative error, and its canonical bytes.
//!
//! DDSketch (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees",
//! VLDB 2019) with logarithmic bins. Bin `i` holds the values in (γ^(i-1), γ^i] with γ = 1.02, and answers
//! 2γ^i / (γ + 1): at most (γ-1)/(γ+1) = 0.99 % off. A sketch is a function of the multiset of values alone, so any
//! order and grouping of merges gives the same bytes.

mod bins;
mod bytes;

use bins::Bins;
pub use bytes::SketchError;

/// Ratio of neighbouring bin bounds.
const GAMMA: f64 = 1.02;
/// Values below are held to be zero: a picosecond, were the unit milliseconds.
const VALUE_MIN: f64 = 1e-9;
/// Values above are held to be this one; records are refused long before.
const VALUE_MAX: f64 = 1e15;

/// Counts of non-negative values by logarithmic bins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    zeros: u64,
    bins: Bins,
}

/// A quantile as a fraction of integers, so that ranks are exact: 0.95 · n in floating point is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerMille(pub u64);

impl Sketch {
    /// Adds one value; negative ones and NaN count as zero (records with such are refused at the door).
    pub fn add(&mut self, value: f64) {
        if value >= VALUE_MIN {
            self.bins.add(bin_of(value.min(VALUE_MAX)), 1);
        } else {
            self.zeros = self.zeros.saturating_add(1);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.zeros = self.zeros.saturating_add(other.zeros);
        other.bins.for_each(|index, count| self.bins.add(index, count));
    }

    pub fn is_empty(&self) -> bool {
        self.zeros == 0 && self.bins.is_empty()
    }

    pub fn count(&self) -> u64 {
        self.zeros.saturating_add(self.bins.sum())
    }

    /// The value of rank ⌈q·n⌉ (nearest rank), within 1 %; `None` of an empty sketch.
    pub fn quantile(&self, q: PerMille) -> Option<f64> {
        self.quantiles([q]).map(|[value]| value)
    }

    /// The same of several at once, the smaller one first.
    pub fn quantiles<const N: usize>(&self, of: [PerMille; N]) -> Option<[f64; N]> {
        debug_assert!(of.is_sorted_by_key(|q| q.0), "they rise");
        let count = self.count();
        if count == 0 {
            return None;
        }
        let ranks = of.map(|q| (count - floor_share(count, 1000 - q.0.min(1000))).max(1));
        let above_zeros = ranks.map(|rank| rank.saturating_sub(self.zeros));
        Some(self.bins.find(above_zeros).map(|index| index.map_or(0.0, value_of)))
    }

    /// Bytes held on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.bins.heap_bytes()
    }
}

/// ⌊count · per_mille / 1000⌋ without overflow.
fn floor_share(count: u64, per_mille: u64) -> u64 {
    let share = u128::from(count) * u128::from(per_mille) / 1000;
    u64::try_from(share).expect("a share of a u64 is a u64")
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "values are within VALUE_MIN..=VALUE_MAX: some thousand bins"
)]
fn bin_of(value: f64) -> i32 {
    let place = value.ln() * INVERSE_LN_GAMMA;
    // Rounded up, as `ceil` would; which is a call where the processor may be an old one.
    let towards_zero = place as i32;
    towards_zero + i32::from(f64::from(towards_zero) < place)
}

/// 1 / ln 1.02
const INVERSE_LN_GAMMA: f64 = 50.4983497918439;

fn value_of(index: i32) -> f64 {
    2.0 * GAMMA.powi(index) / (GAMMA + 1.0)
}

#[cfg(test)]
mod tests;
