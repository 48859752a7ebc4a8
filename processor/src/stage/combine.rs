//! Combine: raw records → partial states, one Kafka transaction a chunk with the raw offsets in it. The shell around
//! [`super::chunk`]: it polls, asks which workspaces exist, aggregates and writes.

mod committing;
mod judging;
mod meters;
mod pace;
mod restoring;

pub use meters::Meters;

use super::{
    StageError,
    chunk::{Original, Record, Source},
    client::{Assignment, Client, Events, Stage},
    entries::Ledger,
    frame::{self, Router},
    group::Place,
    left_open::LeftOpen,
    past::Past,
    restorer::{BUSY_WAIT, Restorer},
};
use crate::{
    plan::Plan,
    settings::{AdmissionSettings, WindowSettings},
};
use judging::{Open, judge};
use millrace_log::{Batches, Fetched, LogSettings, partition_count};
use millrace_schemas::{EventTime, topic::Topics};
use millrace_tenancy::Directory;
use pace::{Beat, Pace};
use rdkafka::{Message, error::KafkaError, message::BorrowedMessage};
use restoring::{DIRECTORY_RETRY, Known, Restored, Restoring};
use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// The workers' group.
pub(crate) const GROUP: &str = "combine";
/// A chunk ends when its dead letters have this many bytes.
const LETTERS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long a poll waits for the first record of a chunk: idleness is noticed as often.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// How long to wait for the other workers of the process to join, and how often it is looked whether they have.
const SIBLINGS_WAIT: Duration = Duration::from_secs(2);
const SIBLINGS_POLL: Duration = Duration::from_millis(20);
/// Judged and aggregated together: few enough to stay in a core's cache.
const BLOCK_RECORDS: usize = 2_048;
/// Of a larger key or value a dead letter holds only the beginning, and says so: the log could refuse it for ever.
const LETTER_BYTES_MAX: usize = 3 * 1024 * 1024;

/// What a combine worker works with.
#[derive(Clone)]
pub struct Components {
    pub log: LogSettings,
    pub directory: Directory,
    pub plan: Plan,
    pub meters: Meters,
    pub left_open: Arc<LeftOpen>,
    pub shutdown: CancellationToken,
}

#[derive(Clone, Debug)]
pub struct CombineSettings {
    pub admission: AdmissionSettings,
    pub windows: WindowSettings,
    /// Names the worker in the group and in transactions.
    pub place: Place,
    /// How many the process has.
    pub workers: u16,
}

/// Runs until `shutdown`, or returns the trouble after which it must begin again.
pub fn run(components: &Components, settings: &CombineSettings, runtime: &Runtime) -> Result<(), StageError> {
    let topics = components.log.topics();
    let stage = stage(&topics);
    let client = Client::connect(
        &components.log,
        stage,
        settings.place.clone(),
        &components.left_open,
        &components.shutdown,
    )?;
    let mut worker = Worker {
        raw_partitions: client.partitions,
        router: Router::new(partition_count(&client.consumer, &topics.partials)?),
        ledger: Ledger::new(&client, topics.ledger)?,
        batches: Batches::new(&client.consumer),
        sources: BTreeMap::new(),
        unjudged: Vec::new(),
        was_paused: false,
        restorer: Restorer::new(components.shutdown.clone()),
        known: Known::new(),
        pace: Pace::new(Instant::now()),
        partials: topics.partials,
        dead_letters: topics.dead_letters,
        components,
        settings,
        runtime,
        client: &client,
    };
    let ended = client.end(worker.work());
    if components.shutdown.is_cancelled() {
        client.leave_to_others();
    }
    ended
}

fn stage(topics: &Topics) -> Stage {
    Stage {
        group: GROUP,
        reads: topics.metrics.clone(),
        writes: [topics.partials.clone(), topics.dead_letters.clone(), topics.ledger.clone()],
    }
}

/// What came at once.
#[derive(Default)]
struct Taken {
    first_came: Option<Instant>,
    records: usize,
}

struct Worker<'a> {
    components: &'a Components,
    settings: &'a CombineSettings,
    runtime: &'a Runtime,
    client: &'a Client,
    batches: Batches<'a, Events>,
    raw_partitions: i32,
    router: Router,
    ledger: Ledger,
    partials: String,
    dead_letters: String,
    sources: BTreeMap<i32, Source>,
    /// Received, but not yet judged. None is, between transactions.
    unjudged: Vec<Record>,
    /// Since the last take; a rebalance pauses too.
    was_paused: bool,
    restorer: Restorer<Restored>,
    known: Known,
    pace: Pace,
}

