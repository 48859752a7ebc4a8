//! What the edge has had acknowledged, by workspace and minute of arrival, and telling it to the ledger.
//!
//! A killed edge has not told of its last second; what the log did not say the arrival of is not counted. So the ledger
//! never has more accepted records than there are in the log.

mod teller;

pub use teller::Teller;

use millrace_schemas::{
    EventTime, WorkspaceId,
    ledger::{Counts, Minute, Row},
};
use prometheus::IntCounter;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use uuid::Uuid;

/// Workspaces times minutes that are held. A record of a further one is not counted here; a metric tells how many.
const ROWS_MAX: usize = 50_000;
/// A minute is forgotten when it was told and newer records than this have come: none is acknowledged so late.
const HELD_FOR: Duration = Duration::from_secs(600);

/// Counts of one run of an edge. They only grow, so that it does no harm to tell them twice.
pub struct Accepted {
    /// Names the run.
    instance: Uuid,
    /// Acknowledged records that are not counted: the log did not say when they came, or there are too many rows.
    pub uncounted: IntCounter,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    rows: HashMap<(WorkspaceId, Minute), Count>,
    newest: Option<Minute>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    accepted: i64,
    told: i64,
}

impl Accepted {
    pub fn new() -> Result<Self, prometheus::Error> {
        let uncounted = IntCounter::new(
            "millrace_ingest_ledger_uncounted_total",
            "Acknowledged events that the ledger's `accepted` lacks: the log did not say when they came, or too many rows",
        )?;
        Ok(Self { instance: Uuid::new_v4(), uncounted, held: Mutex::default() })
    }

    /// The log has one record more. `at` is when it got it, where it said.
    pub fn add(&self, workspace: Option<WorkspaceId>, at: Option<EventTime>) {
        let counted = workspace.zip(at).is_some_and(|(workspace, at)| self.held().add(workspace, at));
        if !counted {
            self.uncounted.inc();
        }
    }

    /// The rows that have changed since they were told.
    pub fn untold(&self) -> Vec<Row> {
        let held = self.held();
        let changed = held.rows.iter().filter(|(_, count)| count.accepted > count.told);
        changed
            .map(|((workspace, minute), count)| Row {
                workspace_id: Some(*workspace),
                minute: *minute,
                counts: Counts { accepted: count.accepted, ..Counts::default() },
            })
            .collect()
    }

    /// The ledger topic has these rows.
    pub fn told(&self, rows: &[Row]) {
        let mut held = self.held();
        for row in rows {
            let key = row.workspace_id.map(|workspace| (workspace, row.minute));
            if let Some(count) = key.and_then(|key| held.rows.get_mut(&key)) {
                count.told = count.told.max(row.counts.accepted);
            }
        }
        held.forget();
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// False if there is no room.
    fn add(&mut self, workspace: WorkspaceId, at: EventTime) -> bool {
        let minute = Minute::of(at);
        let key = (workspace, minute);
        if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&key) {
            return false;
        }
        self.rows.entry(key).or_default().accepted += 1;
        self.newest = self.newest.max(Some(minute));
        true
    }

    fn forget(&mut self) {
        let Some(newest) = self.newest else { return };
        self.rows.retain(|(_, minute), count| {
            count.accepted > count.told || minute.end().saturating_add(HELD_FOR) > newest.start()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACE: WorkspaceId = WorkspaceId(Uuid::from_u128(1));

    fn accepted() -> Accepted {
        Accepted::new().expect("a valid name")
    }

    fn at(minute: i64) -> Option<EventTime> {
        Some(EventTime(minute * 60_000_000))
    }

    fn counts(rows: &[Row]) -> Vec<i64> {
        rows.iter().map(|row| row.counts.accepted).collect()
    }

    #[test]
    fn tells_what_has_changed_as_a_sum_since_the_start() {
        let accepted = accepted();
        accepted.add(Some(WORKSPACE), at(1));
        accepted.add(Some(WORKSPACE), at(1));
        let rows = accepted.untold();
        assert_eq!(counts(&rows), [2]);
        accepted.add(Some(WORKSPACE), at(1));
        accepted.told(&rows);
        let rows = accepted.untold();
        assert_eq!(counts(&rows), [3]);
        accepted.told(&rows);
        assert!(accepted.untold().is_empty());
    }

    #[test]
    fn forgets_old_minutes_but_not_before_they_are_told() {
        let accepted = accepted();
        accepted.add(Some(WORKSPACE), at(1));
        let old = accepted.untold();
        accepted.add(Some(WORKSPACE), at(100));
        accepted.told(&[]);
        assert_eq!(accepted.untold().len(), 2);
        accepted.told(&old);
        assert_eq!(accepted.held().rows.len(), 1);
    }

    #[test]
    fn what_can_not_be_counted_is_told_of() {
        let accepted = accepted();
        accepted.add(Some(WORKSPACE), None);
        accepted.add(None, at(1));
        assert_eq!((accepted.uncounted.get(), accepted.untold().len()), (2, 0));
        for number in 0..ROWS_MAX {
            let workspace = Uuid::from_u128(u128::try_from(number).expect("small") + 1);
            accepted.add(Some(WorkspaceId(workspace)), at(1));
        }
        accepted.add(Some(WORKSPACE), at(2));
        accepted.add(Some(WORKSPACE), at(1));
        assert_eq!((accepted.uncounted.get(), accepted.untold().len()), (3, ROWS_MAX));
    }
}
