//! Combine: raw records → partial states, one Kafka transaction a chunk with the raw offsets in it. The shell around
//! [`super::chunk`]: it polls, asks which workspaces exist, aggregates and writes.

mod meters;
mod restoring;

pub use meters::Meters;

use super::{
    StageError,
    chunk::{Counts, DeadLetter, Record, Source},
    client::{Assignment, Client, Events},
    entries::Ledger,
    frame::{self, Router},
    group::Place,
    jumps::lows_after_jumps,
    restorer::Restorer,
};
use crate::{
    admission::Verdict,
    plan::{Plan, Raw},
    settings::{AdmissionSettings, WindowSettings},
};
use arrow::array::RecordBatch;
use millrace_log::{Batches, Fetched, LogSettings, partition_count};
use millrace_schemas::{
    EventTime,
    dead_letter::{
        CUT_FROM_BYTES, ERROR, REASON, SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TIME, SOURCE_TOPIC,
    },
    ledger::{Entry, FROM_EDGE},
    partial::{Header, Progress},
};
use millrace_tenancy::Directory;
use rdkafka::{
    Message, TopicPartitionList,
    error::KafkaError,
    message::{BorrowedMessage, Header as KafkaHeader, Headers as _, OwnedHeaders},
    producer::BaseRecord,
};
use restoring::{DIRECTORY_RETRY, Known, Restored, Restoring, learn_workspaces, tell_outage};
use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// The workers' group.
pub(crate) const GROUP: &str = "combine";
/// A chunk ends when its payloads have this many bytes.
const CHUNK_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long a poll waits for the first record of a chunk: idleness is noticed as often.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// Taken from the client at once, between looks at the clock and the group.
const BATCH_RECORDS: usize = 1_024;
/// Of a larger key or value a dead letter holds only the beginning, and says so: the log could refuse it for ever.
const LETTER_BYTES_MAX: usize = 3 * 1024 * 1024;

/// What a combine worker works with.
#[derive(Clone)]
pub struct Components {
    pub log: LogSettings,
    pub directory: Directory,
    pub plan: Plan,
    pub meters: Meters,
    pub shutdown: CancellationToken,
}

#[derive(Clone, Debug)]
pub struct CombineSettings {
    pub admission: AdmissionSettings,
    pub windows: WindowSettings,
    /// Names the worker in the group and in transactions.
    pub place: Place,
}

/// Runs until `shutdown`, or returns the trouble after which it must begin again.
pub fn run(components: &Components, settings: &CombineSettings, runtime: &Runtime) -> Result<(), StageError> {
    let topics = components.log.topics();
    let client = Client::connect(&components.log, &topics.metrics, GROUP, settings.place.clone())?;
    let mut worker = Worker {
        raw_partitions: client.partitions,
        router: Router::new(partition_count(&client.consumer, &topics.partials)?),
        ledger: Ledger::new(&client, topics.ledger)?,
        batches: Batches::new(&client.consumer),
        from_edge: CString::new(FROM_EDGE).expect("a name without a null byte"),
        sources: BTreeMap::new(),
        restorer: Restorer::new(components.shutdown.clone()),
        known: Known::new(),
        partials: topics.partials,
        dead_letters: topics.dead_letters,
        components,
        settings,
        runtime,
        client: &client,
    };
    let ended = worker.work();
    if components.shutdown.is_cancelled() {
        client.leave_to_others();
    }
    ended
}

struct Worker<'a> {
    components: &'a Components,
    settings: &'a CombineSettings,
    runtime: &'a Runtime,
    client: &'a Client,
    batches: Batches<'a, Events>,
    /// The header of records that came through the edge.
    from_edge: CString,
    raw_partitions: i32,
    router: Router,
    ledger: Ledger,
    partials: String,
    dead_letters: String,
    sources: BTreeMap<i32, Source>,
    restorer: Restorer<Restored>,
    known: Known,
}

impl<'a> Worker<'a> {
    fn work(&mut self) -> Result<(), StageError> {
        while !self.components.shutdown.is_cancelled() {
            self.begin_restored()?;
            let messages = self.poll()?;
            self.process(messages)?;
            self.client.watch()?;
        }
        Ok(())
    }