impl<'a> Worker<'a> {
    fn work(&mut self) -> Result<(), StageError> {
        self.await_siblings()?;
        while !self.components.shutdown.is_cancelled() {
            self.follow_assignment()?;
            let open = self.gather()?;
            self.commit(open)?;
            self.client.watch()?;
            self.client.close_left_open()?;
        }
        Ok(())
    }

    /// Waits a little for the other workers of this process, that join the group at the same time: what is read before they
    /// have their share would be read once more by them.
    fn await_siblings(&mut self) -> Result<(), StageError> {
        let deadline = Instant::now() + SIBLINGS_WAIT;
        while !self.components.shutdown.is_cancelled() {
            self.poll_group(SIBLINGS_POLL)?;
            self.follow_assignment()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.client.is_shared_out(self.settings.workers, left) {
                break;
            }
        }
        Ok(())
    }

    /// Judges what comes until it is enough, it is time to commit, or the group wants something: that waits until what was
    /// judged is committed.
    fn gather(&mut self) -> Result<Open, StageError> {
        let records_max = usize::try_from(self.settings.windows.chunk_records).unwrap_or(usize::MAX);
        let WindowSettings { commit_interval, watermark_delay, .. } = self.settings.windows;
        let beat = Beat { interval: commit_interval.into(), watermark_delay: watermark_delay.into() };
        let mut open = Open::new(&self.components.plan)?;
        self.pace.next(Instant::now(), POLL_WAIT);
        loop {
            self.begin_restored()?;
            self.poll_group(Duration::ZERO)?;
            let left = self.pace.left(Instant::now());
            let gathered = usize::try_from(open.counts.records()).unwrap_or(usize::MAX);
            let over = left.is_zero()
                || gathered >= records_max
                || open.letters_bytes >= LETTERS_BYTES_MAX
                || self.client.news().is_some()
                || self.components.shutdown.is_cancelled();
            if over {
                return Ok(open);
            }
            let wait = if self.restorer.is_busy() { BUSY_WAIT } else { POLL_WAIT };
            let taken = self.take(left.min(wait), records_max - gathered, &mut open)?;
            if let Some(first_came) = taken.first_came.filter(|_| gathered == 0) {
                let clock = EventTime::from(chrono::Utc::now()).saturating_sub(first_came.elapsed());
                self.pace.begin(first_came, beat, clock);
            }
            self.pace.took(taken.records);
            self.learn_workspaces(&mut open)?;
            let asked = (&self.known, &*self.client.positions);
            judge(&mut self.unjudged, &mut self.sources, asked, &mut open)?;
        }
    }

