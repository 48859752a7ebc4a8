//! Records that were read but not judged yet.

use crate::stage::chunk::Record;

/// In the order in which they came. What was fetched together is read together; it may be more than a transaction takes.
#[derive(Default)]
pub(super) struct Unjudged {
    records: Vec<Record>,
    /// So many of them are judged.
    judged: usize,
}

impl Unjudged {
    pub(super) fn is_empty(&self) -> bool {
        self.judged >= self.records.len()
    }

    pub(super) fn len(&self) -> usize {
        self.records.len() - self.judged
    }

    pub(super) fn all(&self) -> &[Record] {
        &self.records[self.judged..]
    }

    /// To be filled anew, when all are judged; it keeps its memory.
    pub(super) fn refill(&mut self) -> &mut Vec<Record> {
        self.records.drain(..self.judged);
        self.judged = 0;
        &mut self.records
    }

    /// The next ones, which are judged now.
    pub(super) fn next(&mut self, count: usize) -> &mut [Record] {
        let from = self.judged;
        self.judged = self.records.len().min(from + count);
        &mut self.records[from..self.judged]
    }

    /// Those of partitions that somebody else will read.
    pub(super) fn forget(&mut self, partitions: &[i32]) {
        self.refill().retain(|record| !partitions.contains(&record.partition));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_schemas::EventTime;

    fn offsets(records: &[Record]) -> Vec<(i32, i64)> {
        records.iter().map(|record| (record.partition, record.offset)).collect()
    }

    #[test]
    fn come_in_order_in_pieces_and_without_what_is_given_up() {
        let mut unjudged = Unjudged::default();
        assert!(unjudged.is_empty() && unjudged.next(5).is_empty());
        for offset in 0..6 {
            unjudged.refill().push(Record::parse(i32::from(offset % 2 == 0), offset, EventTime(0), None));
        }
        assert_eq!(offsets(unjudged.next(2)), [(1, 0), (0, 1)]);
        assert_eq!(unjudged.len(), 4);
        unjudged.forget(&[1]);
        assert_eq!(offsets(unjudged.all()), [(0, 3), (0, 5)]);
        assert_eq!(offsets(unjudged.next(5)), [(0, 3), (0, 5)]);
        assert!(unjudged.is_empty() && unjudged.refill().is_empty());
    }
}
