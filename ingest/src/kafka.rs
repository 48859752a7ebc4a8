//! Gives records to the log and reports, for each, what the log said.

mod link;

use crate::{
    delivery::Delivery,
    events::Parsed,
    ledger::{Accepted, Teller},
};
use link::Link;
use millrace_log::{LogSettings, set_default};
use millrace_schemas::{ServiceId, WorkspaceId, key::record_key, token::Origin};
use rdkafka::{
    ClientConfig,
    config::FromClientConfigAndContext,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, Producer, ThreadedProducer},
};
use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
    thread,
    time::{Duration, Instant},
};

/// Records that librdkafka may hold; the bytes in flight are used up long before.
const QUEUE_RECORDS_MAX: &str = "1000000";
/// So many records that timed out, over as many delivery time-outs, without an acknowledgement, and a new producer takes its
/// place: librdkafka's idempotent one can stand still for ever after brokers were away.
const TIMEOUTS_MAX: u32 = 20;
/// The ledger is told of the last records within what is left of the time for an end, but it has as much in any case.
const TELLER_LIMIT_MIN: Duration = Duration::from_millis(500);

/// Where records go; a seam for faults in tests.
pub trait Log: Send + Sync {
    /// Never waits: a record that can't be taken is reported as failed at once, the others when the log answers.
    fn append(&self, parsed: &Parsed, delivery: &Arc<Delivery>);
    /// Which topic of which cluster it is; `None` while no broker has said.
    fn origin(&self) -> Option<Origin>;
    /// Records that the log has not answered for.
    fn waiting(&self) -> i64;
    /// False while no broker can be reached, or records are not acknowledged in time.
    fn reachable(&self) -> bool;
    /// The end: waits, blocking, until there is an answer for every record; false if there was none in time.
    fn flush(&self, limit: Duration) -> bool;
}

type LinkedProducer = ThreadedProducer<Link>;

/// The `metrics` topic of a Kafka.
pub struct KafkaLog {
    config: ClientConfig,
    delivery_timeout: Duration,
    topic: String,
    origin: OnceLock<Origin>,
    producer: RwLock<Arc<LinkedProducer>>,
    accepted: Arc<Accepted>,
    teller: Mutex<Option<Teller>>,
}

impl KafkaLog {
    pub fn connect(
        settings: &LogSettings,
        delivery_timeout: Duration,
        accepted: Accepted,
    ) -> Result<Self, KafkaError> {
        let mut config = settings.producer(delivery_timeout);
        set_default(&mut config, "queue.buffering.max.messages", QUEUE_RECORDS_MAX);
        let accepted = Arc::new(accepted);
        let producer = RwLock::new(Arc::new(create(&config, &accepted)?));
        Ok(Self {
            config,
            delivery_timeout,
            topic: settings.topics().metrics,
            origin: OnceLock::new(),
            producer,
            accepted,
            teller: Mutex::default(),
        })
    }

    /// From now on the ledger is told what is accepted.
    pub fn tell(&self, teller: Teller) {
        *self.teller.lock().unwrap_or_else(PoisonError::into_inner) = Some(teller);
    }

    pub fn accepted(&self) -> &Arc<Accepted> {
        &self.accepted
    }

    /// The producer; where it takes no more, a new one.
    fn usable(&self) -> Result<Arc<LinkedProducer>, KafkaError> {
        let current = self.current();
        if self.trouble(&current).is_none() {
            return Ok(current);
        }
        drop(current);
        let mut slot = self.producer.write().expect("no code panics while it holds the producer");
        if let Some(trouble) = self.trouble(&slot) {
            tracing::error!(trouble, "the Kafka producer is broken; a new one takes its place");
            let broken = std::mem::replace(&mut *slot, Arc::new(create(&self.config, &self.accepted)?));
            discard(broken);
        }
        Ok(Arc::clone(&slot))
    }

    /// After a fatal error its sequence of records is lost.
    fn trouble(&self, producer: &LinkedProducer) -> Option<String> {
        let client = producer.client();
        let fatal = client.fatal_error().map(|(code, reason)| format!("{code}: {reason}"));
        let limit = self.delivery_timeout * TIMEOUTS_MAX;
        let stuck = || client.context().fails(TIMEOUTS_MAX, limit);
        fatal.or_else(|| stuck().then(|| format!("it has delivered nothing for {limit:?}")))
    }

    fn current(&self) -> Arc<LinkedProducer> {
        Arc::clone(&self.producer.read().expect("no code panics while it holds the producer"))
    }
}

fn create(config: &ClientConfig, accepted: &Arc<Accepted>) -> Result<LinkedProducer, KafkaError> {
    LinkedProducer::from_config_and_context(config, Link::new(Arc::clone(accepted)))
}

/// Ending a producer waits for its thread, up to a second: not where requests are served.
fn discard(producer: Arc<LinkedProducer>) {
    let ended = thread::Builder::new().name("discard-producer".to_owned()).spawn(move || drop(producer));
    if let Err(error) = ended {
        tracing::warn!(%error, "the broken Kafka producer was ended in place, which may have blocked requests");
    }
}

impl Log for KafkaLog {
    fn append(&self, parsed: &Parsed, delivery: &Arc<Delivery>) {
        let producer = match self.usable() {
            Ok(producer) => producer,
            Err(error) => return delivery.fail(parsed.len(), link::unusual(&error)),
        };
        let mut keys = Keys::default();
        for (given, (record, bytes)) in parsed.records().enumerate() {
            let key = keys.of(record.workspace, record.service);
            let base = BaseRecord::with_opaque_to(&self.topic, Arc::clone(delivery)).key(key).payload(bytes);
            match producer.send(base).map_err(|(error, _)| error) {
                Ok(()) => {}
                Err(error) if concerns_all(&error) => {
                    return delivery.fail(parsed.len() - given, link::unusual(&error));
                }
                Err(error) => delivery.fail(1, link::unusual(&error)),
            }
        }
    }

    fn origin(&self) -> Option<Origin> {
        if let Some(origin) = self.origin.get() {
            return Some(*origin);
        }
        // The client keeps what the brokers told it: it does not ask, and it does not wait.
        let cluster = self.current().client().fetch_cluster_id(Duration::ZERO)?;
        Some(*self.origin.get_or_init(|| Origin::of(&cluster, &self.topic)))
    }

    fn waiting(&self) -> i64 {
        self.current().in_flight_count().into()
    }

    fn reachable(&self) -> bool {
        self.current().client().context().is_reachable()
    }

    fn flush(&self, limit: Duration) -> bool {
        let started = Instant::now();
        let flushed = self.current().flush(limit);
        if let Err(error) = &flushed {
            tracing::warn!(%error, "not every record was acknowledged before the end");
        }
        let teller = self.teller.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(teller) = teller {
            teller.end(limit.saturating_sub(started.elapsed()).max(TELLER_LIMIT_MIN));
        }
        flushed.is_ok()
    }
}

/// After these the next record fares no better.
fn concerns_all(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::QueueFull | RDKafkaErrorCode::Fatal | RDKafkaErrorCode::UnknownTopic)
    )
}

/// Record keys as text; neighbours in a request mostly have the same.
#[derive(Default)]
struct Keys {
    last: Option<(WorkspaceId, ServiceId)>,
    text: String,
}

impl Keys {
    fn of(&mut self, workspace: WorkspaceId, service: ServiceId) -> &str {
        if self.last != Some((workspace, service)) {
            self.last = Some((workspace, service));
            self.text = record_key(workspace, service);
        }
        &self.text
    }
}

#[cfg(test)]
mod tests;
