//! Composes the stages of the role and runs them until one fails or it is told to stop.

use crate::{
    archive::{self, ArchiveComponents, ArchiveMetrics},
    ledger::{self, LedgerComponents, LedgerMetrics},
    plan::{Plan, PlanError},
    settings::Settings,
    sink::{self, SinkComponents, SinkMetrics},
    stage::{self, StageError, Supervised, combine, group::Place, left_open::LeftOpen, windows},
};
use millrace_log::LogSettings;
use millrace_tenancy::Directory;
use prometheus::Registry;
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the other stages have for their end after an error of one.
const OTHERS_LIMIT: Duration = Duration::from_secs(7);

/// What the role works with.
#[derive(Clone)]
pub struct Components {
    pub log: LogSettings,
    pub pool: PgPool,
    pub directory: Directory,
    pub registry: Registry,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("registering metrics")]
    Metrics(#[from] prometheus::Error),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("the sink of window rows")]
    Sink(#[from] sink::Error),
    #[error("the ledger")]
    Ledger(#[from] ledger::Error),
    #[error("--archive-url")]
    ArchiveUrl(#[from] archive::LocationError),
    #[error("the archive")]
    Archive(#[from] archive::Error),
    #[error("{stage}")]
    Stage {
        stage: &'static str,
        #[source]
        source: Box<StageError>,
    },
}

/// What combine and windows share.
struct Shared {
    plan: Plan,
    left_open: Arc<LeftOpen>,
}

type Stages = JoinSet<Result<(), Error>>;

/// Runs combine, windows, sink, ledger and archive until `shutdown`, or until one of them can't go on: then the others are
/// stopped too and its error is returned. The topics and tables must exist.
pub async fn run(
    settings: Settings,
    components: Components,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let stop = shutdown.child_token();
    let mut stages = start(&settings, &components, &stop).await?;
    start_sink(&mut stages, &settings, &components, &stop)?;
    start_ledger(&mut stages, &settings, &components, &stop)?;
    start_archive(&mut stages, &settings, &components, &stop)?;
    finish(stages, &stop).await
}

/// The same without sink, ledger and archive: from raw records to rows of the `aggregates` topic.
pub async fn run_windows(
    settings: Settings,
    components: Components,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let stop = shutdown.child_token();
    let stages = start(&settings, &components, &stop).await?;
    finish(stages, &stop).await
}

/// Starts combine and windows.
async fn start(
    settings: &Settings,
    components: &Components,
    stop: &CancellationToken,
) -> Result<Stages, Error> {
    let shared = Shared { plan: Plan::declare().await?, left_open: LeftOpen::new(&components.log) };
    let mut stages = Stages::new();
    start_combine(&mut stages, settings, components, &shared, stop)?;
    start_windows(&mut stages, settings, components, &shared, stop)?;
    let watching = shared.left_open.watch(stop.clone());
    stages.spawn(async {
        watching.await;
        Ok(())
    });
    Ok(stages)
}

/// Waits for all stages; the first that ends stops the others. After an error they have only so long: a client that was
/// put out by the brokers may never come to its end.
async fn finish(mut stages: Stages, stop: &CancellationToken) -> Result<(), Error> {
    while let Some(ended) = stages.join_next().await {
        let ended =
            ended.unwrap_or(Err(Error::Stage { stage: "a stage", source: Box::new(StageError::Panicked) }));
        stop.cancel();
        if let Err(error) = ended {
            let others = async { while stages.join_next().await.is_some() {} };
            if tokio::time::timeout(OTHERS_LIMIT, others).await.is_err() {
                tracing::warn!(
                    "stages that did not end in time are cut off; the next start goes on from the log"
                );
            }
            return Err(error);
        }
    }
    Ok(())
}

fn start_combine(
    stages: &mut Stages,
    settings: &Settings,
    components: &Components,
    shared: &Shared,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let meters = combine::Meters::register(&components.registry)?;
    for number in 0..settings.combine_workers {
        let components = combine::Components {
            log: components.log.clone(),
            directory: components.directory.clone(),
            plan: shared.plan.clone(),
            meters: meters.clone(),
            left_open: Arc::clone(&shared.left_open),
            shutdown: stop.clone(),
        };
        let process = components.log.name(&format!("combine-{}", settings.instance_id));
        let worker = combine::CombineSettings {
            admission: settings.admission.clone(),
            windows: settings.windows.clone(),
            place: Place { process, worker: Some(number) },
            workers: settings.combine_workers,
        };
        let who = Supervised {
            name: worker.place.instance(),
            instance: settings.instance_id.clone(),
            yields: false,
        };
        let attempt = move |runtime: &_| combine::run(&components, &worker, runtime);
        let running = stage::supervise(who, stop.clone(), attempt);
        stages.spawn(async {
            running.await.map_err(|source| Error::Stage { stage: "combine", source: Box::new(source) })
        });
    }
    Ok(())
}

fn start_windows(
    stages: &mut Stages,
    settings: &Settings,
    components: &Components,
    shared: &Shared,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let components = windows::Components {
        log: components.log.clone(),
        plan: shared.plan.clone(),
        meters: windows::Meters::register(&components.registry)?,
        left_open: Arc::clone(&shared.left_open),
        shutdown: stop.clone(),
    };
    let process = components.log.name(&format!("windows-{}", settings.instance_id));
    let place = Place { process, worker: None };
    let who = Supervised { name: place.instance(), instance: settings.instance_id.clone(), yields: true };
    let window_settings = settings.windows.clone();
    let attempt = move |runtime: &_| windows::run(&components, &window_settings, &place, runtime);
    let running = stage::supervise(who, stop.clone(), attempt);
    stages.spawn(async {
        running.await.map_err(|source| Error::Stage { stage: "windows", source: Box::new(source) })
    });
    Ok(())
}

fn start_sink(
    stages: &mut Stages,
    settings: &Settings,
    components: &Components,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let sink = SinkComponents {
        log: components.log.clone(),
        pool: components.pool.clone(),
        metrics: SinkMetrics::register(&components.registry)?,
        instance: settings.instance_id.clone(),
    };
    let running = sink::run(sink, stop.clone());
    stages.spawn(async { Ok(running.await?) });
    Ok(())
}

fn start_ledger(
    stages: &mut Stages,
    settings: &Settings,
    components: &Components,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let ledger = LedgerComponents {
        log: components.log.clone(),
        pool: components.pool.clone(),
        metrics: LedgerMetrics::register(&components.registry)?,
        retention: settings.ledger_retention(),
        instance: settings.instance_id.clone(),
    };
    let running = ledger::run(ledger, stop.clone());
    stages.spawn(async { Ok(running.await?) });
    Ok(())
}

fn start_archive(
    stages: &mut Stages,
    settings: &Settings,
    components: &Components,
    stop: &CancellationToken,
) -> Result<(), Error> {
    if settings.archive.no_archive {
        tracing::warn!("--no-archive: records are only as old as the log");
        return Ok(());
    }
    let archive = ArchiveComponents {
        log: components.log.clone(),
        directory: components.directory.clone(),
        location: archive::Location::open(&settings.archive.archive_url)?,
        admission: settings.admission.clone(),
        settings: settings.archive.clone(),
        metrics: ArchiveMetrics::register(&components.registry)?,
        instance: settings.instance_id.clone(),
    };
    let running = archive::run(archive, stop.clone());
    stages.spawn(async { Ok(running.await?) });
    Ok(())
}
