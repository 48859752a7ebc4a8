//! A sink worker on tables in memory: what [`crate::sink`] does around [`crate::sink::batch`].

use super::{
    fault::Fault,
    log::{Group, index},
    site::{Ending, Site},
};
use crate::sink::{
    Identity,
    batch::{Batch, Entry, Plan, merged},
    read,
};
use millrace_log::NextOffset;
use millrace_schemas::AggregateRow;
use std::collections::BTreeMap;

/// The tables: rows, and how far each partition of the aggregates is stored.
#[derive(Default)]
pub struct Store {
    pub rows: BTreeMap<Identity, AggregateRow>,
    pub offsets: BTreeMap<i32, NextOffset>,
}

impl Store {
    fn next(&self, partition: i32) -> NextOffset {
        self.offsets.get(&partition).copied().unwrap_or(NextOffset::START)
    }

    /// What the SQL does with the rows of a batch.
    pub fn take(&mut self, batch: &Batch) {
        let plan = Plan::of(batch);
        let results: Vec<AggregateRow> = plan
            .merges
            .iter()
            .filter_map(|(id, changes)| merged(self.rows.get(id).cloned(), changes).expect("sketches"))
            .collect();
        for row in plan.rows.into_values().chain(&results) {
            let is_newer = |stored: &AggregateRow| row.revision > stored.revision;
            if self.rows.get(&row.into()).is_none_or(is_newer) {
                self.rows.insert(row.into(), row.clone());
            }
        }
    }

    /// Rows and offsets in one transaction; `false` where another sink has gone on.
    fn store(&mut self, batch: &Batch) -> bool {
        if batch.from.iter().any(|(partition, from)| self.next(*partition) != *from) {
            return false;
        }
        self.take(batch);
        self.offsets.extend(batch.to());
        true
    }
}

/// Rows as a batch of their own.
pub fn entries(rows: &[AggregateRow]) -> Batch {
    let mut batch = Batch::default();
    for (offset, row) in (0..).zip(rows) {
        batch.push(NextOffset::START, Entry { partition: 0, offset, row: Some(row.clone()) });
    }
    batch
}

pub struct Worker {
    number: usize,
    /// Read up to here, by partition, and its epoch.
    held: BTreeMap<i32, (NextOffset, u64)>,
    stalled: Option<Batch>,
}

impl Worker {
    pub fn new(number: usize) -> Self {
        Self { number, held: BTreeMap::new(), stalled: None }
    }

    pub fn die(&mut self) {
        *self = Self::new(self.number);
    }

    /// Stores up to `records` of its partitions.
    pub fn step(&mut self, site: &mut Site<'_>, tables: &mut Tables, records: usize, ending: Ending) {
        if let Some(batch) = self.stalled.take() {
            site.tell(format_args!("sink {} goes on", self.number));
            return self.end(site, tables, batch, ending);
        }
        self.follow_assignment(tables);
        let batch = self.fill(site, records);
        if batch.is_empty() {
            return;
        }
        site.tell(format_args!("sink {}: {:?} to {:?}", self.number, batch.from, batch.to()));
        // As when the database refuses one of the rows.
        let parts =
            if batch.entries.len() > 1 && site.random.one_in(3) { batch.split() } else { vec![batch] };
        for part in parts {
            self.end(site, tables, part, ending);
        }
    }

    fn end(&mut self, site: &mut Site<'_>, tables: &mut Tables, batch: Batch, ending: Ending) {
        match ending {
            Ending::Stalls => self.stalled = Some(batch),
            Ending::Committed | Ending::DiesAfter => {
                let went_on = tables.store.store(&batch);
                if site.has(Fault::SinkOffsetBehind) {
                    let last = |next: NextOffset| NextOffset::exclusive(next.get() - 1);
                    tables.store.offsets.extend(batch.to().into_iter().map(|(at, next)| (at, last(next))));
                }
                if !went_on || ending == Ending::DiesAfter {
                    site.tell(format_args!("  {ending:?}, {went_on}"));
                    self.die();
                }
            }
            Ending::Aborted | Ending::DiesBefore => {
                if site.has(Fault::SinkOffsetApart) {
                    tables.store.take(&batch);
                }
                self.die();
            }
        }
    }

    fn follow_assignment(&mut self, tables: &Tables) {
        let assigned = tables.group.of(self.number);
        let held = self.held.iter().map(|(partition, (_, epoch))| (*partition, *epoch));
        if !held.eq(assigned.iter().copied()) {
            // A new assignment begins from what is stored.
            let start = |(partition, epoch)| (partition, (tables.store.next(partition), epoch));
            self.held = assigned.into_iter().map(start).collect();
        }
    }

    fn fill(&mut self, site: &Site<'_>, records: usize) -> Batch {
        let mut batch = Batch::default();
        for (partition, (position, _)) in &mut self.held {
            let topic = &site.log.aggregates[index(*partition)];
            for (offset, bytes) in topic.from(position.get()).take(records) {
                let from = std::mem::replace(position, NextOffset::after(offset));
                let row = read::read(bytes).ok();
                batch.push(from, Entry { partition: *partition, offset, row });
            }
        }
        batch
    }
}

/// The database, and who stores which partition: a group whose offsets nobody reads.
pub struct Tables {
    pub store: Store,
    pub group: Group,
}

impl Tables {
    pub fn rows(&self) -> Vec<&AggregateRow> {
        self.store.rows.values().collect()
    }
}
