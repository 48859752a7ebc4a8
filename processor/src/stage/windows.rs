//! Windows: partial states → rows of the `aggregates` topic, in transactions with the partials offsets. The shell around
//! [`crate::window`]: it polls, restores partitions, and writes what the core says.

mod told;

use super::{
    StageError,
    client::{Assignment, Client},
    combine::{append_time, is_passing},
    entries::Ledger,
    frame,
    range::{self, Range},
};
use crate::{
    ledger::Tally,
    plan::Plan,
    settings::WindowSettings,
    window::{Checkpoint, Moment, Windows},
};
use millrace_log::{LogSettings, NextOffset, partition_count};
use millrace_schemas::{
    AggregateRow, EventTime,
    aggregate::{self, Kind},
    key::record_key,
    ledger::{Entry, Minute},
    partial,
};
use rdkafka::{
    Message, TopicPartitionList, consumer::Consumer, error::KafkaError, message::BorrowedMessage,
    producer::BaseRecord,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use told::{Channel, Told};

/// Frames taken between two looks at what is due.
const FRAMES_MAX: usize = 200;
/// How often the clock is looked at when no frame comes.
const POLL_WAIT: Duration = Duration::from_millis(50);
/// How often offsets are committed when there is nothing to emit.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
const WATERMARKS_TIMEOUT: Duration = Duration::from_secs(10);

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
    member: &str,
    runtime: &Runtime,
) -> Result<(), StageError> {
    let topics = components.log.topics();
    let client = Client::connect(&components.log, &topics.partials, "windows", member)?;
    let channel = Channel {
        partitions: partition_count(&client.consumer, &topics.progress)?,
        topic: topics.progress,
        partials: partition_count(&client.consumer, &topics.partials)?,
        watermark_delay: settings.watermark_delay.into(),
    };
    let mut worker = Worker {
        ledger: Ledger::new(&client, topics.ledger)?,
        channel,
        partitions: BTreeMap::new(),
        aggregates: topics.aggregates,
        next_early: Instant::now(),
        components,
        settings,
        runtime,
        client: &client,
    };
    while !components.shutdown.is_cancelled() {
        worker.take_frames()?;
        worker.emit()?;
    }
    client.consumer.unsubscribe();
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
    next_early: Instant,
}

