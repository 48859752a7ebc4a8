//! The steps of a rebuild. It runs on a thread that may block, as Kafka's clients do.

use super::{
    Error, Observer, Phase, Settings, accumulator::Accumulator, difference::compare, report::Report,
    tables::Shadows,
};
use crate::{
    admission::{Identity, Verdict},
    archive::{Shelf, Source, Wanted},
    history::{History, judged::Known},
    sink::store::positions_of,
    stage::settled::Stretch,
};
use millrace_log::NextOffset;
use millrace_schemas::{EventTime, Window};
use sqlx::PgPool;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How often records of the range may come while it is rebuilt.
const ROUNDS_MAX: usize = 20;
const POLL_INTERVAL: Duration = Duration::from_millis(200);

pub(super) struct Job {
    pub settings: Settings,
    pub history: History,
    pub pool: PgPool,
    /// None where no archive is kept.
    pub shelf: Option<Shelf>,
    pub shadows: std::sync::Arc<Shadows>,
    pub accumulator: Accumulator,
    pub observer: Box<dyn Observer>,
    pub report: Report,
    pub known: Known,
}

impl Job {
    pub(super) fn run(mut self) -> Result<Report, Error> {
        self.wait_until_left()?;
        let archived = self.archived()?;
        self.take_archive(&archived)?;
        let mut reached = archived;
        for _ in 0..ROUNDS_MAX {
            let (next, found) = self.take_log(&reached)?;
            reached = next;
            self.wait_until_stored(&reached)?;
            self.handle().block_on(self.shadows.copy_stored())?;
            // What came meanwhile may be in the copy or not.
            let (next, came) = self.take_log(&reached)?;
            reached = next;
            tracing::debug!(found, came, "read the log");
            if came == 0 {
                self.handle().block_on(self.accumulator.finish(&self.shadows))?;
                return self.compare();
            }
        }
        Err(Error::Restless)
    }

    fn handle(&self) -> tokio::runtime::Handle {
        self.history.handle.clone()
    }

    /// Waits until the windows of the range have left, where that can be soon: no watermark is ahead of the clock.
    fn wait_until_left(&mut self) -> Result<(), Error> {
        self.observer.begin(Phase::Waiting, 0);
        let (to, given) = (self.settings.span.to(), self.settings.late_horizon);
        let deadline = Instant::now() + self.settings.wait;
        loop {
            let told = self.history.told()?;
            let Err(not_left) = told.has_left(to, given) else { return Ok(()) };
            let is_future = to.saturating_add(told.horizon(given)) > EventTime::from(chrono::Utc::now());
            if is_future || Instant::now() >= deadline {
                return Err(not_left.into());
            }
            self.refuse_to_go_on_after_a_signal()?;
            self.handle().block_on(tokio::time::sleep(POLL_INTERVAL));
        }
    }

    /// How far each raw partition is archived. From there on the log must still have everything.
    fn archived(&self) -> Result<Vec<NextOffset>, Error> {
        let topic = self.history.log.topics().metrics;
        let mut archived = Vec::new();
        for (partition, bounds) in (0..).zip(self.history.bounds(&topic)?) {
            let newest = match &self.shelf {
                Some(shelf) => {
                    let source = Source { topic: topic.clone(), partition };
                    self.handle().block_on(shelf.newest(&source, bounds.end))?
                }
                None => None,
            };
            let next = newest.map_or(NextOffset::START, |manifest| manifest.next());
            if bounds.low > next {
                return Err(Error::Gap { partition, archived: next, low: bounds.low });
            }
            archived.push(next);
        }
        Ok(archived)
    }

    fn take_archive(&mut self, archived: &[NextOffset]) -> Result<(), Error> {
        let Some(shelf) = self.shelf.clone() else { return Ok(()) };
        let Settings { span, workspace, .. } = self.settings;
        let topic = self.history.log.topics().metrics;
        let wanted = Wanted { from: span.from(), to: span.to(), workspace };
        let skew = self.settings.admission.future_skew.into();
        let when = (archived, span.from().saturating_sub(skew));
        let files = self.handle().block_on(shelf.files(&topic, wanted, when))?;
        self.observer.begin(Phase::Archive, files.iter().map(|file| file.rows).sum());
        for file in files {
            for batch in self.handle().block_on(shelf.records(&file.path))? {
                self.refuse_to_go_on_after_a_signal()?;
                for record in batch? {
                    if self.is_wanted(&record.identity) {
                        self.report.records_archive += 1;
                        self.push(&record.identity, &record.measured)?;
                    }
                }
            }
            self.observer.advance(file.rows);
        }
        Ok(())
    }

