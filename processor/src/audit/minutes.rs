//! What became of the records by workspace and minute of arrival, to be held against the ledger. Pure.
//!
//! A dead letter of a workspace that was made later is in the ledger under either name, as it was judged before or after:
//! so numbers of dead letters are compared of all workspaces together, those of accepted records also one by one.

use super::finding::{Check, Findings};
use millrace_schemas::{
    EventTime, WorkspaceId,
    ledger::{Counts, Minute},
};
use std::collections::{BTreeMap, BTreeSet};

/// None: its workspace can't be read or does not exist.
pub type Row = (Minute, Option<WorkspaceId>);

#[derive(Debug, Default)]
pub(super) struct Minutes {
    pub rows: BTreeMap<Row, Counts>,
    /// Records that came while the audit ran.
    moving: BTreeMap<Row, i64>,
}

type Number = (&'static str, fn(&Counts) -> i64);

/// Those that every workspace has for certain.
const OF_ACCEPTED: [Number; 3] = [
    ("counted", |counts| counts.counted),
    ("running", |counts| counts.running),
    ("duplicate", |counts| counts.duplicate),
];
const ARCHIVED: Number = ("archived", |counts| counts.archived);
const OF_ALL: [Number; 8] = [
    ("read", |counts| counts.read),
    ("from_edge", |counts| counts.from_edge),
    ("counted", |counts| counts.counted),
    ("running", |counts| counts.running),
    ("duplicate", |counts| counts.duplicate),
    ("dead_lettered.invalid", |counts| counts.dead_lettered.invalid),
    ("dead_lettered.unknown_workspace", |counts| counts.dead_lettered.unknown_workspace),
    ("dead_lettered.future", |counts| counts.dead_lettered.future),
];

impl Minutes {
    pub(super) fn row(&mut self, time: EventTime, workspace: Option<WorkspaceId>) -> &mut Counts {
        self.rows.entry((Minute::of(time), workspace)).or_default()
    }

    pub(super) fn moving(&mut self, time: EventTime, workspace: Option<WorkspaceId>) {
        *self.moving.entry((Minute::of(time), workspace)).or_default() += 1;
    }

    pub(super) fn total(&self) -> Counts {
        self.rows.values().fold(Counts::default(), |mut sum, counts| {
            sum += *counts;
            sum
        })
    }

    /// Compares minutes that begin at `from` or later; how many rows.
    pub(super) fn compare(
        &self,
        ledger: &BTreeMap<Row, Counts>,
        (from, archive): (Option<EventTime>, bool),
        findings: &mut Findings,
    ) -> u64 {
        let exact = |(minute, _): &Row| from.is_none_or(|from| minute.start() >= from);
        let rows: BTreeSet<Row> =
            self.rows.keys().chain(ledger.keys()).filter(|row| exact(row)).copied().collect();
        for row in &rows {
            let sides = Sides {
                name: name(row),
                log: self.rows.get(row).copied().unwrap_or_default(),
                moving: self.moving.get(row).copied().unwrap_or(0),
                ledger: ledger.get(row).copied().unwrap_or_default(),
            };
            OF_ACCEPTED.iter().for_each(|number| sides.compare(number, findings));
            if archive {
                sides.compare(&ARCHIVED, findings);
            }
            sides.must_be_from_edges(findings);
        }
        self.late_must_fit(ledger, &rows, findings);
        let minutes: BTreeSet<Minute> = rows.iter().map(|(minute, _)| *minute).collect();
        for minute in minutes {
            let sides = Sides {
                name: format!("{} all workspaces", minute.start()),
                log: sum(&self.rows, minute),
                moving: self.moving.iter().filter(|((m, _), _)| *m == minute).map(|(_, count)| count).sum(),
                ledger: sum(ledger, minute),
            };
            OF_ALL.iter().for_each(|number| sides.compare(number, findings));
        }
        rows.len() as u64
    }
}

impl Minutes {
    /// Which records came late the log does not tell. They stand at the minute of the oldest record that was read together
    /// with them: so they are at most what is counted then or later.
    fn late_must_fit(&self, ledger: &BTreeMap<Row, Counts>, rows: &BTreeSet<Row>, findings: &mut Findings) {
        let mut totals: BTreeMap<Option<WorkspaceId>, (i64, i64)> = BTreeMap::new();
        for row in rows {
            let total = totals.entry(row.1).or_default();
            let told = ledger.get(row).copied().unwrap_or_default();
            total.0 += told.late + told.backfilled;
            total.1 += self.rows.get(row).map_or(0, |counts| counts.counted);
        }
        for (workspace, (late, counted)) in totals {
            let moving: i64 =
                self.moving.iter().filter(|((_, of), _)| *of == workspace).map(|(_, count)| count).sum();
            if late > counted + moving {
                let name = workspace.map_or("no workspace".to_owned(), |id| format!("workspace {id}"));
                findings.add(Check::Ledger, || {
                    format!("{name}: late and backfilled {late}, {counted} counted in the log")
                });
            }
        }
    }
}

fn sum(rows: &BTreeMap<Row, Counts>, minute: Minute) -> Counts {
    rows.range((minute, None)..).take_while(|((m, _), _)| *m == minute).fold(
        Counts::default(),
        |mut sum, (_, counts)| {
            sum += *counts;
            sum
        },
    )
}

fn name((minute, workspace): &Row) -> String {
    let workspace = workspace.map_or("no workspace".to_owned(), |id| format!("workspace {id}"));
    format!("{} {workspace}", minute.start())
}

struct Sides {
    name: String,
    log: Counts,
    moving: i64,
    ledger: Counts,
}

impl Sides {
    fn compare(&self, (what, of): &Number, findings: &mut Findings) {
        let (log, ledger) = (of(&self.log), of(&self.ledger));
        if !(log..=log + self.moving).contains(&ledger) {
            findings.add(Check::Ledger, || format!("{}: {what} {ledger}, {log} in the log", self.name));
        }
    }

    /// What edges say that they had acknowledged: the log has it. One that was killed may not have said all.
    fn must_be_from_edges(&self, findings: &mut Findings) {
        let Counts { accepted, from_edge, .. } = self.ledger;
        if accepted > from_edge + self.moving {
            findings.add(Check::Ledger, || {
                format!("{}: accepted {accepted}, but {from_edge} came from an edge", self.name)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const WORKSPACE: Option<WorkspaceId> = Some(WorkspaceId(Uuid::nil()));

    fn at(second: i64) -> EventTime {
        EventTime(second * 1_000_000)
    }

    fn minutes() -> Minutes {
        let mut minutes = Minutes::default();
        for second in 0..90 {
            let row = minutes.row(at(second), WORKSPACE);
            row.read += 1;
            row.counted += 1;
            row.archived += 1;
        }
        let dead = minutes.row(at(3), None);
        dead.read += 1;
        dead.dead_lettered.unknown_workspace += 1;
        minutes
    }

    fn wrong(minutes: &Minutes, ledger: &BTreeMap<Row, Counts>) -> u64 {
        let mut findings = Findings::default();
        minutes.compare(ledger, (None, true), &mut findings);
        findings.0.get(&Check::Ledger).map_or(0, |finding| finding.count)
    }

    #[test]
    fn the_same_numbers_agree_and_each_other_one_is_found() {
        let minutes = minutes();
        let ledger = minutes.rows.clone();
        assert_eq!(wrong(&minutes, &ledger), 0);
        let lies: [fn(&mut Counts); 7] = [
            |counts| counts.read += 1,
            |counts| counts.counted -= 1,
            |counts| counts.duplicate += 1,
            |counts| counts.archived -= 1,
            |counts| counts.dead_lettered.invalid += 1,
            |counts| counts.accepted += 1,
            |counts| counts.late += 1_000,
        ];
        for (number, lie) in lies.iter().enumerate() {
            let mut ledger = ledger.clone();
            lie(ledger.get_mut(&(Minute::of(at(70)), WORKSPACE)).expect("a row"));
            assert!(wrong(&minutes, &ledger) > 0, "lie {number}");
        }
        assert!(wrong(&minutes, &BTreeMap::new()) > 0, "no ledger at all");
    }

    #[test]
    fn a_dead_letter_may_be_of_no_workspace_or_of_one_made_later() {
        let minutes = minutes();
        let mut ledger = minutes.rows.clone();
        let dead = ledger.remove(&(Minute::of(at(3)), None)).expect("a row");
        *ledger.get_mut(&(Minute::of(at(3)), WORKSPACE)).expect("a row") += dead;
        assert_eq!(wrong(&minutes, &ledger), 0);
    }

    #[test]
    fn what_came_meanwhile_may_be_told_or_not() {
        let mut minutes = minutes();
        let mut ledger = minutes.rows.clone();
        ledger.get_mut(&(Minute::of(at(70)), WORKSPACE)).expect("a row").counted += 1;
        assert!(wrong(&minutes, &ledger) > 0);
        minutes.moving(at(71), WORKSPACE);
        assert_eq!(wrong(&minutes, &ledger), 0);
    }

    #[test]
    fn minutes_that_are_not_wholly_known_are_left_out() {
        let minutes = minutes();
        let mut findings = Findings::default();
        let rows = minutes.compare(&BTreeMap::new(), (Some(at(1_000)), true), &mut findings);
        assert!(rows == 0 && findings.is_empty());
    }
}
