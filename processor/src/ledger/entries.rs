//! What entries come to, given how far the ledger was before them. Pure.

use millrace_log::NextOffset;
use millrace_schemas::{
    EventTime,
    ledger::{Counts, Entry, Minute, Row, Stretch},
};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The topics that there can be entries of.
pub struct Sources {
    pub metrics: String,
    pub partials: String,
}

impl Sources {
    /// False for what somebody else wrote: no stage of this installation tells it.
    pub fn has(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Combine(stretch) | Entry::Archive(stretch) => stretch.topic == self.metrics,
            Entry::Windows(stretch) => stretch.topic == self.partials,
            Entry::Edge(accepted) => accepted.topic == self.metrics,
        }
    }
}

/// A stage and a partition that it reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reader {
    pub stage: String,
    pub topic: String,
    pub partition: i32,
}

impl Reader {
    /// Of an entry with a range.
    pub fn of(entry: &Entry) -> Option<Self> {
        let Stretch { topic, partition, .. } = entry.stretch()?;
        Some(Self { stage: entry.stage().to_owned(), topic: topic.clone(), partition: *partition })
    }
}

/// How far the ledger has the counts of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub next: NextOffset,
    /// When the newest record before it came.
    pub arrived: Option<EventTime>,
    /// Minutes that begin before it are not wholly in the ledger.
    pub since: Option<EventTime>,
}

/// A range that does not begin where the last one ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub reader: Reader,
    pub expected: NextOffset,
    pub from: i64,
    pub to: i64,
    pub kind: FaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// What is between is told by nobody: retention has removed it unread, or a build without ledger has read it.
    Gap,
    /// The ledger has all of it: it is left out.
    Reread,
    /// The ledger has the beginning of it. Its counts can't be divided, so the rest is missing.
    Torn,
}

/// What is to be written, in the order in which rows are locked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be added. The nil UUID stands for no workspace.
    pub minutes: BTreeMap<(Uuid, Minute), Counts>,
    /// By workspace, minute and edge; a higher count replaces a lower one.
    pub accepted: BTreeMap<(Uuid, Minute, Uuid), i64>,
    pub positions: BTreeMap<Reader, Position>,
    pub faults: Vec<Fault>,
    /// What is added by each stage.
    pub added: BTreeMap<&'static str, Counts>,
}

impl Plan {
    /// `stored` has the readers of `entries` that the ledger knows.
    pub fn of<'a>(
        entries: impl IntoIterator<Item = &'a Entry>,
        stored: BTreeMap<Reader, Position>,
        now: EventTime,
    ) -> Self {
        let mut plan = Self { positions: stored, ..Self::default() };
        for entry in entries {
            match (entry, Reader::of(entry), entry.stretch()) {
                (Entry::Edge(accepted), ..) => plan.accept(accepted.instance, &accepted.rows),
                (_, Some(reader), Some(stretch)) if plan.advance(&reader, stretch, now) => {
                    plan.add(entry.stage(), &stretch.rows);
                }
                _ => {}
            }
        }
        plan
    }

    fn accept(&mut self, instance: Uuid, rows: &[Row]) {
        for row in rows {
            let known = self.accepted.entry((id(row), row.minute, instance)).or_default();
            *known = (*known).max(row.counts.accepted);
        }
    }

    fn add(&mut self, stage: &'static str, rows: &[Row]) {
        for row in rows {
            *self.minutes.entry((id(row), row.minute)).or_default() += row.counts;
            *self.added.entry(stage).or_default() += row.counts;
        }
    }

    /// Moves the reader's position; true if the counts are news.
    fn advance(&mut self, reader: &Reader, stretch: &Stretch, now: EventTime) -> bool {
        let Stretch { from, to, arrived, .. } = *stretch;
        let Some(position) = self.positions.get_mut(reader) else {
            let since = (from > 0).then(|| arrived.unwrap_or(now));
            self.positions
                .insert(reader.clone(), Position { next: NextOffset::exclusive(to), arrived, since });
            return true;
        };
        let expected = position.next;
        position.next = expected.max(NextOffset::exclusive(to));
        position.arrived = position.arrived.max(arrived);
        let kind = match (from.cmp(&expected.get()), to > expected.get()) {
            (std::cmp::Ordering::Equal, _) => return true,
            // It only says where a stage is.
            (std::cmp::Ordering::Less, _) if from == to => return false,
            (std::cmp::Ordering::Greater, _) => FaultKind::Gap,
            (std::cmp::Ordering::Less, true) => FaultKind::Torn,
            (std::cmp::Ordering::Less, false) => FaultKind::Reread,
        };
        if to > expected.get() {
            // What came until then is not wholly told.
            position.since = position.since.max(Some(arrived.unwrap_or(now)));
        }
        self.faults.push(Fault { reader: reader.clone(), expected, from, to, kind });
        kind == FaultKind::Gap
    }
}

fn id(row: &Row) -> Uuid {
    row.workspace_id.map_or(Uuid::nil(), |workspace| workspace.0)
}

#[cfg(test)]
mod tests;
