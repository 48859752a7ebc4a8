//! The steps of an audit. It runs on a thread that may block, as Kafka's clients do.

use super::{
    Error, Observer, Settings,
    finding::Check,
    report::{MinuteRow, Partition, Report},
    shelved::Shelved,
    start::Start,
    stored::{self, Positions},
    walk::{Books, Walk, cell},
};
use crate::{
    admission::Admission,
    archive::{Shelf, Source},
    history::{History, ends::Bounds},
    sink::store::positions_of,
    stage::settled::Stretch,
};
use millrace_log::NextOffset;
use millrace_schemas::EventTime;
use sqlx::PgPool;
use std::time::{Duration, Instant};

const POLL_INTERVAL: Duration = Duration::from_millis(300);
/// How far before the end the last record is looked for, by steps: what lies behind it are marks of transactions.
const LOOK_BACK: [i64; 3] = [1, 100, i64::MAX];

pub(super) struct Job {
    pub settings: Settings,
    pub history: History,
    pub pool: PgPool,
    /// None where no archive is kept.
    pub shelf: Option<Shelf>,
    pub observer: Box<dyn Observer>,
    pub books: Books,
    /// When the audit began: where nothing else is known, all records came before.
    pub now: EventTime,
}

impl Job {
    pub(super) fn run(mut self) -> Result<Report, Error> {
        let topic = self.history.log.topics().metrics;
        let bounds = self.history.bounds(&topic)?;
        let ends = self.last_records(&bounds)?;
        let missing = self.wait(&ends)?;
        if !missing.is_empty() {
            missing.into_iter().for_each(|what| self.books.findings.add(Check::NotProcessed, || what));
            return Ok(self.report(Vec::new(), Checked::default()));
        }
        self.books.letters = super::letters::Letters::read(&self.history, &mut self.books.findings)?;
        let (partitions, mut checked) = self.walk(&bounds, &ends)?;
        self.compare(&ends, &partitions, &mut checked)?;
        Ok(self.report(partitions, checked))
    }

    fn block<T>(&self, work: impl Future<Output = T>) -> T {
        self.history.handle.block_on(work)
    }

    /// By partition, the offset after its last record.
    fn last_records(&self, bounds: &[Bounds]) -> Result<Vec<i64>, Error> {
        (0..).zip(bounds).map(|(partition, bounds)| self.last_record(partition, *bounds)).collect()
    }

    fn last_record(&self, partition: i32, Bounds { low, end }: Bounds) -> Result<i64, Error> {
        for back in LOOK_BACK {
            let from = low.max(NextOffset::exclusive(end.get().saturating_sub(back)));
            let mut last = None;
            self.history.read::<Error>(Stretch { partition, from, to: end }, |record| {
                last = Some(NextOffset::after(record.offset).get());
                Ok(())
            })?;
            if let Some(last) = last {
                return Ok(last);
            }
        }
        Ok(low.get())
    }

    /// Waits until all stages have dealt with these records; what is missing when it is given up.
    fn wait(&mut self, ends: &[i64]) -> Result<Vec<String>, Error> {
        self.observer.begin("waits until all of it is processed", 0);
        let deadline = Instant::now() + self.settings.wait;
        let mut rows = None;
        loop {
            if self.history.shutdown.is_cancelled() {
                return Err(crate::stage::StageError::Stopped.into());
            }
            let missing = self.missing(ends, &mut rows)?;
            if missing.is_empty() || Instant::now() >= deadline {
                return Ok(missing);
            }
            self.block(tokio::time::sleep(POLL_INTERVAL));
        }
    }

    fn missing(
        &self,
        ends: &[i64],
        rows: &mut Option<std::collections::BTreeMap<i32, i64>>,
    ) -> Result<Vec<String>, Error> {
        let topics = self.history.log.topics();
        let mut missing = Vec::new();
        if rows.is_none() {
            *rows = self.history.told()?.rows_with(ends);
        }
        match rows {
            None => missing.push("combine or windows have not dealt with all records".to_owned()),
            Some(rows) => {
                let stored = self.block(positions_of(&self.pool, &topics.aggregates))?;
                if rows.iter().any(|(partition, next)| stored.get(partition).unwrap_or(&0) < next) {
                    missing.push("the sink has not stored all rows".to_owned());
                }
            }
        }
        let told = self.block(Positions::read(&self.pool, &topics.metrics))?;
        if !told.has("combine", ends) {
            missing.push("the ledger is not told of all records by combine".to_owned());
        }
        let Some(shelf) = &self.shelf else { return Ok(missing) };
        if !told.has("archive", ends) {
            missing.push("the ledger is not told of all records by the archive".to_owned());
        }
        for (partition, end) in (0..).zip(ends) {
            let source = Source { topic: topics.metrics.clone(), partition };
            let newest = self.block(shelf.newest(&source, NextOffset::exclusive(*end)))?;
            let next = newest.map_or(0, |manifest| manifest.to);
            if next < *end {
                missing.push(format!("partition {partition} is archived up to {next}, not to {end}"));
            }
        }
        Ok(missing)
    }

