//! Counts what became of the records of one partition, by workspace and minute, until a stage tells it. Pure.

use hashbrown::HashMap;
use millrace_log::NextOffset;
use millrace_schemas::{
    EventTime, WorkspaceId,
    ledger::{Counts, Minute, Row, Stretch, VERSION},
};
use serde::{Deserialize, Serialize};

/// With more rows a stretch is told as several, so that each fits into a record of the log.
const ROWS_MAX: usize = 2_000;

/// `[from, to)` of a partition whose name is known elsewhere, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub from: i64,
    pub to: i64,
    pub arrived: Option<EventTime>,
    pub rows: Vec<Row>,
}

impl Span {
    /// Nothing but how far it is.
    pub fn empty(at: NextOffset, arrived: Option<EventTime>) -> Self {
        Self { from: at.get(), to: at.get(), arrived, rows: Vec::new() }
    }

    pub fn of(self, topic: &str, partition: i32) -> Stretch {
        let Self { from, to, arrived, rows } = self;
        Stretch { version: VERSION, topic: topic.to_owned(), partition, from, to, arrived, rows }
    }
}

/// What is counted since it was last taken. Its size is bounded by the records of a chunk.
#[derive(Clone, Debug)]
pub struct Tally {
    full: Vec<Span>,
    from: NextOffset,
    to: NextOffset,
    arrived: Option<EventTime>,
    rows: Vec<(RowKey, Counts)>,
    places: HashMap<RowKey, usize>,
    /// The row of the record before: mostly the next one's too.
    last: usize,
}

type RowKey = (Option<WorkspaceId>, Minute);

impl Tally {
    /// The first record to be counted is at `from` or later.
    pub fn new(from: NextOffset) -> Self {
        Self {
            full: Vec::new(),
            from,
            to: from,
            arrived: None,
            rows: Vec::new(),
            places: HashMap::new(),
            last: 0,
        }
    }

    /// A record was dealt with that is in no row.
    pub fn pass(&mut self, offset: i64, arrived: EventTime) {
        if self.rows.len() >= ROWS_MAX {
            self.close();
        }
        self.to = NextOffset::after(offset);
        self.arrived = self.arrived.max(Some(arrived));
    }

    /// A record was dealt with: the counts of its row, to be raised.
    pub fn count(&mut self, offset: i64, arrived: EventTime, workspace: Option<WorkspaceId>) -> &mut Counts {
        self.pass(offset, arrived);
        self.row(workspace, Minute::of(arrived))
    }

    /// The counts of a row of the stretch so far.
    pub fn row(&mut self, workspace: Option<WorkspaceId>, minute: Minute) -> &mut Counts {
        let key = (workspace, minute);
        if self.rows.get(self.last).is_none_or(|(last, _)| *last != key) {
            self.last = *self.places.entry(key).or_insert_with(|| {
                self.rows.push((key, Counts::default()));
                self.rows.len() - 1
            });
        }
        &mut self.rows[self.last].1
    }

    /// All up to here was dealt with, also where it holds no record.
    pub fn reach(&mut self, to: NextOffset) {
        if self.rows.len() >= ROWS_MAX {
            self.close();
        }
        self.to = self.to.max(to);
    }

    /// Of the records before `low` nobody can tell any more: the next stretch begins there, and the ledger sees the gap.
    /// False where there is none.
    pub fn lose_to(&mut self, low: NextOffset) -> bool {
        let lost = low > self.to;
        if lost {
            if self.to > self.from {
                self.close();
            }
            (self.from, self.to) = (low, low);
        }
        lost
    }

    /// What there is to tell, in order; the same for the same records.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = self.full.clone();
        if self.to > self.from {
            spans.push(self.open_span());
        }
        spans
    }

    /// The same, and begins anew where it ends.
    pub fn take(&mut self) -> Vec<Span> {
        if self.to > self.from {
            self.close();
        }
        std::mem::take(&mut self.full)
    }

    fn close(&mut self) {
        self.full.push(self.open_span());
        self.from = self.to;
        self.arrived = None;
        self.rows.clear();
        self.places.clear();
    }

    fn open_span(&self) -> Span {
        let mut rows: Vec<Row> = self
            .rows
            .iter()
            .map(|((workspace_id, minute), counts)| Row {
                workspace_id: *workspace_id,
                minute: *minute,
                counts: *counts,
            })
            .collect();
        rows.sort_unstable_by_key(|row| (row.workspace_id, row.minute));
        Span { from: self.from.get(), to: self.to.get(), arrived: self.arrived, rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn at(second: i64) -> EventTime {
        EventTime(second * 1_000_000)
    }

    fn workspace(number: u128) -> WorkspaceId {
        WorkspaceId(Uuid::from_u128(number))
    }

    #[test]
    fn counts_by_workspace_and_minute_and_covers_what_is_in_no_row() {
        let mut tally = Tally::new(NextOffset::exclusive(5));
        tally.count(5, at(59), Some(workspace(1))).read += 1;
        tally.count(6, at(60), Some(workspace(1))).read += 1;
        tally.count(7, at(59), Some(workspace(1))).read += 1;
        tally.count(8, at(60), None).read += 1;
        tally.pass(11, at(61));
        let spans = tally.take();
        let [span] = spans.as_slice() else { panic!("one span: {spans:?}") };
        assert_eq!((span.from, span.to, span.arrived), (5, 12, Some(at(61))));
        let rows: Vec<_> =
            span.rows.iter().map(|row| (row.workspace_id, row.minute.start(), row.counts.read)).collect();
        let own = Some(workspace(1));
        assert_eq!(rows, [(None, at(60), 1), (own, at(0), 2), (own, at(60), 1)]);
        assert!(tally.take().is_empty(), "told once");
        tally.reach(NextOffset::exclusive(20));
        assert_eq!(tally.take(), [Span { from: 12, to: 20, arrived: None, rows: Vec::new() }]);
    }

    #[test]
    fn what_retention_took_unread_is_between_two_spans() {
        let mut tally = Tally::new(NextOffset::exclusive(5));
        tally.count(5, at(1), Some(workspace(1))).read += 1;
        assert!(!tally.lose_to(NextOffset::exclusive(6)) && tally.lose_to(NextOffset::exclusive(20)));
        tally.count(22, at(2), Some(workspace(1))).read += 1;
        let ranges: Vec<_> = tally.take().iter().map(|span| (span.from, span.to, span.arrived)).collect();
        assert_eq!(ranges, [(5, 6, Some(at(1))), (20, 23, Some(at(2)))]);
        assert!(tally.lose_to(NextOffset::exclusive(30)));
        tally.count(30, at(3), None).read += 1;
        assert_eq!(tally.take()[0].from, 30, "nothing was told before it");
    }

    #[test]
    fn many_rows_are_several_spans_without_a_gap_between_them() {
        let mut tally = Tally::new(NextOffset::START);
        let records = 2 * ROWS_MAX + 10;
        for (offset, number) in (0..).zip(0..records) {
            let number = u128::try_from(number).expect("small");
            tally.count(offset, at(0), Some(workspace(number))).read += 1;
        }
        let spans = tally.spans();
        assert_eq!(spans, tally.take());
        assert_eq!(spans.len(), 3);
        assert!(spans.iter().all(|span| span.rows.len() <= ROWS_MAX));
        assert!(spans.windows(2).all(|pair| pair[0].to == pair[1].from));
        assert_eq!(spans.iter().map(|span| span.rows.len()).sum::<usize>(), records);
    }
}