    /// The messages of one chunk: until it is large enough, or the commit interval has passed since the first.
    fn poll(&mut self) -> Result<Vec<Fetched<'a>>, StageError> {
        let records_max = usize::try_from(self.settings.windows.chunk_records).unwrap_or(usize::MAX);
        let interval = Duration::from(self.settings.windows.commit_interval);
        let (mut messages, mut bytes): (Vec<Fetched<'a>>, usize) = (Vec::new(), 0);
        let mut deadline = Instant::now() + POLL_WAIT;
        loop {
            let changed = self.follow_group(Duration::ZERO)?;
            // What was there before is read again from the committed offset, by whoever owns the partition now.
            if !changed.is_empty() {
                messages.retain(|message| !changed.contains(&message.partition()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || messages.len() >= records_max || bytes >= CHUNK_BYTES_MAX {
                return Ok(messages);
            }
            let first = messages.is_empty();
            // For the first it must not wait until there are more.
            let count = if first { 1 } else { BATCH_RECORDS.min(records_max - messages.len()) };
            let sources = &mut self.sources;
            self.batches.take(count, left, |taken| match taken {
                Ok(message) => {
                    bytes += message.payload_len();
                    // None comes before the partition is restored: its place would be lost.
                    sources.get_mut(&message.partition()).ok_or(StageError::Overtaken)?.received();
                    messages.push(message);
                    Ok(())
                }
                Err(error) => follow_error(sources, error),
            })?;
            if first && !messages.is_empty() {
                deadline = Instant::now() + interval;
            }
        }
    }

    /// Lets the client work, and follows what the group wants: the partitions that came or went.
    fn follow_group(&mut self, wait: Duration) -> Result<Vec<i32>, StageError> {
        let polled = self.client.consumer.poll(wait);
        let changed = self.follow_assignment()?;
        match polled {
            // Records come in batches, and only of restored partitions: this one would be lost.
            Some(Ok(_)) => return Err(StageError::Overtaken),
            Some(Err(error)) => follow_error(&mut self.sources, error)?,
            None => {}
        }
        Ok(changed)
    }

    /// The partitions that came or went.
    fn follow_assignment(&mut self) -> Result<Vec<i32>, StageError> {
        match self.client.news() {
            Some(Assignment::Assigned(partitions)) => {
                self.client.take_on(&partitions)?;
                partitions.iter().for_each(|partition| self.restore(*partition));
                Ok(partitions)
            }
            Some(Assignment::Revoked(partitions)) => {
                self.sources.retain(|p, _| !partitions.contains(p));
                self.restorer.forget(&partitions);
                self.client.give_up(&partitions)?;
                Ok(partitions)
            }
            None => Ok(Vec::new()),
        }
    }

    fn restore(&mut self, partition: i32) {
        let restoring = Restoring {
            components: self.components.clone(),
            admission: self.settings.admission.clone(),
            topic: self.client.topic.clone(),
            partition,
            positions: Arc::clone(&self.client.positions),
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

    /// Waits while the database is away, but keeps nobody in the group waiting: what it gives up meanwhile is no longer
    /// among the messages and records.
    fn learn_workspaces(
        &mut self,
        messages: &mut Vec<Fetched<'a>>,
        records: &mut Vec<Record>,
    ) -> Result<(), StageError> {
        let asked = (&self.components.directory, self.runtime);
        let Err(error) = learn_workspaces(asked, &mut self.known, records) else { return Ok(()) };
        tell_outage(&error);
        let paused = self.client.pause()?;
        while let Err(error) = learn_workspaces(asked, &mut self.known, records) {
            if self.components.shutdown.is_cancelled() {
                return Err(error);
            }
            let changed = self.poll_paused()?;
            messages.retain(|message| !changed.contains(&message.partition()));
            records.retain(|record| !changed.contains(&record.partition));
        }
        self.client.resume(&paused)
    }

    /// The partitions that came or went in a while without records.
    fn poll_paused(&mut self) -> Result<Vec<i32>, StageError> {
        let (mut changed, deadline) = (Vec::new(), Instant::now() + DIRECTORY_RETRY);
        while Instant::now() < deadline && !self.components.shutdown.is_cancelled() {
            changed.extend(self.follow_group(POLL_WAIT)?);
        }
        Ok(changed)
    }

    fn process(&mut self, mut messages: Vec<Fetched<'a>>) -> Result<(), StageError> {
        let mut records: Vec<Record> =
            messages.iter().map(|message| read_fetched(message, &self.from_edge)).collect();
        self.learn_workspaces(&mut messages, &mut records)?;
        let next = self.sources.iter().map(|(partition, source)| (*partition, source.next)).collect();
        let read = records.iter().map(|record| (record.partition, record.offset));
        let lows = lows_after_jumps(next, read, |partition| self.client.positions.low(partition))?;
        let now = EventTime::from(chrono::Utc::now());
        let (mut raw, mut counts, mut dead) = (Raw::default(), Counts::default(), Vec::new());
        for (index, record) in records.iter().enumerate() {
            let Some(source) = self.sources.get_mut(&record.partition) else { continue };
            if let Some(low) = lows.get(&record.partition) {
                source.skips_to(record, *low);
            }
            match source.take(record, &self.known, &mut raw, now) {
                Verdict::Counted if record.is_running() => counts.running += 1,
                Verdict::Counted => counts.counted += 1,
                Verdict::Duplicate => counts.duplicate += 1,
                Verdict::DeadLetter { reason, error } => {
                    counts.dead_letter += 1;
                    dead.push(DeadLetter { index, reason, error });
                }
            }
        }
        let idle_after = self.settings.windows.idle_after.into();
        let progress: Vec<Progress> = self
            .sources
            .iter_mut()
            .filter_map(|(partition, source)| source.progress(*partition, now, idle_after))
            .collect();
        if progress.is_empty() {
            return Ok(());
        }
        let states = if raw.is_empty() {
            None
        } else {
            Some(self.runtime.block_on(self.components.plan.partial(raw.take()))?)
        };
        let oldest_arrival = records.iter().map(|record| record.append_time).min();
        let header = Header { sources: self.raw_partitions, progress, oldest_arrival };
        self.commit(&messages, &dead, &header, states.as_ref())?;
        self.components.meters.add(counts, &dead);
        Ok(())
    }

    fn commit(
        &mut self,
        messages: &[Fetched<'_>],
        dead: &[DeadLetter],
        header: &Header,
        states: Option<&RecordBatch>,
    ) -> Result<(), StageError> {
        let mut frames: Vec<(i32, Vec<u8>)> = Vec::new();
        let parts = states.map(|states| self.router.split(states)).transpose().map_err(encoding)?;
        let mut parts = parts.unwrap_or_default().into_iter();
        for partition in 0..self.router.partitions() {
            let part = parts.next().flatten();
            let encoded = frame::encode(header, part.as_ref()).map_err(encoding)?;
            frames.extend(encoded.into_iter().map(|frame| (partition, frame)));
        }
        let mut entries = Vec::new();
        for (partition, source) in &mut self.sources {
            let spans = source.tallied().into_iter();
            let written = spans.map(|span| Entry::Combine(span.of(&self.client.topic, *partition)).write());
            entries.extend(written.map(|entry| (*partition, entry)));
        }
        let mut offsets = TopicPartitionList::new();
        for progress in &header.progress {
            let next = self.sources[&progress.partition].next;
            offsets
                .add_partition_offset(&self.client.topic, progress.partition, next.to_kafka())
                .map_err(StageError::kafka("naming a partition"))?;
        }
        let partials = frames.iter().map(|(partition, frame)| {
            BaseRecord::to(&self.partials).partition(*partition).payload(frame.as_slice())
        });
        let letters = dead.iter().map(|letter| self.dead_letter(letter, &messages[letter.index]));
        let told = entries.iter().map(|(partition, entry)| self.ledger.record(*partition, entry));
        self.client.transact(partials.chain(letters).chain(told), &offsets)
    }

    fn dead_letter<'m>(
        &'m self,
        letter: &'m DeadLetter,
        message: &'m Fetched<'_>,
    ) -> BaseRecord<'m, [u8], [u8]> {
        let (partition, offset) = (message.partition().to_string(), message.offset().to_string());
        let (time, bytes) = (fetched_time(message).to_string(), message.payload_len().to_string());
        let cut = message.payload_len() > LETTER_BYTES_MAX;
        let headers = [
            (REASON, letter.reason.as_str()),
            (ERROR, letter.error.as_str()),
            (SOURCE_TOPIC, self.client.topic.as_str()),
            (SOURCE_PARTITION, partition.as_str()),
            (SOURCE_OFFSET, offset.as_str()),
            (SOURCE_TIME, time.as_str()),
        ];
        let headers = headers.into_iter().chain(cut.then_some((CUT_FROM_BYTES, bytes.as_str())));
        let headers = headers.fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(KafkaHeader { key, value: Some(value) })
        });
        let record = BaseRecord::to(&self.dead_letters).headers(headers);
        let short = |bytes: &'m [u8]| &bytes[..bytes.len().min(LETTER_BYTES_MAX)];
        let record = message.key().map(short).into_iter().fold(record, |record, key| record.key(key));
        message.payload().map(short).into_iter().fold(record, |record, payload| record.payload(payload))
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

fn read_fetched(message: &Fetched<'_>, from_edge: &CStr) -> Record {
    let record =
        Record::parse(message.partition(), message.offset(), fetched_time(message), message.payload());
    Record { from_edge: message.has_header(from_edge), ..record }
}

fn fetched_time(message: &Fetched<'_>) -> EventTime {
    EventTime::from_millis(message.timestamp_ms().unwrap_or(0))
}

pub(crate) fn read_record(message: &BorrowedMessage<'_>) -> Record {
    Record::parse(message.partition(), message.offset(), append_time(message), message.payload())
}

pub(crate) fn is_from_edge(message: &BorrowedMessage<'_>) -> bool {
    message.headers().is_some_and(|headers| headers.iter().any(|header| header.key == FROM_EDGE))
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
