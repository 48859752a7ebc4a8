//! Up to which time of arrival all records are dealt with. Pure.

use millrace_schemas::{EventTime, ledger::Minute};
use std::{collections::BTreeMap, time::Duration};

/// The clocks of the brokers, which tell when a record came, may be as far behind ours.
const CLOCKS_DIFFER: Duration = Duration::from_secs(5);

/// Who reads the `metrics` topic for the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reader {
    Combine,
    Archive,
}

/// How far the ledger has the counts of a reader in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub next: i64,
    /// When the newest record before it came.
    pub arrived: Option<EventTime>,
    /// Minutes that begin before it are not wholly in the ledger.
    pub since: Option<EventTime>,
}

/// A partition of the `metrics` topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its end, records of open transactions included, when it was asked for; `None` where no broker has said.
    pub end: Option<i64>,
    /// One past the newest record that can be read, and up to where nothing else can: markers of transactions take
    /// offsets too.
    pub readable: (i64, i64),
}

/// For which minutes the ledger has everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// All that came before it is in the ledger; `None` while that is not known.
    pub through: Option<EventTime>,
    /// But for what came before it.
    pub since: Option<EventTime>,
    /// There is an archive.
    pub is_archived: bool,
}

impl Standing {
    /// `positions` were read after the partitions' ends had been asked for at `asked`.
    pub fn of(
        partitions: &[Partition],
        positions: &BTreeMap<(Reader, i32), Position>,
        asked: EventTime,
    ) -> Self {
        let is_archived = positions.keys().any(|(reader, _)| *reader == Reader::Archive);
        let readers = if is_archived { &[Reader::Combine, Reader::Archive][..] } else { &[Reader::Combine] };
        let pairs = readers.iter().flat_map(|reader| (0..).zip(partitions).map(|pair| (*reader, pair)));
        let each = pairs
            .map(|(reader, (number, partition))| partition.through(positions.get(&(reader, number)), asked));
        Self {
            through: each.min().flatten(),
            since: positions.values().filter_map(|position| position.since).max(),
            is_archived,
        }
    }

    /// All records that came in this minute have been dealt with, and the ledger has been told of each.
    pub fn has_processed(&self, minute: Minute) -> bool {
        self.through.is_some_and(|through| through >= minute.end())
            && self.since.is_none_or(|since| since <= minute.start())
    }
}

impl Partition {
    /// `None` while nothing is known.
    fn through(&self, position: Option<&Position>, asked: EventTime) -> Option<EventTime> {
        let next = position.map_or(0, |position| position.next);
        let (newest, nothing_below) = self.readable;
        let at_end = self.end.is_some_and(|end| next >= end || (nothing_below >= end && next >= newest));
        let caught_up = at_end.then(|| asked.saturating_sub(CLOCKS_DIFFER));
        caught_up.max(position.and_then(|position| position.arrived))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> EventTime {
        EventTime(second * 1_000_000)
    }

    fn position(next: i64, arrived: i64) -> Position {
        Position { next, arrived: Some(at(arrived)), since: None }
    }

    fn partition(end: i64) -> Partition {
        Partition { end: Some(end), readable: (end, end) }
    }

    fn through(partitions: &[Partition], positions: &[(Reader, i32, Position)]) -> Option<EventTime> {
        let positions = positions.iter().map(|(reader, number, position)| ((*reader, *number), *position));
        Standing::of(partitions, &positions.collect(), at(1000)).through
    }

    #[test]
    fn goes_as_far_as_the_slowest_partition() {
        let combine = |number, next, arrived| (Reader::Combine, number, position(next, arrived));
        let both = [partition(10), partition(20)];
        assert_eq!(through(&both, &[combine(0, 5, 100), combine(1, 5, 90)]), Some(at(90)));
        assert_eq!(through(&both, &[combine(0, 5, 100), combine(1, 20, 90)]), Some(at(100)));
        assert_eq!(through(&both, &[combine(0, 10, 100), combine(1, 20, 90)]), Some(at(995)));
        assert_eq!(through(&both, &[combine(0, 10, 100)]), None);
        assert_eq!(through(&[partition(10), partition(0)], &[combine(0, 10, 100)]), Some(at(995)));
        assert_eq!(through(&[], &[]), None);
    }

    #[test]
    fn without_an_answer_of_the_brokers_what_came_last_counts() {
        let unknown = Partition { end: None, readable: (10, 10) };
        assert_eq!(through(&[unknown], &[(Reader::Combine, 0, position(10, 90))]), Some(at(90)));
    }

    #[test]
    fn a_marker_at_the_end_is_no_record_but_an_open_transaction_may_hold_some() {
        let combine = [(Reader::Combine, 0, position(10, 90))];
        assert_eq!(through(&[Partition { end: Some(11), readable: (10, 11) }], &combine), Some(at(995)));
        assert_eq!(through(&[Partition { end: Some(12), readable: (10, 10) }], &combine), Some(at(90)));
    }

    #[test]
    fn an_archive_that_there_is_counts_too() {
        let (combine, archive) =
            ((Reader::Combine, 0, position(10, 90)), (Reader::Archive, 0, position(4, 50)));
        assert_eq!(through(&[partition(10)], &[combine, archive]), Some(at(50)));
        assert_eq!(through(&[partition(10), partition(1)], &[combine, archive]), None);
    }

    #[test]
    fn a_minute_is_processed_when_it_lies_between() {
        let minute = Minute::of(at(120));
        let standing = |through, since| Standing { through, since, is_archived: true };
        assert!(standing(Some(at(180)), None).has_processed(minute));
        assert!(standing(Some(at(180)), Some(at(120))).has_processed(minute));
        assert!(!standing(Some(at(180)), Some(at(121))).has_processed(minute));
        assert!(!standing(Some(at(179)), None).has_processed(minute));
        assert!(!standing(None, None).has_processed(minute));
    }
}
