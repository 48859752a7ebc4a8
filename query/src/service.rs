//! Puts the service together: two tail readers, what they fill, and the routes that show it.

use crate::{
    archive::{self, Archive},
    brokers::Brokers,
    feed::{self, Hub},
    ledger::{meters::LedgerMeters, monitor::LedgerMonitor},
    meters::Meters,
    pipeline::{meters::PipelineMeters, monitor::Monitor},
    reach::{Reach, stored::Stored},
    recent::{self, Recent},
    routes::{self, Aggregations, Api, DeadLetters, Live, Records, Waits},
    settings::{ArchiveLocation, Settings},
    tail::{AggregatesSink, MetricsSink, Positions, ProgressSink, Sink, Source, Tail},
};
use axum::Router;
use millrace_log::LogSettings;
use millrace_tenancy::Directory;
use prometheus::Registry;
use rdkafka::error::KafkaError;
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Records of the `progress` topic read back at start: the newest of each partition is among them.
const PROGRESS_BACK: i64 = 2_000;
/// How long closing waits for the sockets and readers.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// What the service works with.
pub struct Components {
    pub log: LogSettings,
    pub pool: PgPool,
    pub directory: Directory,
    pub archive: ArchiveLocation,
    pub registry: Registry,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("registering the query service's metrics")]
    Meters(#[source] prometheus::Error),
    #[error("making a client that asks the brokers")]
    Brokers(#[source] KafkaError),
    #[error("opening the archive")]
    Archive(#[source] archive::Error),
    #[error("making a reader of the topic {topic}")]
    Tail {
        topic: String,
        #[source]
        source: KafkaError,
    },
}

/// Which topics have been read up to where they ended at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    pub metrics: bool,
    pub aggregates: bool,
}

impl Readiness {
    pub fn is_ready(self) -> bool {
        self.metrics && self.aggregates
    }
}

/// The running service.
pub struct QueryService {
    api: Api,
    readers: JoinSet<()>,
    shutdown: CancellationToken,
}

impl QueryService {
    /// Starts the readers; neither the brokers nor the database nor the archive need be there yet. Wants a tokio runtime.
    pub fn start(
        settings: &Settings,
        components: Components,
        shutdown: &CancellationToken,
    ) -> Result<Self, Error> {
        let shutdown = shutdown.child_token();
        let meters = Meters::register(&components.registry).map_err(Error::Meters)?;
        let archive =
            Archive::open(&components.archive.url, settings.archive_files).map_err(Error::Archive)?;
        let (metrics, aggregates) = (Arc::<Positions>::default(), Arc::<Positions>::default());
        let topics = components.log.topics();
        let reach = Arc::<Reach>::default();
        let waits = Arc::new(Waits {
            stored: Stored::new(components.pool.clone(), topics.aggregates, Arc::clone(&reach)),
            reach,
            brokers: Brokers::new(&components.log).map_err(Error::Brokers)?,
            positions: Arc::clone(&metrics),
            places: Semaphore::new(settings.token_waits),
            shutdown: shutdown.clone(),
        });
        let seen = PipelineMeters::register(&components.registry).map_err(Error::Meters)?;
        let monitor = Monitor::new(&components.log, Arc::clone(&waits), seen).map_err(Error::Brokers)?;
        let seen = LedgerMeters::register(&components.registry).map_err(Error::Meters)?;
        let ledger = LedgerMonitor::new(components.pool.clone(), Arc::clone(&waits), seen);
        let api = Api {
            directory: components.directory,
            pool: components.pool,
            waits,
            monitor: Arc::new(monitor),
            ledger: Arc::new(ledger),
            dead_letters: Arc::new(DeadLetters::new(components.log.clone())),
            aggregations: Aggregations { rows_max: settings.aggregation_rows },
            records: Arc::new(Records {
                recent: Arc::new(Recent::new(recent_limits(settings))),
                archive,
                positions: Arc::clone(&metrics),
            }),
            live: Arc::new(Live {
                hub: Arc::new(Hub::new(queue_limits(settings), meters.clone())),
                metrics,
                aggregates,
                places: Arc::new(Semaphore::new(settings.sockets)),
                tracker: TaskTracker::new(),
                shutdown: shutdown.clone(),
            }),
            meters,
        };
        let mut service = Self { api, readers: JoinSet::new(), shutdown };
        service.follow(settings, &components.log)?;
        Ok(service)
    }

    /// The routes; to be merged with those of other services.
    pub fn router(&self) -> Router {
        routes::router(self.api.clone())
    }

    pub fn readiness(&self) -> Readiness {
        let live = &self.api.live;
        Readiness { metrics: live.metrics.caught_up(), aggregates: live.aggregates.caught_up() }
    }

    /// Tells the open sockets that the server goes away (1001) and stops the readers.
    pub async fn close(mut self) {
        self.shutdown.cancel();
        let tracker = &self.api.live.tracker;
        tracker.close();
        let readers = &mut self.readers;
        let all = async {
            tracker.wait().await;
            while let Some(ended) = readers.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a reader of the log had ended before");
                }
            }
        };
        if timeout(CLOSE_LIMIT, all).await.is_err() {
            tracing::warn!(limit_s = CLOSE_LIMIT.as_secs(), "sockets or readers did not end in time");
        }
    }

    /// Starts what reads the log and looks at the pipeline.
    fn follow(&mut self, settings: &Settings, log: &LogSettings) -> Result<(), Error> {
        let topics = log.topics();
        let (live, meters) = (Arc::clone(&self.api.live), self.api.meters.clone());
        let source = |name, topic, back, positions: &Arc<Positions>| Source {
            topic,
            back,
            positions: Arc::clone(positions),
            lag: meters.tail_lag.with_label_values(&[name]),
        };
        let recent = Arc::clone(&self.api.records.recent);
        let metrics = source("metrics", topics.metrics, settings.tail_records, &live.metrics);
        self.read(log, metrics, MetricsSink::new(recent, Arc::clone(&live.hub), &meters))?;
        let aggregates = source("aggregates", topics.aggregates, 0, &live.aggregates);
        self.read(log, aggregates, AggregatesSink::new(Arc::clone(&live.hub), &meters))?;
        self.readers.spawn(Arc::clone(&self.api.monitor).run(self.shutdown.clone()));
        self.readers.spawn(Arc::clone(&self.api.ledger).run(self.shutdown.clone()));
        let progress = source("progress", topics.progress, PROGRESS_BACK, &Arc::default());
        self.read(log, progress, ProgressSink::new(Arc::clone(&self.api.waits.reach), &meters))
    }

    fn read(&mut self, log: &LogSettings, source: Source, sink: impl Sink) -> Result<(), Error> {
        let topic = source.topic.clone();
        let tail = Tail::new(log, source, sink).map_err(|source| Error::Tail { topic, source })?;
        let shutdown = self.shutdown.clone();
        self.readers.spawn_blocking(move || tail.run(&shutdown));
        Ok(())
    }
}

fn recent_limits(settings: &Settings) -> recent::Limits {
    recent::Limits { records_per_workspace: settings.recent_records, bytes: settings.recent_bytes() }
}

fn queue_limits(settings: &Settings) -> feed::Limits {
    feed::Limits { events: settings.socket_queue_events, bytes: settings.socket_queue_bytes() }
}
