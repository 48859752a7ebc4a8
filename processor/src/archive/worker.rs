//! The archive as a worker of a group member: judges what is read, and writes the chunks that are due.

use super::{
    Error,
    chunk::Limits,
    error::Reaction,
    metrics::ArchiveMetrics,
    partition::{Judged, Partition, Record},
    path::Source,
    shelf::Shelf,
};
use crate::{
    admission::Admission,
    ledger::Span,
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
use millrace_log::{LogSettings, NextOffset, Publisher};
use millrace_schemas::{EventTime, WorkspaceId, ledger::Entry};
use millrace_tenancy::Directory;
use rdkafka::{Message as _, message::BorrowedMessage};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

/// Records that are judged together: their workspaces are asked for at once.
const JUDGED_AT_ONCE: usize = 512;
/// The longest that a record waits to be judged, and how often chunks are looked at.
const LINGER: Duration = Duration::from_millis(50);
/// How long a worker without records may sleep.
const PATIENCE: Duration = Duration::from_secs(1);
/// What all chunks together may hold: past it the largest is written.
const BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long one chunk may take; far less than the group's patience with this member (`max.poll.interval.ms`).
const WRITE_LIMIT: Duration = Duration::from_secs(120);
/// How long the start of an assignment or a sweep may take.
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
    /// Records read but not judged, in order.
    unjudged: Vec<(i32, Record)>,
    unjudged_since: Option<Instant>,
    /// When chunks are looked at next.
    look_at: Option<Instant>,
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
            partition.take(record, &self.state.workspaces, now);
        }
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

    /// The partition whose chunk should be written now.
    fn due(&self, now: Instant) -> Option<i32> {
        let partitions = &self.state.partitions;
        let due = partitions.iter().find(|(_, partition)| partition.is_due(&self.limits, now));
        let held: usize = partitions.values().map(|partition| partition.chunk.bytes()).sum();
        let largest = || partitions.iter().max_by_key(|(_, partition)| partition.chunk.bytes());
        due.or_else(|| if held >= BYTES_MAX { largest() } else { None }).map(|(number, _)| *number)
    }

    fn write(&mut self, member: &Member, number: i32, limit: Duration) -> Result<(), Failure<Error>> {
        let Some(partition) = self.state.partitions.get_mut(&number) else { return Ok(()) };
        let source = Source { topic: member.topic().to_owned(), partition: number };
        let timer = self.metrics.seconds.start_timer();
        let written = self.blocking.run(limit, self.shelf.write(&source, &mut partition.chunk));
        let manifest = match written.unwrap_or(Err(Error::TimedOut("writing to the archive"))) {
            Ok(manifest) => manifest,
            Err(error) => {
                timer.stop_and_discard();
                partition.sweep = true;
                return Err(self.forget_if_moved(number, error));
            }
        };
        timer.observe_duration();
        self.metrics.archived(&manifest);
        partition.written();
        member.tell_progress([(number, manifest.next())]);
        tracing::debug!(
            partition = number,
            from = manifest.from,
            to = manifest.to,
            records = manifest.records,
            files = manifest.files.len(),
            "archived"
        );
        if partition.sweep {
            self.sweep(&source);
        }
        Ok(())
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

    /// Not being able to is no reason to stop archiving: it is tried again after the next chunk.
    fn sweep(&mut self, source: &Source) {
        let swept = self.blocking.run(LOOK_LIMIT, self.shelf.sweep(source));
        match swept.unwrap_or(Err(Error::TimedOut("removing orphans"))) {
            Ok(orphans) => {
                self.metrics.orphans.inc_by(orphans as u64);
                if orphans > 0 {
                    tracing::info!(
                        partition = source.partition,
                        orphans,
                        "removed files of cut-short attempts"
                    );
                }
                if let Some(partition) = self.state.partitions.get_mut(&source.partition) {
                    partition.sweep = false;
                }
            }
            Err(error) => {
                tracing::warn!(partition = source.partition, error = %Chain(&error), "orphans are left for later");
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

    fn start(
        &mut self,
        member: &Member,
        partitions: &[i32],
    ) -> Result<Vec<(i32, NextOffset)>, Failure<Error>> {
        let found = self.look_up(member, partitions)?;
        let (mut parked, mut clients) = (std::mem::take(&mut self.state.parked), None);
        for Found { partition, next, attempted, low, untold } in found {
            let kept = parked.remove(&partition).filter(|kept| kept.chunk.from() == next);
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
        let payload = message.payload();
        let record = Record {
            offset: message.offset(),
            append_time: EventTime::from_millis(message.timestamp().to_millis().unwrap_or(0)),
            bytes: payload.map_or(0, <[u8]>::len),
            content: partition.parse(message.offset(), payload),
        };
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
        let due = self.due(now);
        if let Some(number) = due {
            self.write(member, number, WRITE_LIMIT)?;
        }
        if ready {
            self.judge(member, now)?;
        }
        Ok(if ready || due.is_some() { Step::Done } else { Step::Idle })
    }

    fn patience(&self, now: Instant) -> Duration {
        let waited = |since| LINGER.saturating_sub(now.saturating_duration_since(since));
        self.state.unjudged_since.map_or(PATIENCE, waited)
    }

    fn give_up(&mut self) {
        let state = &mut self.state;
        state.parked.append(&mut state.partitions);
        state.unjudged.clear();
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
                let all = partition.caught_up && partition.chunk.is_empty();
                let lag = (end - partition.chunk.from().get()).max(0);
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
        let partitions = &self.state.partitions;
        let numbers: Vec<i32> =
            partitions.iter().filter(|(_, partition)| !partition.chunk.is_empty()).map(|(n, _)| *n).collect();
        for number in numbers {
            if let Err(Failure::Retry(error) | Failure::Stop(error)) = self.write(member, number, WRITE_LIMIT)
            {
                tracing::warn!(error = %Chain(&error), "the last records are archived after the next start");
                return;
            }
        }
        if let Err(Failure::Retry(error) | Failure::Stop(error)) = self.tell(member.topic()) {
            tracing::debug!(error = %Chain(&error), "the ledger is told of the last records after the next start");
        }
    }
}