    /// Takes what has come, up to `most` records and as many dead letters as a transaction may have, and judges it a block at a
    /// time, while it is in the core's cache; but not what the database has to be asked about, nor what comes after it.
    fn take(&mut self, wait: Duration, most: usize, open: &mut Open) -> Result<Taken, StageError> {
        if self.was_paused {
            self.client
                .go_on(self.sources.iter().map(|(partition, source)| (*partition, source.received)))?;
            self.was_paused = false;
        }
        let (sources, unjudged) = (&mut self.sources, &mut self.unjudged);
        let (known, positions) = (&self.known, &self.client.positions);
        let (mut all, mut are_known, mut letters_bytes) = (Taken::default(), true, open.letters_bytes);
        self.batches.take(wait, |taken| {
            let message = match taken {
                Ok(message) => message,
                Err(error) => return follow_error(sources, error).map(ControlFlow::Continue),
            };
            all.first_came.get_or_insert_with(Instant::now);
            all.records += 1;
            // None comes before the partition is restored: its place would be lost.
            let source = sources.get_mut(&message.partition()).ok_or(StageError::Overtaken)?;
            source.receives(message.offset());
            // Where it stays: it is too large to be moved about.
            unjudged.push(read_fetched(&message));
            let record = unjudged.last_mut().expect("one was pushed");
            record.admitted = source.admits(record, known);
            if record.admitted.is_none() {
                are_known &= record.workspace().is_none_or(|workspace| known.contains_key(&workspace));
                let original = original(&message);
                letters_bytes += original.bytes();
                record.original = Some(Box::new(original));
            }
            if are_known && unjudged.len() >= BLOCK_RECORDS {
                judge(unjudged, sources, (known, positions), open)?;
            }
            let is_enough = all.records >= most || letters_bytes >= LETTERS_BYTES_MAX;
            Ok(if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(all)
    }

    /// Lets the client work.
    fn poll_group(&mut self, wait: Duration) -> Result<(), StageError> {
        match self.client.consumer.poll(wait) {
            // Records come in batches, and only of restored partitions: this one would be lost.
            Some(Ok(_)) => Err(StageError::Overtaken),
            Some(Err(error)) => follow_error(&mut self.sources, error),
            None => Ok(()),
        }
    }

    /// Does what the group wants.
    fn follow_assignment(&mut self) -> Result<(), StageError> {
        let Some(news) = self.client.news() else { return Ok(()) };
        self.was_paused = true;
        match news {
            Assignment::Assigned(partitions) => {
                self.client.take_on(&partitions)?;
                if !partitions.is_empty() {
                    let past = Arc::new(Mutex::new(Past::connect(&self.components.log)?));
                    partitions.iter().for_each(|partition| self.restore(*partition, &past));
                }
                Ok(())
            }
            Assignment::Revoked(partitions) => {
                self.sources.retain(|p, _| !partitions.contains(p));
                self.unjudged.retain(|record| !partitions.contains(&record.partition));
                self.restorer.forget(&partitions);
                self.client.give_up(&partitions)
            }
        }
    }

    fn restore(&mut self, partition: i32, past: &Arc<Mutex<Past>>) {
        let restoring = Restoring {
            components: self.components.clone(),
            admission: self.settings.admission.clone(),
            topic: self.client.topic.clone(),
            partition,
            positions: Arc::clone(&self.client.positions),
            past: Arc::clone(past),
            known: self.known.clone(),
        };
        self.restorer.add(partition, Box::new(move |stop| restoring.run(&stop)));
    }

    /// Begins to read a partition whose duplicate memory is whole.
    fn begin_restored(&mut self) -> Result<(), StageError> {
        let Some((partition, restored)) = self.restorer.next()? else { return Ok(()) };
        self.known.extend(restored.known);
        let next = restored.source.next;
        self.sources.insert(partition, restored.source);
        self.client.begin(partition, next, Some(&self.batches))
    }
}

fn follow_error(sources: &mut BTreeMap<i32, Source>, error: KafkaError) -> Result<(), StageError> {
    match error {
        KafkaError::PartitionEOF(partition) => {
            if let Some(source) = sources.get_mut(&partition) {
                source.reached_end();
            }
        }
        error if is_passing(&error) => tracing::debug!(%error, "the client recovers by itself"),
        source => return Err(StageError::Kafka { what: "polling raw records", source }),
    }
    Ok(())
}

/// On a thread that is no runtime's: a timer can only be made inside one.
fn wait(runtime: &Runtime, duration: Duration) {
    runtime.block_on(async { tokio::time::sleep(duration).await });
}

fn read_fetched(message: &Fetched<'_>) -> Record {
    let append_time = EventTime::from_millis(message.timestamp_ms().unwrap_or(0));
    Record::parse(message.partition(), message.offset(), append_time, message.payload())
}

fn original(message: &Fetched<'_>) -> Original {
    let short = |bytes: &[u8]| bytes[..bytes.len().min(LETTER_BYTES_MAX)].to_vec();
    Original {
        key: message.key().map(short),
        payload: message.payload().map(short),
        payload_bytes: message.payload_len(),
    }
}

pub(crate) fn read_record(message: &BorrowedMessage<'_>) -> Record {
    Record::parse(message.partition(), message.offset(), append_time(message), message.payload())
}

pub(super) fn append_time(message: &BorrowedMessage<'_>) -> EventTime {
    EventTime::from_millis(message.timestamp().to_millis().unwrap_or(0))
}

fn encoding(source: frame::FrameError) -> StageError {
    StageError::Frame { partition: -1, offset: -1, source }
}

/// Errors that librdkafka tells of while it goes on trying.
pub(super) fn is_passing(error: &KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode::{
        AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut | Resolve)
    )
}

#[cfg(test)]
mod tests;
