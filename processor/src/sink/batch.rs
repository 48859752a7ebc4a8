//! A stretch of the `aggregates` partitions that is stored in one transaction, and what it comes to for each row. Pure.

use crate::{aggregate, sketch::SketchError};
use millrace_log::NextOffset;
use millrace_schemas::{AggregateRow, EventTime, ServiceId, Window, WorkspaceId, aggregate::Kind};
use std::collections::BTreeMap;

/// One record; without a row when it could not be read or stored: then only the offset goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub partition: i32,
    pub offset: i64,
    pub row: Option<AggregateRow>,
}

/// Entries in the order of their offsets within each partition, and where each partition stood before them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    pub from: BTreeMap<i32, NextOffset>,
    pub entries: Vec<Entry>,
}

impl Batch {
    /// Adds an entry of a partition that stood at `from` if the batch has none of it yet.
    pub fn push(&mut self, from: NextOffset, entry: Entry) {
        self.from.entry(entry.partition).or_insert(from);
        self.entries.push(entry);
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where each partition stands after the batch.
    pub fn to(&self) -> BTreeMap<i32, NextOffset> {
        let mut to = self.from.clone();
        to.extend(self.entries.iter().map(|entry| (entry.partition, NextOffset::after(entry.offset))));
        to
    }

    pub fn rows(&self) -> impl Iterator<Item = &AggregateRow> {
        self.entries.iter().filter_map(|entry| entry.row.as_ref())
    }

    /// The first and the second half, to find the row that the database refuses; a batch of one comes back without it.
    pub fn split(mut self) -> Vec<Self> {
        if self.entries.len() < 2 {
            self.entries.iter_mut().for_each(|entry| entry.row = None);
            return vec![self];
        }
        let later = self.entries.split_off(self.entries.len() / 2);
        let mut second = Self::default();
        let between = self.to();
        for entry in later {
            second.push(between[&entry.partition], entry);
        }
        let first =
            self.entries.iter().map(|entry| entry.partition).collect::<std::collections::BTreeSet<_>>();
        self.from.retain(|partition, _| first.contains(partition));
        vec![self, second]
    }
}

/// What identifies a stored row. The order is the one in which rows are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    pub window: Window,
    pub workspace: WorkspaceId,
    pub start: EventTime,
    pub service: ServiceId,
}

impl From<&AggregateRow> for Identity {
    fn from(row: &AggregateRow) -> Self {
        Self {
            window: row.window,
            workspace: row.workspace_id,
            start: row.window_start,
            service: row.service_id,
        }
    }
}

/// A batch by identity.
#[derive(Debug, Default, PartialEq)]
pub struct Plan<'a> {
    /// Rows that only have to be compared with the stored ones by their revision: the newest of each identity.
    pub rows: BTreeMap<Identity, &'a AggregateRow>,
    /// All changes, in order, of each identity that has a delta: they need the stored row.
    pub merges: BTreeMap<Identity, Vec<&'a AggregateRow>>,
}

impl<'a> Plan<'a> {
    pub fn of(batch: &'a Batch) -> Self {
        Self::of_rows(batch.rows())
    }

    pub fn of_rows(rows: impl IntoIterator<Item = &'a AggregateRow>) -> Self {
        let mut changes: BTreeMap<Identity, Vec<&AggregateRow>> = BTreeMap::new();
        for row in rows {
            changes.entry(row.into()).or_default().push(row);
        }
        let mut plan = Self::default();
        for (identity, changes) in changes {
            if changes.iter().any(|row| row.kind == Kind::Delta) {
                plan.merges.insert(identity, changes);
            } else if let Some(newest) = newest(&changes) {
                plan.rows.insert(identity, newest);
            }
        }
        plan
    }
}

/// Of equal revisions the first, as the table keeps it.
fn newest<'a>(rows: &[&'a AggregateRow]) -> Option<&'a AggregateRow> {
    rows.iter().copied().reduce(|newest, row| if row.revision > newest.revision { row } else { newest })
}

/// The stored row after all of `changes`; `None` where nothing has to be written.
pub fn merged(
    stored: Option<AggregateRow>,
    changes: &[&AggregateRow],
) -> Result<Option<AggregateRow>, SketchError> {
    let before = stored.as_ref().map(|row| row.revision);
    let mut current = stored;
    for change in changes {
        current = Some(apply(current, change)?);
    }
    Ok(current.filter(|row| before.is_none_or(|before| row.revision > before)))
}

/// One change: a row replaces a lower revision, a delta is added, or is the row where there is none.
fn apply(stored: Option<AggregateRow>, change: &AggregateRow) -> Result<AggregateRow, SketchError> {
    let Some(mut stored) = stored else { return Ok(AggregateRow { kind: Kind::Row, ..change.clone() }) };
    match change.kind {
        Kind::Row if change.revision > stored.revision => Ok(change.clone()),
        Kind::Row => Ok(stored),
        Kind::Delta => aggregate::merge(&mut stored, change).map(|()| stored),
    }
}

#[cfg(test)]
pub mod tests;
