//! The edge as a component: made of settings, the log and the directory; gives a router; ends with nothing in flight.

use crate::{
    Settings,
    admission::Budget,
    kafka::{KafkaLog, Log},
    ledger::{Accepted, Teller},
    metrics::{Live, Metrics},
    rates::Rates,
    routes,
    settings::SettingsError,
};
use axum::{Router, extract::FromRef};
use millrace_log::LogSettings;
use millrace_tenancy::{Directory, http::ApiError};
use prometheus::Registry;
use rdkafka::error::KafkaError;
use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::available_parallelism,
    time::Duration,
};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// A body of at most so many bytes is read where the request is served; a larger one on a thread of its own.
const INLINE_BYTES_MAX: usize = 32 * 1024;
/// How much longer than a delivery may take the end waits for the client's last reports.
const CLOSE_MARGIN: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the edge's settings")]
    Settings(#[from] SettingsError),
    #[error("making the Kafka producer")]
    Kafka(#[source] KafkaError),
    #[error("starting the thread that tells the ledger")]
    Teller(#[source] std::io::Error),
    #[error("registering the edge's metrics")]
    Metrics(#[source] prometheus::Error),
}

/// Cheap to clone: the clones are one edge.
#[derive(Clone)]
pub struct Edge {
    shared: Arc<Shared>,
}

/// What the routes work with.
pub struct Shared {
    pub settings: Settings,
    pub directory: Directory,
    pub log: Arc<dyn Log>,
    pub metrics: Arc<Metrics>,
    pub requests: Arc<Budget>,
    pub bytes: Arc<Budget>,
    pub rates: Option<Rates>,
    workers: Arc<Semaphore>,
    closing: AtomicBool,
}

impl Edge {
    /// Does not wait for a broker: until one is there, requests are answered with 503.
    pub fn start(
        settings: Settings,
        log: &LogSettings,
        directory: Directory,
        registry: &Registry,
    ) -> Result<Self, Error> {
        settings.validate()?;
        let accepted = Accepted::new().map_err(Error::Metrics)?;
        registry.register(Box::new(accepted.uncounted.clone())).map_err(Error::Metrics)?;
        let kafka = KafkaLog::connect(log, settings.delivery_timeout(), accepted).map_err(Error::Kafka)?;
        kafka.tell(Teller::start(log, Arc::clone(kafka.accepted())).map_err(Error::Teller)?);
        Self::with_log(settings, Arc::new(kafka), directory, registry)
    }

    /// With any log.
    pub(crate) fn with_log(
        settings: Settings,
        log: Arc<dyn Log>,
        directory: Directory,
        registry: &Registry,
    ) -> Result<Self, Error> {
        let metrics = Arc::new(Metrics::register(registry).map_err(Error::Metrics)?);
        let bytes = Budget::new(settings.in_flight_bytes_max);
        Live::register(registry, Arc::clone(&bytes), Arc::clone(&log)).map_err(Error::Metrics)?;
        let shared = Shared {
            requests: Budget::new(settings.requests_max),
            rates: Rates::new(settings.key_events_per_s),
            workers: Arc::new(Semaphore::new(available_parallelism().map_or(1, usize::from))),
            closing: AtomicBool::new(false),
            settings,
            directory,
            log,
            metrics,
            bytes,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub fn router(&self) -> Router {
        routes::router(self)
    }

    /// Refuses further requests and waits, a little longer than a delivery may take, until nothing is in flight.
    pub async fn close(&self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        let limit = self.shared.settings.delivery_timeout() + CLOSE_MARGIN;
        let log = Arc::clone(&self.shared.log);
        match spawn_blocking(move || log.flush(limit)).await {
            Ok(true) => tracing::info!("the edge has nothing in flight any more"),
            Ok(false) => {
                tracing::warn!(records = self.shared.log.waiting(), "the edge ends with records in flight")
            }
            Err(error) => tracing::error!(%error, "flushing the edge's records panicked"),
        }
    }
}

impl Deref for Edge {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl FromRef<Edge> for Directory {
    fn from_ref(edge: &Edge) -> Self {
        edge.shared.directory.clone()
    }
}

impl Shared {
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Runs what takes time in proportion to `bytes`; if they are many, in turn with others, off the threads that serve.
    pub async fn work<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        if bytes <= INLINE_BYTES_MAX {
            return Ok(work());
        }
        let turn = Arc::clone(&self.workers).acquire_owned().await.expect("the semaphore is never closed");
        let task = spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        task.await.map_err(ApiError::internal)
    }
}