impl Worker<'_> {
    fn take_frames(&mut self) -> Result<(), StageError> {
        let mut wait = POLL_WAIT;
        for _ in 0..FRAMES_MAX {
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
        let Some(partition) = self.partitions.get_mut(&message.partition()) else { return Ok(()) };
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
        for event in self.client.consumer.context().take() {
            match event {
                Assignment::Assigned(partitions) => {
                    partitions.into_iter().try_for_each(|p| self.restore(p))?
                }
                Assignment::Revoked(partitions) => self.partitions.retain(|p, _| !partitions.contains(p)),
            }
        }
        Ok(())
    }

    /// Rebuilds the windows of a partition from the log: their states, and what was already emitted of them.
    fn restore(&mut self, number: i32) -> Result<(), StageError> {
        let (next, metadata) = self.client.committed(number)?;
        let (aggregates_low, aggregates_end) = self
            .client
            .consumer
            .fetch_watermarks(&self.aggregates, number, WATERMARKS_TIMEOUT)
            .map_err(StageError::kafka("asking for the end of the aggregates"))?;
        let mut windows = Windows::new(self.components.plan.clone(), self.settings);
        let newest = self.channel.newest(self.components, self.client, number)?;
        // Also where something was told: it may not be readable yet where its rows are.
        let aggregates = Range {
            topic: &self.aggregates,
            partition: number,
            from: NextOffset::exclusive(aggregates_low),
            to: NextOffset::exclusive(aggregates_end),
        };
        let told = Told::resume(newest.as_ref(), self.channel.rows_end(self.components, aggregates)?);
        if next > NextOffset::START {
            let checkpoint = Checkpoint::decode(&metadata)
                .map_err(|source| StageError::Checkpoint { partition: number, source })?;
            windows.resume(&checkpoint, next.get());
            newest.iter().for_each(|newest| windows.restore_progress(&newest.sources));
            self.restore_states(number, &checkpoint, next, &mut windows)?;
            self.restore_rows(number, &checkpoint, aggregates_end, &mut windows)?;
        }
        let partition = Partition {
            windows,
            committed: next.get(),
            committed_at: Instant::now(),
            aggregates_end,
            told,
            tally: Tally::new(next.max(self.client.low(number)?)),
        };
        self.partitions.insert(number, partition);
        Ok(())
    }

    fn restore_states(
        &self,
        partition: i32,
        checkpoint: &Checkpoint,
        to: NextOffset,
        windows: &mut Windows,
    ) -> Result<(), StageError> {
        let from = NextOffset::exclusive(checkpoint.rebuild_from);
        let range = Range { topic: &self.client.topic, partition, from, to };
        range::read(&self.components.log, range, &self.components.shutdown, |message| {
            match decode(self.components, message)? {
                Some((_, Some(states))) => Ok(windows.restore_states(message.offset(), &states)?),
                _ => Ok(()),
            }
        })
    }

    fn restore_rows(
        &self,
        partition: i32,
        checkpoint: &Checkpoint,
        end: i64,
        windows: &mut Windows,
    ) -> Result<(), StageError> {
        let (from, to) = (NextOffset::exclusive(checkpoint.aggregates_from), NextOffset::exclusive(end));
        let range = Range { topic: &self.aggregates, partition, from, to };
        range::read(&self.components.log, range, &self.components.shutdown, |message| {
            let offset = message.offset();
            match AggregateRow::read(message.payload().unwrap_or_default()) {
                Ok(row) => windows.restore_row(offset, &row),
                // Passed over, its revision would be given again, and the sink would not take it.
                Err(source @ aggregate::Error::Newer(_)) => {
                    return Err(StageError::Row { partition, offset, source });
                }
                Err(error) => {
                    tracing::warn!(partition, offset, %error, "a record among the aggregates is no row; skipped");
                }
            }
            Ok(())
        })
    }

    /// Writes what is due, partition by partition, each in one transaction with its offset.
    fn emit(&mut self) -> Result<(), StageError> {
        let early = Instant::now() >= self.next_early;
        if early {
            self.next_early = Instant::now() + self.settings.early_interval.into();
        }
        let now = EventTime::from(chrono::Utc::now());
        for (number, partition) in &mut self.partitions {
            let moment = Moment { now, early, aggregates_end: partition.aggregates_end };
            let rows = self.runtime.block_on(partition.windows.outputs(moment))?.rows;
            self.components.meters.observe(*number, &partition.windows);
            let advanced = partition.windows.position() > partition.committed;
            let due = advanced && partition.committed_at.elapsed() >= COMMIT_INTERVAL;
            let news = early && partition.told.differs_from(&partition.windows.sources());
            if !rows.is_empty() || due || news {
                let output = Output {
                    client: self.client,
                    topic: &self.aggregates,
                    channel: &self.channel,
                    ledger: &self.ledger,
                };
                partition.commit(*number, output, &rows)?;
                rows.iter().for_each(|row| self.components.meters.emitted(row));
            }
        }
        Ok(())
    }
}

/// Where a commit writes to.
#[derive(Clone, Copy)]
struct Output<'a> {
    client: &'a Client,
    topic: &'a str,
    channel: &'a Channel,
    ledger: &'a Ledger,
}

impl Partition {
    /// Rows, progress, what the ledger is told and offset, all or nothing.
    fn commit(&mut self, number: i32, output: Output<'_>, rows: &[AggregateRow]) -> Result<(), StageError> {
        let Output { client, topic, channel, ledger } = output;
        let mut offsets = TopicPartitionList::new();
        let position = self.windows.position();
        let mut element = offsets.add_partition(&client.topic, number);
        element
            .set_offset(NextOffset::exclusive(position).to_kafka())
            .map_err(StageError::kafka("naming a partition"))?;
        element.set_metadata(self.windows.checkpoint(self.aggregates_end).encode());
        let encoded: Vec<(String, Vec<u8>)> = rows.iter().map(encode).collect();
        let records = encoded.iter().map(|(key, payload)| {
            BaseRecord::to(topic).partition(number).key(key.as_bytes()).payload(payload.as_slice())
        });
        client.begin([])?;
        if !rows.is_empty() {
            self.told.appended(client.append(records)?);
        }
        channel.tell(client, &self.told.progress(number, channel, &self.windows))?;
        for span in self.tally.take() {
            client.send(ledger.record(number, &Entry::Windows(span.of(&client.topic, number)).write()))?;
        }
        client.commit(&offsets)?;
        // Never more than what was written: control records only make the true end larger.
        self.aggregates_end += i64::try_from(rows.len()).expect("rows in memory");
        (self.committed, self.committed_at) = (position, Instant::now());
        self.told.told(self.windows.sources());
        Ok(())
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
