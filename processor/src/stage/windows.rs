//! Windows: partial states → rows of the `aggregates` topic, in transactions with the partials offsets. The shell around
//! [`crate::window`]: it polls, restores partitions, and writes what the core says.

mod meters;
mod restoring;
mod told;

pub use meters::Meters;

use super::{
    StageError,
    client::{Assignment, Client, Stage},
    combine::{append_time, is_passing},
    entries::Ledger,
    frame,
    group::Place,
    left_open::LeftOpen,
    past::Past,
    restorer::{BUSY_WAIT, Restorer},
};
use crate::{
    ledger::Tally,
    plan::Plan,
    settings::WindowSettings,
    window::{Moment, Windows},
};
use millrace_log::{LogSettings, NextOffset, is_closing, partition_count, whole_milliseconds};
use millrace_schemas::{
    AggregateRow, EventTime,
    key::record_key,
    ledger::{Entry, Minute},
    partial,
};
use rdkafka::{
    Message, TopicPartitionList, error::KafkaError, message::BorrowedMessage, producer::BaseRecord,
    topic_partition_list::TopicPartitionListElem,
};
use restoring::Restoring;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use told::{Channel, Told};

/// How long frames are taken before it is looked again at what is due.
const TAKE_MAX: Duration = Duration::from_millis(200);
/// How often the clock is looked at when no frame comes.
const POLL_WAIT: Duration = Duration::from_millis(50);
/// How often offsets are committed when there is nothing to emit.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How often the watermark is, when nothing comes at all: others wait for it.
const QUIET_INTERVAL: Duration = Duration::from_secs(10);
/// A transaction with more rows could take longer than one may be open. Those of late records come on top, as many at most.
const ROWS_MAX: usize = 5_000;

#[derive(Clone)]
pub struct Components {
    pub log: LogSettings,
    pub plan: Plan,
    pub meters: Meters,
    pub left_open: Arc<LeftOpen>,
    pub shutdown: CancellationToken,
}

