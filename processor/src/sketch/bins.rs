//! The counts of a sketch.

/// Bins whose counts are added up at once when a rank is looked for.
const BLOCK: usize = 16;

/// Contiguous bins. Most sketches are of few values and there are very many of them: their counts have 16 bits until one
/// has more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bins {
    /// Index of the first one; meaningless while there are none.
    first: i32,
    counts: Counts,
}

/// Neither the first nor the last is ever 0.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Counts {
    Narrow(Vec<u16>),
    /// One of them needs it.
    Wide(Vec<u64>),
}

impl Default for Counts {
    fn default() -> Self {
        Self::Narrow(Vec::new())
    }
}

impl Bins {
    #[inline]
    pub(super) fn add(&mut self, index: i32, count: u64) {
        // Nearly always its bin is there, and stays narrow.
        if let Counts::Narrow(counts) = &mut self.counts
            && let Some(found) = counts.get_mut(index.wrapping_sub(self.first).cast_unsigned() as usize)
            && let Ok(sum) = u16::try_from(count.saturating_add((*found).into()))
        {
            *found = sum;
        } else {
            self.add_anywhere(index, count);
        }
    }

    #[inline(never)]
    fn add_anywhere(&mut self, index: i32, count: u64) {
        if let Counts::Narrow(counts) = &mut self.counts {
            let found = bin(counts, &mut self.first, index);
            if let Some(sum) = u16::try_from(count).ok().and_then(|count| found.checked_add(count)) {
                *found = sum;
                return;
            }
            self.counts = Counts::Wide(counts.iter().map(|count| u64::from(*count)).collect());
        }
        if let Counts::Wide(counts) = &mut self.counts {
            let found = bin(counts, &mut self.first, index);
            *found = found.saturating_add(count);
        }
    }

    /// Gives `each` (index, count) of every bin that isn't empty, in rising order.
    pub(super) fn for_each(&self, each: impl FnMut(i32, u64)) {
        match &self.counts {
            Counts::Narrow(counts) => for_each(self.first, counts, each),
            Counts::Wide(counts) => for_each(self.first, counts, each),
        }
    }

    /// The index of the bin in which each of these ranks is, which rise: the first has rank 1. `None` of rank 0; what is
    /// above all is in the last one.
    pub(super) fn find<const N: usize>(&self, ranks: [u64; N]) -> [Option<i32>; N] {
        match &self.counts {
            Counts::Narrow(counts) => find(self.first, counts, narrow_sum, ranks),
            Counts::Wide(counts) => find(self.first, counts, wide_sum, ranks),
        }
    }

    /// Makes room for so many more bins.
    pub(super) fn reserve(&mut self, more: usize) {
        match &mut self.counts {
            Counts::Narrow(counts) => counts.reserve(more),
            Counts::Wide(counts) => counts.reserve(more),
        }
    }

    /// Of all bins together.
    pub(super) fn sum(&self) -> u64 {
        match &self.counts {
            Counts::Narrow(counts) => narrow_sum(counts),
            Counts::Wide(counts) => wide_sum(counts),
        }
    }

