//! The archive as a worker of a group member: judges what is read, and writes the chunks that are due.

use super::{
    Error,
    chunk::{Chunk, Limits},
    error::Reaction,
    manifest::Manifest,
    metrics::ArchiveMetrics,
    partition::{Judged, Partition, Record},
    path::Source,
    shelf::Shelf,
    turns::{self, Turn},
};
use crate::{
    admission::Admission,
    ledger::Span,
    record::Texts,
    settings::AdmissionSettings,
    sink::{
        MemberError,
        drive::{Blocking, Failure, Step, Worker},
        member::{Bounds, Member},
        outage::Chain,
    },
    stage::{
        StageError, combine,
        jumps::lows_after_jumps,
        past::{Past, Patience},
        positions::{Positions, SOON},
        settled::{Stretch, dead_letters},
    },
};
use futures::{StreamExt as _, TryStreamExt as _};
use hashbrown::{HashMap, HashSet};
use millrace_log::{LogSettings, NextOffset, Publisher};
use millrace_schemas::{EventTime, WorkspaceId, ledger::Entry};
use millrace_tenancy::Directory;
use rdkafka::{Message as _, message::BorrowedMessage};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// Records that are judged together: their workspaces are asked for at once.
const JUDGED_AT_ONCE: usize = 512;
/// And the bytes of their strings.
const JUDGED_BYTES: usize = 8 * 1024 * 1024;
/// The longest that a record waits to be judged, and how often chunks are looked at.
const LINGER: Duration = Duration::from_millis(50);
/// How long a worker without records may sleep.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one chunk may take, and when no other is waited for: far less together than the group's patience with this
/// member (`max.poll.interval.ms`).
const WRITE_LIMIT: Duration = Duration::from_secs(120);
const WAIT_LIMIT: Duration = Duration::from_secs(60);
/// How long the orphans of one partition may take.
const SWEEP_LIMIT: Duration = Duration::from_secs(30);
/// How long the start of an assignment may take.
const LOOK_LIMIT: Duration = Duration::from_secs(60);
const DIRECTORY_LIMIT: Duration = Duration::from_secs(10);
/// How long the ledger may take to hear of what was archived.
const LEDGER_LIMIT: Duration = Duration::from_secs(5);
/// Partitions looked up in the store at once.
const LOOKUPS_AT_ONCE: usize = 16;

pub struct Archive {
    pub log: LogSettings,
    pub ledger: Publisher,
    pub shelf: Shelf,
    pub directory: Directory,
    pub blocking: Blocking,
    pub metrics: ArchiveMetrics,
    pub limits: Limits,
    pub admission: AdmissionSettings,
    pub state: State,
}

#[derive(Default)]
pub struct State {
    partitions: BTreeMap<i32, Partition>,
    /// Those given up, as they were: one that comes back goes on where it was, if nobody else has gone on.
    parked: BTreeMap<i32, Partition>,
    /// Workspaces that certainly exist, and since when.
    workspaces: HashMap<WorkspaceId, EventTime>,
    /// Records read but not judged, in order, and their strings.
    unjudged: Vec<(i32, Record)>,
    texts: Texts,
    unjudged_since: Option<Instant>,
    /// When chunks are looked at next.
    look_at: Option<Instant>,
    /// Chunks that are written while other records are taken, by partition.
    writing: BTreeMap<i32, JoinHandle<Written>>,
}

/// What came of it.
struct Written {
    chunk: Chunk,
    result: Result<Manifest, Error>,
    took: Duration,
    /// The orphans that were removed then, if any were looked for.
    swept: Option<Result<usize, Error>>,
}

/// How far a partition is archived, and how far an interrupted archiver has begun.
struct Found {
    partition: i32,
    next: NextOffset,
    attempted: Option<NextOffset>,
    /// The first offset that the log has.
    low: NextOffset,
    /// What the ledger may not have been told.
    untold: Vec<Span>,
}

impl Archive {
    fn is_batch_ready(&self, now: Instant) -> bool {
        self.state.unjudged.len() >= JUDGED_AT_ONCE
            || self.state.texts.bytes() >= JUDGED_BYTES
            || self.state.unjudged_since.is_some_and(|since| now.saturating_duration_since(since) >= LINGER)
    }