    fn refuse_to_go_on_after_a_signal(&self) -> Result<(), Error> {
        match self.history.shutdown.is_cancelled() {
            true => Err(crate::stage::StageError::Stopped.into()),
            false => Ok(()),
        }
    }

    /// It is of the range, and has an outcome.
    fn is_wanted(&self, identity: &Identity) -> bool {
        !identity.running
            && self.settings.span.contains(identity.completed_at)
            && self.settings.workspace.is_none_or(|workspace| workspace == identity.workspace)
    }

    fn push(&mut self, identity: &Identity, measured: &crate::record::Measured) -> Result<(), Error> {
        if self.accumulator.push(identity, measured) {
            self.handle().block_on(self.accumulator.condense(&self.shadows))?;
        }
        Ok(())
    }

    /// Takes in what the log has after `from`; how far it got, and how many records counted. The duplicate memory is
    /// restored only for partitions that have records of the range there.
    fn take_log(&mut self, from: &[NextOffset]) -> Result<(Vec<NextOffset>, u64), Error> {
        let bounds = self.history.bounds(&self.history.log.topics().metrics)?;
        let ahead = from.iter().zip(&bounds).map(|(from, bounds)| (bounds.end.get() - from.get()).max(0));
        self.observer.begin(Phase::Log, ahead.sum::<i64>().unsigned_abs());
        let (mut reached, mut counted) = (Vec::new(), 0);
        for ((partition, from), bounds) in (0..).zip(from).zip(&bounds) {
            let mut found = false;
            let stretch = Stretch { partition, from: *from, to: bounds.end };
            let next = self.history.clone().read::<Error>(stretch, |record| {
                found |= record.parsed.is_ok_and(|(identity, _)| self.is_wanted(&identity));
                self.observer.advance(1);
                Ok(())
            })?;
            if found {
                counted += self.take_judged(Stretch { to: next, ..stretch })?;
            }
            reached.push(next);
        }
        self.report.records_log += counted;
        Ok((reached, counted))
    }

    fn take_judged(&mut self, stretch: Stretch) -> Result<u64, Error> {
        let mut counted = 0;
        let mut known = std::mem::take(&mut self.known);
        self.history.clone().judge::<Error>(stretch, &mut known, |record, verdict| {
            if verdict == Verdict::Counted
                && let Ok((identity, measured)) = &record.parsed
                && self.is_wanted(identity)
            {
                counted += 1;
                self.push(identity, measured)?;
            }
            Ok(())
        })?;
        self.known = known;
        Ok(counted)
    }

    /// Then the stored rows contain all records before `reached`.
    fn wait_until_stored(&mut self, reached: &[NextOffset]) -> Result<(), Error> {
        self.observer.begin(Phase::Waiting, 0);
        let wanted: Vec<i64> = reached.iter().map(|next| next.get()).collect();
        let deadline = Instant::now() + self.settings.wait;
        let mut rows: Option<BTreeMap<i32, i64>> = None;
        loop {
            self.refuse_to_go_on_after_a_signal()?;
            if rows.is_none() {
                rows = self.history.told()?.rows_with(&wanted);
            }
            if let Some(rows) = &rows {
                let topic = self.history.log.topics().aggregates;
                let stored = self.handle().block_on(positions_of(&self.pool, &topic))?;
                if rows.iter().all(|(partition, next)| stored.get(partition).unwrap_or(&0) >= next) {
                    return Ok(());
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::Behind(self.settings.wait));
            }
            self.handle().block_on(tokio::time::sleep(POLL_INTERVAL));
        }
    }

    fn compare(mut self) -> Result<Report, Error> {
        let slices: Vec<_> = self.settings.span.slices().collect();
        self.observer.begin(Phase::Compare, slices.len() as u64);
        let handle = self.handle();
        for slice in slices {
            self.refuse_to_go_on_after_a_signal()?;
            for window in Window::ALL {
                let (stored, rebuilt) = handle.block_on(self.shadows.slice(window, slice))?;
                self.report.compared(window, stored.len(), rebuilt.len());
                let changes = compare(stored, rebuilt);
                for change in &changes {
                    self.report.add(&change.difference);
                    self.observer.difference(&change.difference);
                }
                handle.block_on(self.shadows.keep(window, slice, &changes))?;
            }
            self.observer.advance(1);
        }
        self.observer.end();
        Ok(self.report)
    }
}