/// Runs until `shutdown`, or returns the trouble after which it must begin again.
pub fn run(
    components: &Components,
    settings: &WindowSettings,
    place: &Place,
    runtime: &Runtime,
) -> Result<(), StageError> {
    let topics = components.log.topics();
    let stage = Stage {
        group: "windows",
        reads: topics.partials,
        writes: [topics.aggregates.clone(), topics.progress.clone(), topics.ledger.clone()],
    };
    let client =
        Client::connect(&components.log, stage, place.clone(), &components.left_open, &components.shutdown)?;
    let (partials, aggregates) = (client.partitions, partition_count(&client.consumer, &topics.aggregates)?);
    if partials != aggregates {
        return Err(StageError::Unequal { partials, aggregates });
    }
    let channel = Channel {
        partitions: partition_count(&client.consumer, &topics.progress)?,
        topic: topics.progress,
        partials: client.partitions,
        watermark_delay: settings.watermark_delay.into(),
        late_horizon: settings.late_horizon.into(),
    };
    let mut worker = Worker {
        ledger: Ledger::new(&client, topics.ledger)?,
        channel,
        partitions: BTreeMap::new(),
        restorer: Restorer::new(components.shutdown.clone()),
        aggregates: topics.aggregates,
        next_early: Instant::now(),
        next_quiet: Instant::now() + QUIET_INTERVAL,
        turn: None,
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

/// One partials partition.
struct Partition {
    windows: Windows,
    committed: i64,
    committed_at: Instant,
    /// A lower bound of the end of the aggregates partition of the same number: only this worker writes there.
    aggregates_end: i64,
    /// The watermark that was committed last.
    watermark: Option<EventTime>,
    told: Told,
    tally: Tally,
}

struct Worker<'a> {
    components: &'a Components,
    settings: &'a WindowSettings,
    runtime: &'a Runtime,
    client: &'a Client,
    aggregates: String,
    channel: Channel,
    ledger: Ledger,
    partitions: BTreeMap<i32, Partition>,
    restorer: Restorer<Partition>,
    next_early: Instant,
    next_quiet: Instant,
    /// The partition that comes first after a transaction that was full.
    turn: Option<i32>,
}

impl Worker<'_> {
    fn work(&mut self) -> Result<(), StageError> {
        while !self.components.shutdown.is_cancelled() {
            self.take_frames()?;
            self.emit()?;
            self.client.watch()?;
            self.client.close_left_open()?;
        }
        Ok(())
    }

    fn take_frames(&mut self) -> Result<(), StageError> {
        let started = Instant::now();
        let mut until = if self.turn.is_some() { started } else { started + POLL_WAIT };
        loop {
            self.begin_restored()?;
            let left = whole_milliseconds(until.saturating_duration_since(Instant::now()));
            let wait = if self.restorer.is_busy() { left.min(BUSY_WAIT) } else { left };
            let polled = self.client.consumer.poll(wait);
            self.follow_assignment()?;
            match polled {
                Some(Ok(message)) => self.apply(&message)?,
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) if is_passing(&error) => {
                    tracing::debug!(%error, "the client recovers by itself")
                }
                Some(Err(source)) => {
                    return Err(StageError::Kafka { what: "polling partial states", source });
                }
                None if wait == left => break,
                None => continue,
            }
            until = started;
            let is_full = self.partitions.values().any(|partition| partition.windows.is_full(ROWS_MAX));
            if is_full || started.elapsed() >= TAKE_MAX {
                break;
            }
        }
        Ok(())
    }

    fn apply(&mut self, message: &BorrowedMessage<'_>) -> Result<(), StageError> {
        // None comes before the partition is restored: its place would be lost.
        let partition = self.partitions.get_mut(&message.partition()).ok_or(StageError::Overtaken)?;
        let Some((header, states)) = decode(self.components, message)? else { return Ok(()) };
        let lateness = partition.windows.apply(message.offset(), &header, states.as_ref())?;
        partition.tally.reach(NextOffset::after(message.offset()));
        let arrived = Minute::of(header.oldest_arrival.unwrap_or_else(|| append_time(message)));
        for (workspace, late) in lateness {
            let counts = partition.tally.row(Some(workspace), arrived);
            counts.late += late.held;
            counts.backfilled += late.left;
        }
        Ok(())
    }

    fn follow_assignment(&mut self) -> Result<(), StageError> {
        match self.client.news() {
            Some(Assignment::Assigned(partitions)) => {
                self.client.take_on(&partitions)?;
                if !partitions.is_empty() {
                    let past = Arc::new(Mutex::new(Past::connect(&self.components.log)?));
                    partitions.into_iter().for_each(|partition| self.restore(partition, &past));
                }
                Ok(())
            }
            Some(Assignment::Revoked(partitions)) => {
                self.partitions.retain(|p, _| !partitions.contains(p));
                self.restorer.forget(&partitions);
                self.client.give_up(&partitions)
            }
            None => Ok(()),
        }
    }

    fn restore(&mut self, partition: i32, past: &Arc<Mutex<Past>>) {
        let restoring = Restoring {
            components: self.components.clone(),
            settings: self.settings.clone(),
            channel: self.channel.clone(),
            topic: self.client.topic.clone(),
            aggregates: self.aggregates.clone(),
            positions: Arc::clone(&self.client.positions),
            past: Arc::clone(past),
        };
        self.restorer.add(partition, Box::new(move |stop| restoring.run(partition, &stop)));
    }

    /// Begins to read a partition whose windows are whole.
    fn begin_restored(&mut self) -> Result<(), StageError> {
        let Some((number, partition)) = self.restorer.next()? else { return Ok(()) };
        let next = NextOffset::exclusive(partition.committed);
        self.partitions.insert(number, partition);
        self.client.begin(number, next, None)
    }

    /// Writes what is due, of all partitions in one transaction with their offsets.
    fn emit(&mut self) -> Result<(), StageError> {
        let early = is_time(&mut self.next_early, self.settings.early_interval.into());
        let quiet = is_time(&mut self.next_quiet, QUIET_INTERVAL);
        let now = EventTime::from(chrono::Utc::now());
        let (mut due, mut left) = (Due::new(), ROWS_MAX);
        for number in self.in_turn() {
            if left == 0 {
                self.turn.get_or_insert(number);
                break;
            }
            let Some(partition) = self.partitions.get_mut(&number) else { continue };
            let aggregates_end = partition.aggregates_end;
            let moment = Moment { now, early, rows_max: left, aggregates_end };
            let rows = self.runtime.block_on(partition.windows.outputs(moment))?.rows;
            self.components.meters.observe(number, &partition.windows);
            left = left.saturating_sub(rows.len());
            if !rows.is_empty() || partition.is_due(early, quiet) {
                due.insert(number, rows);
            }
        }
        if left == 0 {
            self.turn.get_or_insert(0);
        }
        if !due.is_empty() {
            let began = Instant::now();
            self.commit(&due)?;
            tracing::debug!(
                rows = due.values().map(Vec::len).sum::<usize>(),
                partitions = due.len(),
                committed_ms = began.elapsed().as_millis(),
                "a transaction"
            );
            due.values().flatten().for_each(|row| self.components.meters.emitted(row));
        }
        Ok(())
    }

    /// All partitions; that whose turn it is comes first.
    fn in_turn(&mut self) -> Vec<i32> {
        let first = self.turn.take().unwrap_or_default();
        let (after, before) = (self.partitions.range(first..), self.partitions.range(..first));
        after.chain(before).map(|(number, _)| *number).collect()
    }

    /// Rows, progress, what the ledger is told and offsets, all or nothing.
    fn commit(&mut self, due: &Due) -> Result<(), StageError> {
        let Self { client, aggregates, channel, ledger, partitions, .. } = self;
        let mut offsets = TopicPartitionList::new();
        for (number, partition) in due.keys().filter_map(|number| partitions.get_key_value(number)) {
            partition.name_position(offsets.add_partition(&client.topic, *number))?;
        }
        let encoded: Vec<_> =
            due.iter().flat_map(|(number, rows)| rows.iter().map(|row| (*number, encode(row)))).collect();
        let records = encoded.iter().map(|(number, (key, payload))| {
            BaseRecord::to(aggregates).partition(*number).key(key.as_bytes()).payload(payload.as_slice())
        });
        let entries: Vec<_> = partitions
            .iter_mut()
            .filter(|(number, _)| due.contains_key(number))
            .flat_map(|(number, partition)| partition.entries(&client.topic, *number))
            .collect();
        client.transact_with(&offsets, || {
            let ends = if encoded.is_empty() { BTreeMap::new() } else { client.append(records)? };
            for (number, partition) in partitions.iter_mut().filter(|(number, _)| due.contains_key(number)) {
                ends.get(number).into_iter().for_each(|end| partition.told.appended(*end));
                channel.tell(client, &partition.told.progress(*number, channel, &partition.windows))?;
            }
            let told = entries.iter().map(|(number, entry)| ledger.record(*number, entry));
            told.into_iter().try_for_each(|record| client.send(record))
        })?;
        for (number, rows) in due {
            partitions.get_mut(number).into_iter().for_each(|partition| partition.committed(rows.len()));
        }
        Ok(())
    }
}

