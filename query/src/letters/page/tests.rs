use super::{super::tests::entry, *};
use millrace_schemas::WorkspaceId;
use std::convert::Infallible;
use uuid::Uuid;

const ALL: Filter = Filter { whose: Whose::All, reason: None, from: None, to: None };

/// A log in memory.
struct Memory {
    entries: Vec<Entry>,
    late_after: usize,
    reads: usize,
    bytes_max: usize,
}

impl Memory {
    fn new(entries: Vec<Entry>) -> Self {
        Self { entries, late_after: usize::MAX, reads: 0, bytes_max: SCAN_BYTES_MAX }
    }

    fn bounds(&self) -> Vec<Stretch> {
        let end = |partition| {
            let offsets = self.entries.iter().filter(|entry| entry.id.partition == partition);
            offsets.map(|entry| entry.id.offset + 1).max().unwrap_or(0)
        };
        (0..2).map(|partition| Stretch { partition, from: 0, to: end(partition) }).collect()
    }

    /// All pages of so many letters, as ids.
    fn pages(&mut self, filter: &Filter, limit: usize) -> Vec<Vec<String>> {
        let mut bounds = self.bounds();
        let mut pages = Vec::new();
        loop {
            let found = page(self, &bounds, filter, limit).expect("memory does not fail");
            pages.push(found.entries.iter().map(|entry| entry.id.to_string()).collect());
            assert!(pages.len() < 100, "it ends");
            match found.cursor {
                Some(cursor) => {
                    let text = encode_cursor("letters", &cursor).expect("two partitions");
                    let cursor = decode_cursor("letters", &text).expect("its own");
                    narrow(&mut bounds, &cursor);
                }
                None => return pages,
            }
        }
    }
}

impl Read for Memory {
    type Error = Infallible;

    fn entries(&mut self, stretches: &[Stretch]) -> Result<Found, Infallible> {
        self.reads += 1;
        let wanted = |entry: &&Entry| {
            stretches.iter().any(|stretch| {
                stretch.partition == entry.id.partition
                    && (stretch.from..stretch.to).contains(&entry.id.offset)
            })
        };
        let found: Vec<Entry> = self.entries.iter().filter(wanted).cloned().collect();
        let bytes: usize = found.iter().map(|entry| entry.bytes).sum();
        Ok(if bytes > self.bytes_max { Found::TooMuch } else { Found::Entries(found) })
    }

    fn is_late(&self) -> bool {
        self.reads >= self.late_after
    }
}

/// Two partitions, with gaps where transactions ended; times interleave.
fn letters() -> Vec<Entry> {
    vec![entry(0, 0, 10), entry(0, 2, 20), entry(0, 4, 50), entry(1, 0, 15), entry(1, 1, 30), entry(1, 5, 40)]
}

#[test]
fn the_newest_come_first_over_all_partitions() {
    let mut memory = Memory::new(letters());
    let expected = [["0-4", "1-5"], ["1-1", "0-2"], ["1-0", "0-0"]];
    assert_eq!(memory.pages(&ALL, 2), expected);
    assert_eq!(memory.pages(&ALL, 100), [expected.concat()]);
}

#[test]
fn letters_that_are_not_wanted_are_passed_over() {
    let mut letters = letters();
    let own = WorkspaceId(Uuid::from_u128(7));
    letters[1].workspace = Some(own);
    letters[4].workspace = Some(own);
    letters[4].reason = Some("future".to_owned());
    let mut memory = Memory::new(letters);
    let of = Filter { whose: Whose::Of(own), ..ALL };
    assert_eq!(memory.pages(&of, 100), [["1-1", "0-2"]]);
    assert_eq!(memory.pages(&Filter { reason: Some(Reason::Future), ..of }, 100), [["1-1"]]);
    let at = |second: i64| Some(EventTime(second * 1_000_000));
    assert_eq!(memory.pages(&Filter { from: at(20), to: at(40), ..ALL }, 100), [["1-1", "0-2"]]);
}

#[test]
fn large_letters_make_short_stretches_and_short_pages() {
    let mut letters = letters();
    letters.iter_mut().for_each(|letter| letter.bytes = PAGE_BYTES_MAX);
    let mut memory = Memory::new(letters);
    memory.bytes_max = 2 * PAGE_BYTES_MAX;
    assert_eq!(memory.pages(&ALL, 100).concat(), ["0-4", "1-5", "1-1", "0-2", "1-0", "0-0"]);
    assert!(memory.pages(&ALL, 100).iter().all(|page| page.len() <= 1));
}

#[test]
fn a_request_that_takes_too_long_says_where_to_go_on() {
    let none = Filter { whose: Whose::Of(WorkspaceId(Uuid::from_u128(9))), ..ALL };
    let mut memory = Memory::new((0..1_000).map(|offset| entry(0, offset, offset)).collect());
    memory.late_after = 1;
    let bounds = memory.bounds();
    let found = page(&mut memory, &bounds, &none, 10).expect("memory does not fail");
    assert_eq!((found.entries, found.cursor.map(|cursor| cursor[&0])), (vec![], Some(1_000 - STRETCH)));
}

#[test]
fn a_cursor_of_another_topic_is_none_and_newer_letters_are_not_met() {
    let cursor = BTreeMap::from([(0, 4)]);
    let text = encode_cursor("letters", &cursor).expect("one partition");
    assert_eq!(decode_cursor("others", &text), None);
    assert_eq!(decode_cursor("letters", "?"), None);
    let mut bounds = [Stretch { partition: 0, from: 0, to: 99 }, Stretch { partition: 1, from: 3, to: 99 }];
    narrow(&mut bounds, &cursor);
    assert_eq!((bounds[0].to, bounds[1].to), (4, 3), "the second partition is new");
}
