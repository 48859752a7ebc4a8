//! Windows: partial states → rows of the `aggregates` topic, in transactions with the partials offsets. The shell around
//! [`crate::window`]: it polls, restores partitions, and writes what the core says.

mod restoring;
mod told;

use super::{
    StageError,
    client::{Assignment, Client},
    combine::{append_time, is_passing},
    entries::Ledger,
    frame,
    group::Place,
    restorer::Restorer,
};
use crate::{
    ledger::Tally,
    plan::Plan,
    settings::WindowSettings,
    window::{Moment, Windows},
};
use millrace_log::{LogSettings, NextOffset, partition_count};
use millrace_schemas::{
    AggregateRow, EventTime,
    aggregate::Kind,
    key::record_key,
    ledger::{Entry, Minute},
    partial,
};
use rdkafka::{
    Message, TopicPartitionList, error::KafkaError, message::BorrowedMessage, producer::BaseRecord,
    topic_partition_list::TopicPartitionListElem,
};
use restoring::{Committed, Restoring};
use std::{
    collections::BTreeMap,
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

#[derive(Clone)]
pub struct Components {
    pub log: LogSettings,
    pub plan: Plan,
    pub meters: Meters,
    pub shutdown: CancellationToken,
}

#[derive(Clone)]
pub struct Meters {
    pub rows: prometheus::IntCounterVec,
    pub watermark: prometheus::GaugeVec,
    pub slots: prometheus::IntGaugeVec,
    pub garbage: prometheus::IntCounter,
}

impl Meters {
    pub fn register(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGaugeVec, Opts};
        let rows = IntCounterVec::new(
            Opts::new("millrace_windows_rows_total", "Window rows emitted: early, final or delta"),
            &["kind"],
        )?;
        let watermark = GaugeVec::new(
            Opts::new("millrace_windows_watermark_seconds", "Watermark of a partials partition, Unix time"),
            &["partition"],
        )?;
        let slots = IntGaugeVec::new(
            Opts::new(
                "millrace_windows_held",
                "Windows (size and start) held in memory for a partials partition",
            ),
            &["partition"],
        )?;
        let garbage = IntCounter::new(
            "millrace_windows_garbage_total",
            "Records of the partials topic that are no frames: skipped",
        )?;
        registry.register(Box::new(rows.clone()))?;
        registry.register(Box::new(watermark.clone()))?;
        registry.register(Box::new(slots.clone()))?;
        registry.register(Box::new(garbage.clone()))?;
        Ok(Self { rows, watermark, slots, garbage })
    }

    fn emitted(&self, row: &AggregateRow) {
        let kind = match (row.kind, row.is_final) {
            (Kind::Delta, _) => "delta",
            (Kind::Row, true) => "final",
            (Kind::Row, false) => "early",
        };
        self.rows.with_label_values(&[kind]).inc();
    }
}

/// Runs until `shutdown`, or returns the trouble after which it must begin again.
pub fn run(
    components: &Components,
    settings: &WindowSettings,
    place: &Place,
    runtime: &Runtime,
) -> Result<(), StageError> {
    let topics = components.log.topics();
    let client = Client::connect(&components.log, &topics.partials, "windows", place.clone())?;
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
        components,
        settings,
        runtime,
        client: &client,
    };
    while !components.shutdown.is_cancelled() {
        worker.begin_restored()?;
        worker.take_frames()?;
        worker.emit()?;
        client.watch()?;
    }
    client.leave_to_others();
    Ok(())
}

/// One partials partition.
struct Partition {
    windows: Windows,
    committed: i64,
    committed_at: Instant,
    /// A lower bound of the end of the aggregates partition of the same number: only this worker writes there.
    aggregates_end: i64,
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
}

impl Worker<'_> {
    fn take_frames(&mut self) -> Result<(), StageError> {
        let (mut wait, started) = (POLL_WAIT, Instant::now());
        while started.elapsed() < TAKE_MAX {
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
                None => break,
            }
            wait = Duration::ZERO;
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
                let committed = partitions.into_iter().map(|p| Ok((p, self.client.committed(p)?)));
                let committed: Vec<_> = committed.collect::<Result<_, StageError>>()?;
                let positions: Vec<_> = committed.iter().map(|(p, (next, _))| (*p, *next)).collect();
                self.client.take_on(&positions)?;
                for (partition, (next, metadata)) in committed {
                    let low = self.client.low(partition)?;
                    self.restore(Committed { partition, next, low, metadata });
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

    fn restore(&mut self, committed: Committed) {
        let restoring = Restoring {
            components: self.components.clone(),
            settings: self.settings.clone(),
            channel: self.channel.clone(),
            topic: self.client.topic.clone(),
            aggregates: self.aggregates.clone(),
        };
        self.restorer.add(committed.partition, Box::new(move |stop| restoring.run(&committed, stop)));
    }

    /// Begins to read a partition whose windows are whole.
    fn begin_restored(&mut self) -> Result<(), StageError> {
        let Some((number, partition)) = self.restorer.next()? else { return Ok(()) };
        self.partitions.insert(number, partition);
        self.client.begin(number)
    }

    /// Writes what is due, of all partitions in one transaction with their offsets.
    fn emit(&mut self) -> Result<(), StageError> {
        let early = Instant::now() >= self.next_early;
        if early {
            self.next_early = Instant::now() + self.settings.early_interval.into();
        }
        let now = EventTime::from(chrono::Utc::now());
        let mut due = Due::new();
        for (number, partition) in &mut self.partitions {
            let moment = Moment { now, early, aggregates_end: partition.aggregates_end };
            let rows = self.runtime.block_on(partition.windows.outputs(moment))?.rows;
            self.components.meters.observe(*number, &partition.windows);
            let advanced = partition.windows.position() > partition.committed;
            let is_late = advanced && partition.committed_at.elapsed() >= COMMIT_INTERVAL;
            let news = early && partition.told.differs_from(&partition.windows.sources());
            if !rows.is_empty() || is_late || news {
                due.insert(*number, rows);
            }
        }
        if !due.is_empty() {
            self.commit(&due)?;
            due.values().flatten().for_each(|row| self.components.meters.emitted(row));
        }
        Ok(())
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
            let ends = if encoded.is_empty() { BTreeMap::new() } else { client.append(records.clone())? };
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

impl Partition {
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
        self.told.told(self.windows.sources());
    }
}

impl Meters {
    fn observe(&self, number: i32, windows: &Windows) {
        let partition = number.to_string();
        if let Some(watermark) = windows.watermark().current() {
            #[expect(clippy::cast_precision_loss, reason = "seconds for a gauge")]
            self.watermark.with_label_values(&[&partition]).set(watermark.as_millis() as f64 / 1000.0);
        }
        self.slots.with_label_values(&[&partition]).set(i64::try_from(windows.slots()).unwrap_or(i64::MAX));
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