/// The rows of each partition that has something to write.
type Due = BTreeMap<i32, Vec<AggregateRow>>;

/// Whether it is time; the next one is an interval from now.
fn is_time(next: &mut Instant, interval: Duration) -> bool {
    let is_time = Instant::now() >= *next;
    if is_time {
        *next = Instant::now() + interval;
    }
    is_time
}

impl Partition {
    /// Whether there is something to commit besides rows.
    fn is_due(&self, early: bool, quiet: bool) -> bool {
        let advanced = self.windows.position() > self.committed;
        (advanced && self.committed_at.elapsed() >= COMMIT_INTERVAL)
            || (early && self.told.differs_from(&self.windows.sources()))
            || (quiet && self.watermark != self.windows.watermark().current())
    }

    fn name_position(&self, mut element: TopicPartitionListElem<'_>) -> Result<(), StageError> {
        element
            .set_offset(NextOffset::exclusive(self.windows.position()).to_kafka())
            .map_err(StageError::kafka("naming a partition"))?;
        element.set_metadata(self.windows.checkpoint(self.aggregates_end).encode());
        Ok(())
    }

    /// What the ledger is told of it since the last time.
    fn entries(&mut self, topic: &str, number: i32) -> Vec<(i32, Vec<u8>)> {
        let spans = self.tally.take().into_iter();
        spans.map(|span| (number, Entry::Windows(span.of(topic, number)).write())).collect()
    }

    fn committed(&mut self, rows: usize) {
        // Never more than what was written: control records only make the true end larger.
        self.aggregates_end += i64::try_from(rows).expect("rows in memory");
        (self.committed, self.committed_at) = (self.windows.position(), Instant::now());
        self.watermark = self.windows.watermark().current();
        self.told.told(self.windows.sources());
    }
}

fn encode(row: &AggregateRow) -> (String, Vec<u8>) {
    let payload = serde_json::to_vec(row).expect("a row is plain data: finite numbers, strings and times");
    (record_key(row.workspace_id, row.service_id), payload)
}

/// A frame's parts; `None` of what is no frame: anyone can write to a topic, and garbage must not stop it.
fn decode(
    components: &Components,
    message: &BorrowedMessage<'_>,
) -> Result<Option<(partial::Header, Option<arrow::array::RecordBatch>)>, StageError> {
    let (partition, offset) = (message.partition(), message.offset());
    if is_closing(message) {
        return Ok(None);
    }
    match frame::decode(&components.plan, message.payload().unwrap_or_default()) {
        Ok(frame) => Ok(Some(frame)),
        Err(
            source @ (frame::FrameError::Frame(partial::Error::Version(_)) | frame::FrameError::Layout(_)),
        ) => Err(StageError::Frame { partition, offset, source }),
        Err(error) => {
            components.meters.garbage.inc();
            tracing::warn!(partition, offset, %error, "a record among the partials is no frame; skipped");
            Ok(None)
        }
    }
}
