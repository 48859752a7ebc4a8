//! Where to begin reading a partition, and from where on verdicts are exact. Pure.

use crate::{admission::Admission, settings::AdmissionSettings};
use millrace_log::NextOffset;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// Records from here on are read, for the duplicate memory.
    pub read: NextOffset,
    /// Verdicts from here on are those that combine came to.
    pub exact: NextOffset,
}

impl Start {
    /// `low` is the first offset that retention has left, `wanted` the first that is to be audited.
    pub(super) fn of(low: NextOffset, wanted: NextOffset, settings: &AdmissionSettings) -> Self {
        let generation = i64::from(settings.dedupe_records);
        // The memory at an offset is whole when all of the generation before its own can be read.
        let whole = match low.get() {
            0 => 0,
            low => (low.div_euclid(generation) + i64::from(low % generation > 0) + 1) * generation,
        };
        let exact = wanted.max(NextOffset::exclusive(whole));
        Self { read: Admission::restore_from(exact, settings).max(low), exact }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(low: i64, wanted: i64) -> (i64, i64) {
        let settings = AdmissionSettings { dedupe_records: 100, ..AdmissionSettings::default() };
        let start = Start::of(NextOffset::exclusive(low), NextOffset::exclusive(wanted), &settings);
        (start.read.get(), start.exact.get())
    }

    #[test]
    fn a_whole_log_is_exact_from_where_it_is_wanted() {
        assert_eq!(start(0, 0), (0, 0));
        assert_eq!(start(0, 250), (100, 250));
    }

    #[test]
    fn after_retention_it_is_exact_once_a_whole_generation_was_read() {
        assert_eq!(start(1, 1), (100, 200));
        assert_eq!(start(100, 100), (100, 200));
        assert_eq!(start(101, 101), (200, 300));
        assert_eq!(start(101, 1_050), (900, 1_050));
    }
}