    fn judge(&mut self, member: &Member, now: Instant) -> Result<(), Failure<Error>> {
        let partitions = &self.state.partitions;
        let next = partitions.iter().map(|(number, partition)| (*number, partition.reached())).collect();
        let read = self.state.unjudged.iter().map(|(number, record)| (*number, record.offset));
        let low = |number| Ok(member.bounds(number).map_err(|error| failure(error.into()))?.low);
        let lows = lows_after_jumps(next, read, low)?;
        let ids: HashSet<WorkspaceId> = self
            .state
            .unjudged
            .iter()
            .filter_map(|(_, record)| Some(record.content.as_ref().ok()?.identity().workspace))
            .filter(|workspace| !self.state.workspaces.contains_key(workspace))
            .collect();
        self.learn_workspaces(ids.into_iter().collect())?;
        self.state.unjudged_since = None;
        for (number, record) in self.state.unjudged.drain(..) {
            let Some(partition) = self.state.partitions.get_mut(&number) else { continue };
            if let Some(low) = lows.get(&number)
                && partition.skips_to(record.offset, *low)
            {
                tracing::error!(partition = number, first = %low, "retention removed records before they were archived");
            }
            partition.take((record, &self.state.texts), &self.state.workspaces, now);
        }
        if self.state.texts.capacity() > 2 * JUDGED_BYTES {
            self.state.texts = Texts::default();
        }
        self.state.texts.clear();
        Ok(())
    }

    fn learn_workspaces(&mut self, ids: Vec<WorkspaceId>) -> Result<(), Failure<Error>> {
        if ids.is_empty() {
            return Ok(());
        }
        match self.blocking.run(DIRECTORY_LIMIT, self.directory.created(&ids)) {
            Some(created) => {
                self.state.workspaces.extend(created.map_err(|error| failure(Error::Directory(error)))?);
                Ok(())
            }
            None => Err(Failure::Retry(Error::TimedOut("asking which workspaces exist"))),
        }
    }

    /// Writes what is due, while more is taken: it waits only for what must be there before that. Whether there was anything.
    fn write_due(&mut self, member: &Member, now: Instant) -> Result<bool, Failure<Error>> {
        let mut any = self.finish_written(member)?;
        loop {
            let partitions = self.state.partitions.values_mut();
            partitions.for_each(|partition| partition.close_if_due(&self.limits, now));
            match turns::next(&self.state.partitions, &self.limits) {
                Turn::Begin(number) => self.begin_writing(member, number)?,
                Turn::Again(number) => {
                    self.begin_writing(member, number)?;
                    self.finish_writing(member, number)?;
                }
                Turn::Await(number) => self.finish_writing(member, number)?,
                Turn::Nothing => break,
            }
            any = true;
            if now.elapsed() >= WAIT_LIMIT {
                break;
            }
        }
        if !any {
            self.state.partitions.values_mut().for_each(Partition::release_idle);
        }
        Ok(any)
    }

    /// All that was judged, but for partitions that others have gone on with.
    fn write_all(&mut self, member: &Member) -> Result<(), Failure<Error>> {
        let unless_moved = |result| match result {
            Err(Failure::Restart) => Ok(()),
            other => other,
        };
        while let Some(number) = self.state.writing.keys().next().copied() {
            unless_moved(self.finish_writing(member, number))?;
        }
        while let Some(number) = self.unwritten() {
            self.begin_writing(member, number)?;
            unless_moved(self.finish_writing(member, number))?;
        }
        Ok(())
    }

    fn unwritten(&self) -> Option<i32> {
        let mut partitions = self.state.partitions.iter();
        partitions.find(|(_, partition)| !partition.is_empty()).map(|(number, _)| *number)
    }