    fn walk(&mut self, bounds: &[Bounds], ends: &[i64]) -> Result<(Vec<Partition>, Checked), Error> {
        let topic = self.history.log.topics().metrics;
        let wanted = self.wanted(bounds)?;
        let starts = bounds.iter().zip(wanted);
        let starts: Vec<Start> =
            starts.map(|(bounds, wanted)| Start::of(bounds.low, wanted, &self.history.admission)).collect();
        let total: i64 = starts.iter().zip(ends).map(|(start, end)| (end - start.read.get()).max(0)).sum();
        self.observer.begin("records of the log", total.unsigned_abs());
        let (mut partitions, mut checked) = (Vec::new(), Checked::default());
        let history = self.history.clone();
        for ((partition, start), end) in (0..).zip(starts).zip(ends) {
            let source = Source { topic: topic.clone(), partition };
            let shelved = self.shelf.clone().map(|shelf| Shelved::open(shelf, source, start.exact));
            let mut walk = Walk {
                history: &history,
                partition,
                start,
                to: NextOffset::exclusive(*end),
                shelved: shelved.map(|opened| self.block(opened)).transpose()?,
                admission: Admission::new(&history.admission),
                unknown_until: None,
            };
            walk.run(&mut self.books, self.observer.as_mut())?;
            if start.exact > NextOffset::START {
                // Of a partition whose older records are all gone only this is known.
                checked.unknown_until = checked.unknown_until.max(walk.unknown_until.or(Some(self.now)));
            }
            if let Some(shelved) = walk.shelved {
                checked.manifests += shelved.manifests;
                checked.archived += shelved.records;
            }
            partitions.push(Partition { partition, from: start.exact.get(), to: *end });
        }
        Ok((partitions, checked))
    }

    /// The first offsets that are to be audited.
    fn wanted(&self, bounds: &[Bounds]) -> Result<Vec<NextOffset>, Error> {
        match self.settings.from {
            Some(from) => Ok(self.history.offsets_at(&self.history.log.topics().metrics, from)?),
            None => Ok(bounds.iter().map(|bounds| bounds.low).collect()),
        }
    }

    /// Holds what is stored against what was read.
    fn compare(
        &mut self,
        ends: &[i64],
        partitions: &[Partition],
        checked: &mut Checked,
    ) -> Result<(), Error> {
        self.observer.begin("compares", 0);
        let topic = self.history.log.topics().metrics;
        let told = self.block(Positions::read(&self.pool, &topic))?;
        let exact = checked.unknown_until.map(|until| until.saturating_add(Duration::from_secs(60)));
        checked.exact_from = exact.map(|time| millrace_schemas::ledger::Minute::of(time).start());
        let skew = self.history.admission.future_skew.into();
        self.books.cells.exact_from(checked.unknown_until.map(|until| until.saturating_add(skew)));
        self.history.handle.clone().block_on(stored::rows(&self.pool, &mut self.books.cells))?;
        let from = checked.exact_from.max(told.since);
        let ledger = self.block(stored::ledger(&self.pool, from))?;
        self.take_moving(ends)?;
        checked.window_sums = self.books.cells.compare(&mut self.books.findings);
        let archive = self.shelf.is_some();
        checked.ledger_rows = self.books.minutes.compare(&ledger, (from, archive), &mut self.books.findings);
        let bounds = self.history.bounds(&topic)?;
        let read = |partition: i32| {
            let at = usize::try_from(partition).ok()?;
            let Partition { from, to, .. } = *partitions.get(at)?;
            Some((from..to, bounds.get(at)?.end.get()))
        };
        checked.letters = self.books.letters.finish(read, &mut self.books.findings);
        let trimmed = bounds.iter().any(|bounds| bounds.low > NextOffset::START);
        if trimmed && self.books.minutes.rows.is_empty() {
            self.books.findings.add(Check::NothingExact, || "all partitions".to_owned());
        }
        if checked.ledger_rows == 0 && !self.books.minutes.rows.is_empty() {
            self.books.findings.add(Check::NothingExact, || "the ledger".to_owned());
        }
        if checked.window_sums == 0 && self.books.minutes.total().counted > 0 {
            self.books.findings.add(Check::NothingExact, || "the rows of 5 s".to_owned());
        }
        Ok(())
    }

    /// What came while the audit ran may be in the tables or not.
    fn take_moving(&mut self, ends: &[i64]) -> Result<(), Error> {
        let bounds = self.history.bounds(&self.history.log.topics().metrics)?;
        for ((partition, from), bounds) in (0..).zip(ends).zip(bounds) {
            let stretch = Stretch { partition, from: NextOffset::exclusive(*from), to: bounds.end };
            let mut came = Vec::new();
            self.history.read::<Error>(stretch, |record| {
                came.push((record.append_time, record.workspace(), cell(&record)));
                Ok(())
            })?;
            for (time, workspace, cell) in came {
                self.books.minutes.moving(time, workspace);
                if let Some((key, time)) = cell {
                    self.books.cells.moving(key, time);
                }
            }
        }
        Ok(())
    }

    fn report(mut self, partitions: Vec<Partition>, checked: Checked) -> Report {
        self.observer.end();
        let rows = self.books.minutes.rows.iter();
        let minutes = rows.map(|((minute, workspace), counts)| MinuteRow {
            workspace_id: *workspace,
            minute: minute.start(),
            counts: *counts,
        });
        Report {
            agrees: self.books.findings.is_empty(),
            partitions,
            exact_from: checked.exact_from,
            minutes: minutes.collect(),
            total: self.books.minutes.total(),
            other_rules: self.books.other_rules,
            letters: checked.letters,
            manifests: checked.manifests,
            archived: checked.archived,
            window_sums: checked.window_sums,
            window_sums_s: self.books.cells.width_s(),
            ledger_rows: checked.ledger_rows,
            findings: self.books.findings,
        }
    }
}

/// How much was looked at.
#[derive(Default)]
struct Checked {
    /// Not all records that came until then are judged.
    unknown_until: Option<EventTime>,
    exact_from: Option<EventTime>,
    letters: u64,
    manifests: u64,
    archived: u64,
    window_sums: u64,
    ledger_rows: u64,
}