    /// Those that aren't empty.
    pub(super) fn filled(&self) -> usize {
        match &self.counts {
            Counts::Narrow(counts) => counts.iter().filter(|count| **count > 0).count(),
            Counts::Wide(counts) => counts.iter().filter(|count| **count > 0).count(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// With those that are empty.
    pub(super) fn len(&self) -> usize {
        match &self.counts {
            Counts::Narrow(counts) => counts.len(),
            Counts::Wide(counts) => counts.len(),
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match &self.counts {
            Counts::Narrow(counts) => counts.capacity() * size_of::<u16>(),
            Counts::Wide(counts) => counts.capacity() * size_of::<u64>(),
        }
    }
}

fn for_each<T: Copy + Into<u64>>(first: i32, counts: &[T], mut each: impl FnMut(i32, u64)) {
    for (index, count) in (first..).zip(counts) {
        let count = (*count).into();
        if count > 0 {
            each(index, count);
        }
    }
}

fn find<T, const N: usize>(
    first: i32,
    counts: &[T],
    sum: impl Fn(&[T]) -> u64,
    ranks: [u64; N],
) -> [Option<i32>; N] {
    let (mut at, mut below) = (0, 0_u64);
    ranks.map(|rank| {
        // Blocks without a look at each of their bins, and then one by one.
        for step in [BLOCK, 1] {
            while at + step < counts.len() {
                let up_to = below.saturating_add(sum(&counts[at..at + step]));
                if up_to >= rank {
                    break;
                }
                (at, below) = (at + step, up_to);
            }
        }
        (rank > 0).then(|| first + i32::try_from(at).expect("bins number some thousands"))
    })
}

fn narrow_sum(counts: &[u16]) -> u64 {
    counts.iter().map(|count| u64::from(*count)).sum()
}

fn wide_sum(counts: &[u64]) -> u64 {
    counts.iter().copied().fold(0, u64::saturating_add)
}

/// The count of a bin, which is there afterwards.
fn bin<'c, T: Copy + Default>(counts: &'c mut Vec<T>, first: &mut i32, index: i32) -> &'c mut T {
    if counts.is_empty() {
        *first = index;
    }
    if index < *first {
        let missing = usize::try_from(*first - index).expect("bins number some thousands");
        counts.splice(0..0, std::iter::repeat_n(T::default(), missing));
        *first = index;
    }
    let at = usize::try_from(index - *first).expect("the first bin is not above the index");
    if at >= counts.len() {
        counts.resize(at + 1, T::default());
    }
    &mut counts[at]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn bins(counts: impl IntoIterator<Item = (i32, u64)>) -> Bins {
        let mut bins = Bins::default();
        counts.into_iter().for_each(|(index, count)| bins.add(index, count));
        bins
    }

    fn count() -> impl Strategy<Value = u64> {
        let narrow = u64::from(u16::MAX);
        prop_oneof![4 => 1..4_u64, 2 => 1..=narrow, 1 => narrow..narrow + 3, 1 => u64::MAX - 5..=u64::MAX]
    }

    proptest! {
        #[test]
        fn adds_up_whatever_the_counts_need(counts in prop::collection::vec((-300..300_i32, count()), 0..200)) {
            let mut truth = BTreeMap::<i32, u64>::new();
            for (index, count) in &counts {
                let sum = truth.entry(*index).or_default();
                *sum = sum.saturating_add(*count);
            }
            let all = bins(counts.iter().copied());
            let mut walked = Vec::new();
            all.for_each(|index, count| walked.push((index, count)));
            prop_assert_eq!(&walked, &truth.iter().map(|(index, count)| (*index, *count)).collect::<Vec<_>>());
            prop_assert_eq!(all.filled(), truth.len());
            prop_assert_eq!(all.sum(), truth.values().copied().fold(0, u64::saturating_add));
            prop_assert_eq!(all.is_empty(), truth.is_empty());
            // The same counts are the same bins, in whatever order they came.
            prop_assert_eq!(&all, &bins(counts.iter().rev().copied()));
            prop_assert_eq!(all, bins(truth));
        }
    }

    proptest! {
        #[test]
        fn finds_ranks_as_one_who_looks_at_each_bin(
            counts in prop::collection::vec((-300..300_i32, count()), 1..200),
            ranks in (any::<u64>(), 0..5_u64, 0..200_000_u64),
        ) {
            let bins = bins(counts);
            let sum = bins.sum();
            let mut ranks = [ranks.0, ranks.1, ranks.2].map(|rank| rank.min(sum));
            ranks.sort_unstable();
            let expected = ranks.map(|rank| {
                let (mut seen, mut found) = (0_u64, None);
                bins.for_each(|index, count| {
                    seen = seen.saturating_add(count);
                    found = found.or((rank > 0 && seen >= rank).then_some(index));
                });
                found
            });
            prop_assert_eq!(bins.find(ranks), expected);
        }
    }

    #[test]
    fn is_wide_only_where_it_must_be() {
        assert!(bins([(0, 1); 5]).heap_bytes() < 4 * size_of::<u64>());
        assert!(matches!(bins([(0, 65_535)]).counts, Counts::Narrow(_)));
        assert!(matches!(bins([(0, 65_535), (0, 1)]).counts, Counts::Wide(_)));
    }
}