    /// Only once the ledger was told of the chunk before: of two it would hear of the second alone if this one died.
    fn begin_writing(&mut self, member: &Member, number: i32) -> Result<(), Failure<Error>> {
        self.tell(member.topic())?;
        let Some(partition) = self.state.partitions.get_mut(&number) else { return Ok(()) };
        let (mut chunk, sweeps) = (partition.hand_out(), partition.sweep);
        let source = Source { topic: member.topic().to_owned(), partition: number };
        let shelf = self.shelf.clone();
        let task = self.blocking.beside(move |blocking| {
            let began = Instant::now();
            let written = blocking.run(WRITE_LIMIT, shelf.write(&source, &mut chunk));
            let result = written.unwrap_or(Err(Error::TimedOut("writing to the archive")));
            let took = began.elapsed();
            let swept = (sweeps && result.is_ok()).then(|| {
                let swept = blocking.run(SWEEP_LIMIT, shelf.sweep(&source));
                swept.unwrap_or(Err(Error::TimedOut("removing orphans")))
            });
            Written { chunk, result, took, swept }
        });
        self.state.writing.insert(number, task);
        Ok(())
    }

    /// Those that are done already; whether there were any.
    fn finish_written(&mut self, member: &Member) -> Result<bool, Failure<Error>> {
        let written = self.state.writing.iter().filter(|(_, task)| task.is_finished());
        let written: Vec<i32> = written.map(|(number, _)| *number).collect();
        written.iter().try_for_each(|number| self.finish_writing(member, *number))?;
        Ok(!written.is_empty())
    }

    /// Waits for the chunk of a partition that is out.
    fn finish_writing(&mut self, member: &Member, number: i32) -> Result<(), Failure<Error>> {
        if let Some(next) = self.hear_of_writing(number)? {
            member.tell_progress([(number, next)]);
        }
        Ok(())
    }

    /// Waits for the chunk of a partition that is out: up to where it was written, if one was.
    fn hear_of_writing(&mut self, number: i32) -> Result<Option<NextOffset>, Failure<Error>> {
        let Some(task) = self.state.writing.remove(&number) else { return Ok(None) };
        let Some(Written { chunk, result, took, swept }) = self.blocking.wait(task) else {
            self.state.partitions.remove(&number);
            return Err(Failure::Restart);
        };
        let sweep = swept.map(|swept| self.hear_of_sweep(number, swept));
        let Some(partition) = self.state.partitions.get_mut(&number) else { return Ok(None) };
        let manifest = match result {
            Ok(manifest) => manifest,
            Err(error) => {
                partition.failed(chunk);
                return Err(self.forget_if_moved(number, error));
            }
        };
        self.metrics.seconds.observe(took.as_secs_f64());
        self.metrics.archived(&manifest);
        partition.written(chunk);
        partition.sweep = sweep.unwrap_or(partition.sweep);
        tracing::debug!(
            partition = number,
            from = manifest.from,
            to = manifest.to,
            records = manifest.records,
            files = manifest.files.len(),
            "archived"
        );
        Ok(Some(manifest.next()))
    }

    /// Tells the ledger what was archived, before anything else is; whether there was anything to tell.
    fn tell(&mut self, topic: &str) -> Result<bool, Failure<Error>> {
        let mut entries = Vec::new();
        for (number, partition) in &self.state.partitions {
            let spans = partition.untold.iter().cloned();
            entries.extend(spans.map(|span| (*number, Entry::Archive(span.of(topic, *number)).write())));
        }
        if entries.is_empty() {
            return Ok(false);
        }
        let told = self.ledger.publish_within(self.blocking.left(LEDGER_LIMIT), &entries);
        told.map_err(|error| failure(Error::Ledger(error)))?;
        self.state.partitions.values_mut().for_each(|partition| partition.untold.clear());
        Ok(true)
    }

    /// A stretch that another archiver has done is not parked but started anew.
    fn forget_if_moved(&mut self, partition: i32, error: Error) -> Failure<Error> {
        let failure = failure(error);
        if matches!(failure, Failure::Restart) {
            self.state.partitions.remove(&partition);
        }
        failure
    }

