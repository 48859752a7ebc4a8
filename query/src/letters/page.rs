//! Which letters a request gets: newest first over all partitions, read backwards in small stretches. Pure but for the
//! reader that it asks.
//!
//! Newest first, so that a client that pages through to the end comes to one: what is replayed meanwhile and fails again
//! becomes a newer letter, which a cursor that goes back never meets.

use super::{Entry, Whose};
use millrace_schemas::{CommitToken, EventTime, dead_letter::Reason, token::Origin};
use std::{collections::BTreeMap, collections::VecDeque, time::Duration};

/// The most letters looked at for one request. When they are used up the answer has what was found, and a cursor.
pub const SCAN_RECORDS_MAX: usize = 10_000;
/// The most bytes read at once, keys and values: beyond it the stretches become shorter.
pub const SCAN_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The most bytes of the letters of one page; one letter is always in it.
pub const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// After this time no further stretch is begun.
pub const SCAN_LIMIT: Duration = Duration::from_secs(5);
/// Letters of one partition read at once.
const STRETCH: i64 = 256;

/// The letters that are wanted.
#[derive(Clone, Debug)]
pub struct Filter {
    pub whose: Whose,
    pub reason: Option<Reason>,
    /// Inclusive; of the time at which it became a dead letter.
    pub from: Option<EventTime>,
    /// Exclusive.
    pub to: Option<EventTime>,
}

/// Offsets of one partition: `from` inclusive, `to` exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub partition: i32,
    pub from: i64,
    pub to: i64,
}

/// What a reader can answer.
#[derive(Debug)]
pub enum Found {
    /// The letters of all the stretches, ascending within each partition.
    Entries(Vec<Entry>),
    /// They have more bytes than are read at once.
    TooMuch,
}

/// Reads entries from the log; a seam for tests.
pub trait Read {
    type Error;
    fn entries(&mut self, stretches: &[Stretch]) -> Result<Found, Self::Error>;
    /// The time for this request is used up.
    fn is_late(&self) -> bool;
}

/// The letters of a page, newest first, and where to go on; `None` at the end.
#[derive(Debug, PartialEq)]
pub struct Page {
    pub entries: Vec<Entry>,
    pub cursor: Option<BTreeMap<i32, i64>>,
}

/// One partition, read backwards.
struct Backwards {
    low: i64,
    /// From here down nothing has been read.
    before: i64,
    /// Read, but not looked at; ascending.
    read: VecDeque<Entry>,
}

impl Filter {
    pub fn all(whose: Whose) -> Self {
        Self { whose, reason: None, from: None, to: None }
    }

    fn takes(&self, entry: &Entry) -> bool {
        self.whose.has(entry)
            && self.reason.is_none_or(|reason| entry.reason.as_deref() == Some(reason.as_str()))
            && self.from.is_none_or(|from| entry.at >= from)
            && self.to.is_none_or(|to| entry.at < to)
    }
}

/// The newest up to `limit` letters within `bounds` (one stretch a partition) that `filter` takes.
pub fn page<R: Read>(
    reader: &mut R,
    bounds: &[Stretch],
    filter: &Filter,
    limit: usize,
) -> Result<Page, R::Error> {
    let mut partitions: BTreeMap<i32, Backwards> =
        bounds.iter().map(|bounds| (bounds.partition, Backwards::new(bounds))).collect();
    let even = SCAN_RECORDS_MAX / partitions.len().max(1);
    let mut stretch = i64::try_from(even).unwrap_or(STRETCH).clamp(1, STRETCH);
    let (mut entries, mut bytes, mut scanned) = (Vec::new(), 0, 0);
    loop {
        let wanted: Vec<Stretch> =
            partitions.iter().filter_map(|(number, partition)| partition.wants(*number, stretch)).collect();
        if !wanted.is_empty() {
            if scanned >= SCAN_RECORDS_MAX || reader.is_late() {
                break;
            }
            // The shortest stretches are read one by one: no letter alone is too much.
            let at_once = if stretch > 1 { wanted.len() } else { 1 };
            for wanted in wanted.chunks(at_once) {
                match reader.entries(wanted)? {
                    Found::TooMuch => stretch = (stretch / 8).max(1),
                    Found::Entries(found) => {
                        scanned += found.len().max(1);
                        take_in(&mut partitions, wanted, found);
                    }
                }
            }
            continue;
        }
        let Some(newest) = newest(&mut partitions) else { break };
        if filter.takes(newest.back().expect("the newest of those that have one")) {
            let size = newest.back().map_or(0, |entry| entry.bytes);
            if entries.len() >= limit || (!entries.is_empty() && bytes + size > PAGE_BYTES_MAX) {
                break;
            }
            bytes += size;
            entries.extend(newest.pop_back());
        } else {
            newest.pop_back();
        }
    }
    Ok(Page { entries, cursor: cursor(&partitions) })
}

/// The letters of the partition that has the newest one.
fn newest(partitions: &mut BTreeMap<i32, Backwards>) -> Option<&mut VecDeque<Entry>> {
    let with_letters = partitions.values_mut().map(|partition| &mut partition.read);
    with_letters
        .filter(|read| !read.is_empty())
        .max_by_key(|read| read.back().map(|entry| (entry.at, entry.id)))
}

fn take_in(partitions: &mut BTreeMap<i32, Backwards>, read: &[Stretch], found: Vec<Entry>) {
    for stretch in read {
        if let Some(partition) = partitions.get_mut(&stretch.partition) {
            partition.before = stretch.from;
        }
    }
    for entry in found {
        if let Some(partition) = partitions.get_mut(&entry.id.partition) {
            partition.read.push_back(entry);
        }
    }
}

/// Where each partition stands; `None` when all are at their beginning.
fn cursor(partitions: &BTreeMap<i32, Backwards>) -> Option<BTreeMap<i32, i64>> {
    let more =
        partitions.values().any(|partition| !partition.read.is_empty() || partition.before > partition.low);
    more.then(|| partitions.iter().map(|(number, partition)| (*number, partition.stands_at())).collect())
}

impl Backwards {
    fn new(bounds: &Stretch) -> Self {
        Self { low: bounds.from, before: bounds.to.max(bounds.from), read: VecDeque::new() }
    }

    fn wants(&self, partition: i32, stretch: i64) -> Option<Stretch> {
        let needed = self.read.is_empty() && self.before > self.low;
        needed.then(|| Stretch { partition, from: self.low.max(self.before - stretch), to: self.before })
    }

    fn stands_at(&self) -> i64 {
        self.read.back().map_or(self.before, |entry| entry.id.offset + 1)
    }
}

/// A cursor as text: the format of a commit token, of the topic of dead letters.
pub fn encode_cursor(topic: &str, cursor: &BTreeMap<i32, i64>) -> Option<String> {
    CommitToken { origin: Origin::of("", topic), next: cursor.clone() }.encode()
}

/// `None` for text that is no cursor of this topic.
pub fn decode_cursor(topic: &str, text: &str) -> Option<BTreeMap<i32, i64>> {
    let token = CommitToken::decode(text).ok()?;
    (token.origin == Origin::of("", topic)).then_some(token.next)
}

/// `bounds` with nothing at or after the cursor; a partition that it does not know came later and is left out.
pub fn narrow(bounds: &mut [Stretch], cursor: &BTreeMap<i32, i64>) {
    for stretch in bounds {
        let before = cursor.get(&stretch.partition).copied().unwrap_or(stretch.from);
        stretch.to = stretch.to.min(before).max(stretch.from);
    }
}

#[cfg(test)]
mod tests;
