//! Numbers of counted records by workspace, service and time, to be held against the stored rows. Memory is bounded: when
//! there are too many cells, the time becomes coarser, and the sums stay exact. Pure.

use super::finding::{Check, Findings};
use crate::plan::Key;
use hashbrown::HashMap;
use millrace_schemas::EventTime;

/// Some 100 bytes each.
const CELLS_MAX: usize = 2_000_000;
/// 5 s, and each a multiple of the one before.
const WIDTHS_S: [i64; 6] = [5, 60, 300, 3_600, 86_400, 30 * 86_400];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    counted: i64,
    /// Records that came while the audit ran: they may be in the rows or not.
    moving: i64,
    stored: i64,
}

#[derive(Debug)]
pub(super) struct Cells {
    level: usize,
    cells_max: usize,
    cells: HashMap<(Key, i64), Cell>,
    /// Of earlier times not all records are known.
    exact_from: Option<EventTime>,
}

impl Default for Cells {
    fn default() -> Self {
        Self { level: 0, cells_max: CELLS_MAX, cells: HashMap::new(), exact_from: None }
    }
}

impl Cells {
    /// Only what is of this time or later is compared.
    pub(super) fn exact_from(&mut self, time: Option<EventTime>) {
        self.exact_from = self.exact_from.max(time);
    }

    pub(super) fn width_s(&self) -> i64 {
        WIDTHS_S[self.level]
    }

    pub(super) fn counted(&mut self, key: Key, time: EventTime) {
        self.cell(key, time).counted += 1;
    }

    pub(super) fn moving(&mut self, key: Key, time: EventTime) {
        self.cell(key, time).moving += 1;
    }

    /// `bucket` counts widths since the epoch.
    pub(super) fn stored(&mut self, key: Key, bucket: i64, count: i64) {
        self.cells.entry((key, bucket)).or_default().stored += count;
    }

    fn cell(&mut self, key: Key, time: EventTime) -> &mut Cell {
        if self.cells.len() >= self.cells_max && self.level + 1 < WIDTHS_S.len() {
            self.coarsen();
        }
        let bucket = time.as_micros().div_euclid(self.width_s() * 1_000_000);
        self.cells.entry((key, bucket)).or_default()
    }

    fn coarsen(&mut self) {
        let before = self.width_s();
        self.level += 1;
        let factor = self.width_s() / before;
        for ((key, bucket), cell) in std::mem::take(&mut self.cells) {
            let sum = self.cells.entry((key, bucket.div_euclid(factor))).or_default();
            sum.counted += cell.counted;
            sum.moving += cell.moving;
            sum.stored += cell.stored;
        }
    }

    /// The first bucket of which all records are known.
    pub(super) fn first(&self) -> i64 {
        let width = self.width_s() * 1_000_000;
        self.exact_from.map_or(i64::MIN, |time| time.as_micros().div_euclid(width) + 1)
    }

    /// Compares; how many cells.
    pub(super) fn compare(&self, findings: &mut Findings) -> u64 {
        let first = self.first();
        let mut cells: Vec<_> = self.cells.iter().filter(|((_, bucket), _)| *bucket >= first).collect();
        cells.sort_unstable_by_key(|((key, bucket), _)| (*bucket, *key));
        for ((key, bucket), cell) in &cells {
            if !(cell.counted..=cell.counted + cell.moving).contains(&cell.stored) {
                let start = EventTime(bucket.saturating_mul(self.width_s() * 1_000_000));
                findings.add(Check::Windows, || {
                    format!(
                        "workspace {} service {} from {start} for {} s: {} stored, {} in the log",
                        key.workspace,
                        key.service,
                        self.width_s(),
                        cell.stored,
                        cell.counted
                    )
                });
            }
        }
        cells.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_schemas::{ServiceId, WorkspaceId};
    use uuid::Uuid;

    fn key(service: u128) -> Key {
        Key { workspace: WorkspaceId(Uuid::nil()), service: ServiceId(Uuid::from_u128(service)) }
    }

    fn at(second: i64) -> EventTime {
        EventTime(second * 1_000_000)
    }

    fn wrong(cells: &Cells) -> u64 {
        let mut findings = Findings::default();
        cells.compare(&mut findings);
        findings.0.get(&Check::Windows).map_or(0, |finding| finding.count)
    }

    #[test]
    fn a_row_with_another_number_is_found() {
        let mut cells = Cells::default();
        (0..10).for_each(|second| cells.counted(key(1), at(second)));
        cells.stored(key(1), 0, 5);
        assert_eq!(wrong(&cells), 1, "the second window is not stored");
        cells.stored(key(1), 1, 5);
        assert_eq!(wrong(&cells), 0);
        cells.stored(key(2), 1, 1);
        assert_eq!(wrong(&cells), 1, "another service has a row without records");
    }

    #[test]
    fn what_came_meanwhile_may_be_stored_or_not() {
        let mut cells = Cells::default();
        cells.counted(key(1), at(0));
        cells.moving(key(1), at(1));
        assert_eq!(wrong(&cells), 1);
        cells.stored(key(1), 0, 1);
        assert_eq!(wrong(&cells), 0);
        cells.stored(key(1), 0, 1);
        assert_eq!(wrong(&cells), 0);
        cells.stored(key(1), 0, 1);
        assert_eq!(wrong(&cells), 1);
    }

    #[test]
    fn too_many_cells_become_coarser_ones_with_the_same_sums() {
        let mut cells = Cells { cells_max: 20, ..Cells::default() };
        (0..3_000).for_each(|second| cells.counted(key(1), at(second)));
        assert!(cells.cells.len() <= 20 && cells.width_s() == 300, "{}", cells.width_s());
        (0..10).for_each(|bucket| cells.stored(key(1), bucket, 300));
        assert_eq!(wrong(&cells), 0);
    }

    #[test]
    fn times_of_which_the_log_has_not_all_are_left_out() {
        let mut cells = Cells::default();
        cells.stored(key(1), 0, 7);
        cells.stored(key(1), 1, 7);
        cells.exact_from(Some(at(7)));
        assert_eq!((cells.first(), wrong(&cells)), (2, 0));
        cells.stored(key(1), 2, 7);
        assert_eq!(wrong(&cells), 1);
    }
}