    /// Whether it is to be tried again after the next chunk: not being able to is no reason to stop archiving.
    fn hear_of_sweep(&self, partition: i32, swept: Result<usize, Error>) -> bool {
        match swept {
            Ok(orphans) => {
                self.metrics.orphans.inc_by(orphans as u64);
                if orphans > 0 {
                    tracing::info!(partition, orphans, "removed files of cut-short attempts");
                }
                false
            }
            Err(error) => {
                tracing::warn!(partition, error = %Chain(&error), "orphans are left for later");
                true
            }
        }
    }

    /// Asked first how far combine is, so that none of its letters up to there is missing.
    fn judged(&self, clients: &mut Option<Clients>, stretch: Stretch) -> Result<Judged, StageError> {
        if stretch.from >= stretch.to {
            return Ok(Judged::default());
        }
        let topics = self.log.topics();
        let Clients { combine, past } = match clients {
            Some(clients) => clients,
            None => clients.insert(Clients {
                combine: Positions::connect(&self.log, combine::GROUP, &topics.metrics)?,
                past: Past::connect(&self.log)?,
            }),
        };
        let (to, _) = combine.committed(stretch.partition)?;
        let patience = Patience { limit: SOON, shutdown: self.blocking.shutdown() };
        Ok(Judged { to, dead: dead_letters(past, &topics, stretch, patience)? })
    }

    fn look_up(&self, member: &Member, partitions: &[i32]) -> Result<Vec<Found>, Failure<Error>> {
        let bounds: Result<Vec<(i32, Bounds)>, MemberError> =
            partitions.iter().map(|number| Ok((*number, member.bounds(*number)?))).collect();
        let bounds = bounds.map_err(|error| failure(error.into()))?;
        let source = |partition| Source { topic: member.topic().to_owned(), partition };
        let lookups = futures::stream::iter(bounds)
            .map(|(number, bounds)| self.look_up_one(source(number), bounds))
            .buffered(LOOKUPS_AT_ONCE)
            .try_collect();
        let found: Option<Result<Vec<Found>, Error>> = self.blocking.run(LOOK_LIMIT, lookups);
        found.unwrap_or(Err(Error::TimedOut("finding out how far the archive is"))).map_err(failure)
    }

    /// What is archived must be what the log has or had: otherwise records are lost, or those of another topic come.
    async fn look_up_one(&self, source: Source, bounds: Bounds) -> Result<Found, Error> {
        let newest = self.shelf.newest(&source, bounds.end).await?;
        let next = newest.as_ref().map_or(NextOffset::START, |manifest| manifest.next());
        let Source { topic, partition } = &source;
        if next > bounds.end {
            let (topic, partition) = (topic.clone(), *partition);
            return Err(Error::Recreated { topic, partition, archived: next, end: bounds.end });
        }
        if next < bounds.low && next != NextOffset::START {
            let first = bounds.low;
            tracing::error!(topic, partition, archived = %next, %first, "retention removed records before they were archived");
        }
        let attempted = self.shelf.attempted(&source, next).await?;
        let told = newest.map(|manifest| manifest.ledger).filter(|spans| !spans.is_empty());
        let untold = told.unwrap_or_else(|| vec![Span::empty(next.max(bounds.low), None)]);
        Ok(Found { partition: *partition, next, attempted, low: bounds.low, untold })
    }
}

/// What tells how combine has judged, for as long as it is asked.
struct Clients {
    combine: Positions,
    past: Past,
}

fn failure(error: Error) -> Failure<Error> {
    match error.reaction() {
        Reaction::Retry => Failure::Retry(error),
        Reaction::Restart => Failure::Restart,
        Reaction::Stop => Failure::Stop(error),
    }
}

impl Worker for Archive {
    type Error = Error;
    const ROLE: &'static str = "archive";
    const RECORDS_AT_ONCE: usize = 64;

