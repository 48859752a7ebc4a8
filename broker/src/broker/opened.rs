//! What is open while the broker runs, and the order in which it is opened and closed.

use super::{Error, advertised, describe, failed, folder::Folder, listen};
use crate::{
    Settings,
    api::Api,
    clock,
    coordinator::Coordinator,
    log::Syncer,
    net::{self, Limits},
    topics::Topics,
};
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::oneshot, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

const MAINTAIN_EVERY: Duration = Duration::from_secs(1);

pub struct Opened {
    pub api: Arc<Api>,
    pub address: SocketAddr,
    pub limits: Arc<Limits>,
    listener: TcpListener,
    syncer: Arc<Syncer>,
    folder: Folder,
}

/// The address is taken before the data is opened: a second start with wrong settings touches nothing.
pub async fn open(folder: &Path, settings: &Settings) -> Result<Opened, Error> {
    let advertised = advertised(settings)?;
    more_descriptors();
    let path = folder.to_owned();
    let folder = blocking(move || Folder::hold(&path)).await?;
    let listener = listen(&settings.log_listen).await?;
    let unknown = |source| Error::Listen { address: settings.log_listen.clone(), source };
    let address = listener.local_addr().map_err(unknown)?;
    let syncer = Syncer::start(settings.log_fsync).map_err(|source| Error::Threads { source })?;
    let (topics, coordinator, folder) = open_data(folder, &syncer).await?;
    let api = Api {
        topics,
        coordinator,
        cluster_id: folder.cluster_id.clone(),
        advertised,
        partitions_default: i32::try_from(settings.log_partitions).unwrap_or(i32::MAX),
        data_folder: folder.path.display().to_string(),
        counters: Default::default(),
        answers: Arc::new(tokio::sync::Semaphore::new(settings.log_inflight_bytes as usize)),
        turn: Default::default(),
        stop: CancellationToken::new(),
    };
    tracing::info!(%address, folder = %folder.path.display(), "the log listens: {}", describe(settings.log_fsync));
    let limits = Arc::new(Limits::new(settings));
    Ok(Opened { api: Arc::new(api), address, limits, listener, syncer, folder })
}

type Data = (Arc<Topics>, Arc<Coordinator>, Folder);

async fn open_data(folder: Folder, syncer: &Arc<Syncer>) -> Result<Data, Error> {
    let syncer = Arc::clone(syncer);
    blocking(move || {
        let unopened = |source| Error::Open { folder: folder.path.clone(), source };
        let topics = Topics::open(&folder.path, Arc::clone(&syncer), clock::now_ms());
        let topics = Arc::new(topics.map_err(unopened)?);
        let coordinator = Coordinator::open(&folder.part("coordinator")?, Arc::clone(&topics), syncer);
        let coordinator = coordinator.map_err(unopened)?;
        Ok((topics, coordinator, folder))
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    spawn_blocking(work).await.unwrap_or_else(|panic| Err(failed(panic.to_string())))
}

/// Each partition keeps a file open, each connection a socket.
fn more_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

impl Opened {
    /// Serves until it is told to stop, then closes in order; what goes wrong before is told at once.
    pub async fn run(self, tell: oneshot::Sender<Error>) -> Result<(), Error> {
        let Self { api, limits, listener, syncer, folder, .. } = self;
        let stop = api.stop.clone();
        let served = net::serve(listener, Arc::new(Arc::clone(&api)), limits, stop.clone());
        let watched = async {
            let failure = tokio::select! {
                () = stop.cancelled() => return,
                reason = syncer.failed() => Error::Sync { reason },
                reason = api.coordinator.failed() => failed(reason),
                reason = maintain(&api.topics) => failed(reason),
            };
            tracing::error!(error = %failure, "the log can't go on");
            if tell.send(failure).is_err() {
                tracing::debug!("nobody asks why the log can't go on");
            }
        };
        tokio::join!(served, watched);
        close(&api, &syncer, &folder).await
    }
}

/// Retention and compaction, time and again; returns only why it can't go on.
async fn maintain(topics: &Arc<Topics>) -> String {
    let mut ticks = tokio::time::interval(MAINTAIN_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if topics.all().is_empty() {
            continue;
        }
        let topics = Arc::clone(topics);
        if let Err(panic) = spawn_blocking(move || topics.maintain(clock::now_ms())).await {
            return format!("maintenance: {panic}");
        }
    }
}

/// The coordinator first: it still writes to the logs' syncer, and what waits for it is answered.
async fn close(api: &Api, syncer: &Arc<Syncer>, folder: &Folder) -> Result<(), Error> {
    let unclosed = |source| Error::Close { folder: folder.path.clone(), source };
    let coordinated = api.coordinator.close().await.map_err(unclosed);
    let (topics, syncer) = (Arc::clone(&api.topics), Arc::clone(syncer));
    let closed = blocking(move || {
        let closed = topics.close();
        syncer.stop();
        Ok(closed)
    });
    let closed = closed.await?.map_err(unclosed);
    tracing::info!("the log is closed");
    coordinated.and(closed)
}
