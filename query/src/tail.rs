//! Follows the end of a topic: one thread, all partitions assigned by hand, nothing committed. While no broker answers it
//! keeps trying and says so once.

mod positions;
mod sinks;

pub use positions::{End, Positions};
pub use sinks::{AggregatesSink, MetricsSink, ProgressSink};

use millrace_log::{LogSettings, NextOffset, is_closing};
use millrace_schemas::EventTime;
use prometheus::IntGauge;
use rdkafka::{
    ClientContext, Message, Statistics, Timestamp, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// How long a poll waits, and so how long a shutdown may take to be noticed.
const POLL: Duration = Duration::from_millis(100);
/// How long a question to the brokers may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);
/// How often new partitions are looked for.
const DISCOVERY: Duration = Duration::from_secs(60);
/// The same while something is wrong.
const RETRY: Duration = Duration::from_secs(1);

/// The pause after an error, as the client may tell the same again at once.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// One record, borrowed from the client.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    pub partition: i32,
    pub offset: i64,
    /// The log's append time.
    pub log_time: EventTime,
    /// It came after the reader was started, so it is news.
    pub live: bool,
    pub payload: &'a [u8],
}

/// Where the records go. Called by the reader's thread: it must not wait for anything.
pub trait Sink: Send + 'static {
    fn take(&self, record: Incoming<'_>);
    /// A partition is read from a record of this time on, not from its beginning.
    fn begins_at(&self, time: EventTime);
}

/// What to follow.
pub struct Source {
    pub topic: String,
    /// Records read back from the end of each partition at start.
    pub back: i64,
    pub positions: Arc<Positions>,
    pub lag: IntGauge,
}

/// A reader that is not running yet.
pub struct Tail<S> {
    source: Source,
    consumer: BaseConsumer<Context>,
    sink: S,
    /// The last question to the brokers was not answered, and that was logged.
    broken: bool,
    in_doubt: bool,
}

/// The client's own view of how far a partition reaches, told every second.
struct Context {
    topic: String,
    positions: Arc<Positions>,
    lag: IntGauge,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the topic does not exist")]
    Missing,
    #[error("finding out where its partitions begin and end")]
    Discover(#[from] KafkaError),
    #[error("reading it")]
    Read(#[source] KafkaError),
}

impl<S: Sink> Tail<S> {
    /// Fails on settings that the client does not take, not on brokers that are away.
    pub fn new(log: &LogSettings, source: Source, sink: S) -> Result<Self, KafkaError> {
        let context = Context {
            topic: source.topic.clone(),
            positions: Arc::clone(&source.positions),
            lag: source.lag.clone(),
        };
        let consumer = log
            .consumer("query")
            .set("enable.partition.eof", "true")
            .set("statistics.interval.ms", "1000")
            .set("queued.max.messages.kbytes", "16384")
            .create_with_context(context)?;
        Ok(Self { source, consumer, sink, broken: false, in_doubt: false })
    }

    /// Reads until `shutdown`.
    pub fn run(mut self, shutdown: &CancellationToken) {
        let mut asked: Option<Instant> = None;
        while !shutdown.is_cancelled() {
            let pause = if self.broken || self.in_doubt { RETRY } else { DISCOVERY };
            if asked.is_none_or(|at| at.elapsed() >= pause) {
                let result = self.discover();
                self.in_doubt = false;
                self.note(result);
                asked = Some(Instant::now());
            }
            self.read_for(POLL);
        }
    }

    /// Assigns the partitions that are new: at start near their end, later from their beginning.
    fn discover(&mut self) -> Result<(), Error> {
        let (topic, known) = (self.source.topic.as_str(), self.source.positions.count());
        let metadata = self.consumer.fetch_metadata(Some(topic), REQUEST_LIMIT)?;
        let found = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        if found == 0 {
            return Err(Error::Missing);
        }
        let mut assigned = TopicPartitionList::new();
        let mut new = Vec::new();
        for partition in (known..found).filter_map(|partition| i32::try_from(partition).ok()) {
            let (low, high) = self.consumer.fetch_watermarks(topic, partition, REQUEST_LIMIT)?;
            let (start, live_from) =
                if known == 0 { (low.max(high - self.source.back), high) } else { (low, low) };
            assigned.add_partition_offset(topic, partition, NextOffset::exclusive(start).to_kafka())?;
            new.push(positions::Assigned { start, end: high, live_from, is_cut: start > low });
        }
        if !new.is_empty() {
            self.consumer.incremental_assign(&assigned)?;
            tracing::info!(topic, partitions = found, "following the topic");
            self.source.positions.assigned(&new);
        }
        Ok(())
    }

    /// Takes what comes within `limit`.
    fn read_for(&mut self, limit: Duration) {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.consumer.poll(left) {
                Some(Ok(message)) => self.take(&message),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.source.positions.reached_end(partition)
                }
                Some(Err(error)) => self.doubt(error),
                None => return,
            }
            if left.is_zero() {
                return;
            }
        }
    }

    fn take(&self, message: &BorrowedMessage<'_>) {
        let (partition, offset) = (message.partition(), message.offset());
        let log_time = match message.timestamp() {
            Timestamp::NotAvailable => EventTime(0),
            Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) => EventTime::from_millis(ms),
        };
        let place = self.source.positions.read(partition, offset, log_time);
        if place.is_cut {
            self.sink.begins_at(log_time);
        }
        if is_closing(message) {
            return;
        }
        let payload = message.payload().unwrap_or_default();
        self.sink.take(Incoming { partition, offset, log_time, live: place.live, payload });
    }

    /// Asks the brokers soon. Lost connections are told late and more than once, so whether one is lost now only an
    /// answer shows.
    fn doubt(&mut self, error: KafkaError) {
        use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut};
        self.in_doubt = true;
        match error.rdkafka_error_code() {
            Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut) => {}
            _ => self.note(Err(Error::Read(error))),
        }
        thread::sleep(ERROR_PAUSE);
    }

    /// Logs when something goes wrong and when it is right again, not in between.
    fn note(&mut self, result: Result<(), Error>) {
        let topic = self.source.topic.as_str();
        let was_broken = std::mem::replace(&mut self.broken, result.is_err());
        match result {
            Ok(()) if was_broken => tracing::info!(topic, "the log answers again"),
            Err(error) if !was_broken => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(topic, %error, cause, "the topic can't be followed; trying on");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

impl ClientContext for Context {
    /// The reader itself says what matters.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }

    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        for partition in topic.partitions.values() {
            self.positions.ends_at(partition.partition, partition.ls_offset, partition.eof_offset);
        }
        self.lag.set(self.positions.lag());
    }
}

impl ConsumerContext for Context {}