    fn start(
        &mut self,
        member: &Member,
        partitions: &[i32],
    ) -> Result<Vec<(i32, NextOffset)>, Failure<Error>> {
        let found = self.look_up(member, partitions)?;
        let (mut parked, mut clients) = (std::mem::take(&mut self.state.parked), None);
        for Found { partition, next, attempted, low, untold } in found {
            let kept = parked.remove(&partition).filter(|kept| kept.from() == next);
            let state = match kept {
                Some(kept) => kept.taken_back(attempted),
                None => {
                    let from = Admission::restore_from(next, &self.admission);
                    let judged = self.judged(&mut clients, Stretch { partition, from, to: next });
                    let judged = judged.map_err(|error| failure(Error::DeadLetters(Box::new(error))))?;
                    let mut new = Partition::archived_to(next, attempted, &self.admission, judged);
                    new.chunk.begins_at(low);
                    new.untold = untold;
                    new
                }
            };
            self.state.partitions.insert(partition, state);
        }
        Ok(self.state.partitions.iter().map(|(number, partition)| (*number, partition.reached())).collect())
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) -> Result<(), Error> {
        let number = message.partition();
        let Some(partition) = self.state.partitions.get_mut(&number) else { return Ok(()) };
        let record = Record {
            offset: message.offset(),
            append_time: EventTime::from_millis(message.timestamp().to_millis().unwrap_or(0)),
            content: partition.parse(message.offset(), message.payload(), &mut self.state.texts),
        };
        partition.look_ahead(&record);
        self.state.unjudged_since.get_or_insert_with(Instant::now);
        self.state.unjudged.push((number, record));
        Ok(())
    }

    fn work(&mut self, member: &Member, now: Instant) -> Result<Step, Failure<Error>> {
        // On its own it is a step too: where it had failed nothing comes until one is done, and nothing else may be due.
        if self.tell(member.topic())? {
            return Ok(Step::Done);
        }
        let ready = self.is_batch_ready(now);
        if !ready && self.state.look_at.is_some_and(|at| now < at) {
            return Ok(Step::Idle);
        }
        self.state.look_at = Some(now + LINGER);
        let wrote = self.write_due(member, now)?;
        if ready {
            self.judge(member, now)?;
        }
        Ok(if ready || wrote { Step::Done } else { Step::Idle })
    }

    fn patience(&self, now: Instant) -> Duration {
        let waited = |since| LINGER.saturating_sub(now.saturating_duration_since(since));
        let patience = if self.state.writing.is_empty() { PATIENCE } else { LINGER };
        self.state.unjudged_since.map_or(patience, waited)
    }

    fn give_up(&mut self) {
        let out: Vec<i32> = self.state.writing.keys().copied().collect();
        for number in out {
            if let Err(Failure::Retry(error) | Failure::Stop(error)) = self.hear_of_writing(number) {
                tracing::warn!(partition = number, error = %Chain(&error), "a chunk is left to who takes its partition next");
            }
        }
        let state = &mut self.state;
        state.parked.append(&mut state.partitions);
        state.unjudged.clear();
        state.texts.clear();
        state.unjudged_since = None;
        self.metrics.forget_lags();
    }

    fn caught_up(&mut self, partition: i32) {
        if let Some(partition) = self.state.partitions.get_mut(&partition) {
            partition.caught_up = true;
        }
    }

    fn ends(&mut self, ends: &BTreeMap<i32, i64>) {
        for (number, end) in ends {
            if let Some(partition) = self.state.partitions.get(number) {
                let all = partition.caught_up && partition.is_empty();
                let lag = (end - partition.from().get()).max(0);
                self.metrics.lag(*number, if all { 0 } else { lag });
            }
        }
    }

    fn finish(&mut self, member: &Member) {
        if let Err(Failure::Retry(error) | Failure::Stop(error)) = self.judge(member, Instant::now()) {
            tracing::debug!(error = %Chain(&error), "the last records are archived after the next start");
        }
        // Of each partition the next start tells the newest manifest again, and no other.
        if let Err(Failure::Retry(error) | Failure::Stop(error)) = self.tell(member.topic()) {
            tracing::warn!(error = %Chain(&error), "the last records are archived after the next start");
            return;
        }
        if let Err(Failure::Retry(error) | Failure::Stop(error)) = self.write_all(member) {
            tracing::warn!(error = %Chain(&error), "the last records are archived after the next start");
            return;
        }
        if let Err(Failure::Retry(error) | Failure::Stop(error)) = self.tell(member.topic()) {
            tracing::debug!(error = %Chain(&error), "the ledger is told of the last records after the next start");
        }
    }
}
