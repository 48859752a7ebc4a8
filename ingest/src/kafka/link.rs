//! What the Kafka client tells us: reports of records, and the state of its connection.

use crate::{delivery::Delivery, ledger::Accepted};
use millrace_schemas::{EventTime, WorkspaceId};
use rdkafka::{
    ClientContext, Timestamp,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Message as _},
    producer::{DeliveryResult, ProducerContext},
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// One for each producer.
pub struct Link {
    away: AtomicBool,
    /// The time-outs since a record was acknowledged: how many, and when the first was. Only of interest while it is away.
    failing: Mutex<Option<(u32, Instant)>>,
    accepted: Arc<Accepted>,
}

impl Link {
    pub fn new(accepted: Arc<Accepted>) -> Self {
        Self { away: AtomicBool::new(false), failing: Mutex::default(), accepted }
    }

    pub fn is_reachable(&self) -> bool {
        !self.away.load(Ordering::Relaxed)
    }

    /// Whether so many records have failed, over so long, and none was acknowledged.
    pub fn fails(&self, times: u32, long: Duration) -> bool {
        let failing = || *self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        !self.is_reachable()
            && failing().is_some_and(|(count, since)| count >= times && since.elapsed() >= long)
    }

    fn timed_out(&self) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, since) = failing.unwrap_or((0, Instant::now()));
        *failing = Some((count.saturating_add(1), since));
        drop(failing);
        self.lost("a record was not acknowledged in time");
    }

    /// Said once, not at every attempt to connect.
    fn lost(&self, reason: &str) {
        if !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                reason,
                "Kafka does not acknowledge records; requests are answered with 503 until it does"
            );
        }
    }

    fn found(&self) {
        if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::Relaxed) {
            *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = None;
            tracing::info!("Kafka acknowledges records again");
        }
    }
}

impl ClientContext for Link {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            // Failures to connect also come as errors, where they are said once.
            _ if matches!(facility, "FAIL" | "ERROR") => {
                tracing::debug!(target: "librdkafka", facility, message)
            }
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, message),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(target: "librdkafka", facility, message);
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.lost(reason),
            Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve) => {
                tracing::debug!(%error, reason, "a Kafka broker can't be reached");
            }
            _ => tracing::warn!(%error, reason, "the Kafka client reports an error"),
        }
    }
}

impl ProducerContext for Link {
    type DeliveryOpaque = Arc<Delivery>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Arc<Delivery>) {
        match result {
            Ok(record) => {
                self.found();
                self.accepted.add(workspace(record), append_time(record));
                delivery.acknowledge(record.partition(), record.offset());
            }
            Err((error, _)) => {
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageTimedOut) {
                    self.timed_out();
                }
                delivery.fail(1, unusual(error));
            }
        }
    }
}

/// Of the key that the edge has given it.
fn workspace(record: &BorrowedMessage<'_>) -> Option<WorkspaceId> {
    let (workspace, _) = std::str::from_utf8(record.key()?).ok()?.split_once('/')?;
    workspace.parse().ok()
}

/// Where the log said it: it can't of a retry that it had taken before.
fn append_time(record: &BorrowedMessage<'_>) -> Option<EventTime> {
    match record.timestamp() {
        Timestamp::LogAppendTime(ms) => Some(EventTime::from_millis(ms)),
        Timestamp::CreateTime(_) | Timestamp::NotAvailable => None,
    }
}

/// A failure to look into, and not just a log that is away or a queue that is full: those come by the thousand.
pub fn unusual(error: &KafkaError) -> Option<String> {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageTimedOut | RDKafkaErrorCode::QueueFull) => None,
        _ => Some(error.to_string()),
    }
}
