//! The broker as one component: opens the folder, listens, keeps its timers, and closes everything in order.
//!
//! It has a runtime of its own: what it waits for on a disk stops nobody else in the process.

mod folder;
mod opened;

use crate::{
    Settings,
    api::{Api, Counters},
    net::{Limits, Traffic},
    settings::Fsync,
};
use std::{io, net::SocketAddr, path::Path, path::PathBuf, sync::Arc};
use tokio::{net::TcpListener, runtime, sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Threads that answer requests; the broker shares two cores with its users.
const THREADS: usize = 2;

/// Why the broker can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the log's folder {} can't be used: {doing}", folder.display())]
    Folder { doing: &'static str, folder: PathBuf, source: io::Error },
    #[error("the log's folder {} is in use{by}; two processes can't share it", folder.display())]
    InUse { folder: PathBuf, by: Holder },
    #[error("the log can't listen on {address}; choose another address with --log-listen")]
    Listen { address: String, source: io::Error },
    #[error("{value:?} is no HOST:PORT for --log-advertise")]
    Advertise { value: String },
    #[error("the log can't start its threads")]
    Threads { source: io::Error },
    #[error("the log in {} can't be opened", folder.display())]
    Open { folder: PathBuf, source: crate::log::Error },
    #[error("the log in {} can't be closed", folder.display())]
    Close { folder: PathBuf, source: crate::log::Error },
    #[error("the log's data can't be forced to the disk ({reason}): nothing more is acknowledged")]
    Sync { reason: String },
    #[error("a part of the log has failed: {reason}")]
    Failed { reason: String },
}

/// Who holds the folder, if it has said so.
#[derive(Debug)]
pub struct Holder(pub Option<u32>);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(f, " by process {pid}"))
    }
}

/// A running broker, on threads of its own: what it waits for on a disk stops nobody else.
pub struct Broker {
    address: SocketAddr,
    api: Arc<Api>,
    limits: Arc<Limits>,
    stop: CancellationToken,
    ended: Option<oneshot::Receiver<Error>>,
    served: Option<JoinHandle<Result<(), Error>>>,
    runtime: Option<runtime::Runtime>,
}

impl Broker {
    /// Opens or makes the data in `folder` and listens; clients are answered when this returns.
    pub async fn start(folder: &Path, settings: Settings) -> Result<Self, Error> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("millrace-log")
            .enable_all()
            .build()
            .map_err(|source| Error::Threads { source })?;
        let folder = folder.to_owned();
        let starting = runtime.spawn(async move { opened::open(&folder, &settings).await });
        let started = starting.await.unwrap_or_else(|panic| Err(failed(panic.to_string())));
        let opened = match started {
            Ok(opened) => opened,
            Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let (stop, address) = (opened.api.stop.clone(), opened.address);
        let (api, limits) = (Arc::clone(&opened.api), Arc::clone(&opened.limits));
        let (tell, ended) = oneshot::channel();
        let served = runtime.spawn(opened.run(tell));
        let (ended, served, runtime) = (Some(ended), Some(served), Some(runtime));
        Ok(Self { address, api, limits, stop, ended, served, runtime })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For whoever watches it.
    pub fn meters(&self) -> Meters {
        Meters { counters: Arc::clone(&self.api.counters), limits: Arc::clone(&self.limits) }
    }

    /// Resolves when the broker can't go on, for example because the disk failed to sync.
    pub async fn ended(&mut self) -> Error {
        match &mut self.ended {
            Some(ended) => {
                let error = ended.await.unwrap_or_else(|_| failed("a task of it is gone".into()));
                self.ended = None;
                error
            }
            None => failed("it has ended before".into()),
        }
    }

    /// Takes no more requests, syncs and closes.
    pub async fn close(mut self) -> Result<(), Error> {
        self.stop.cancel();
        let Some(served) = self.served.take() else { return Ok(()) };
        served.await.unwrap_or_else(|panic| Err(failed(panic.to_string())))
    }
}

/// Numbers about a broker, since its start and of the moment. They outlive it.
#[derive(Clone)]
pub struct Meters {
    counters: Arc<Counters>,
    limits: Arc<Limits>,
}

impl Meters {
    pub fn requests(&self) -> &Counters {
        &self.counters
    }

    pub fn traffic(&self) -> &Traffic {
        &self.limits.traffic
    }

    pub fn connections_open(&self) -> usize {
        self.limits.connections_open()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn failed(reason: String) -> Error {
    Error::Failed { reason }
}

async fn listen(address: &str) -> Result<TcpListener, Error> {
    let refused = |source| Error::Listen { address: address.to_owned(), source };
    TcpListener::bind(address).await.map_err(refused)
}

fn advertised(settings: &Settings) -> Result<Option<(String, u16)>, Error> {
    let Some(value) = &settings.log_advertise else { return Ok(None) };
    let wrong = || Error::Advertise { value: value.clone() };
    let (host, port) = value.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().map_err(|_| wrong())?;
    if host.is_empty() { Err(wrong()) } else { Ok(Some((host.to_owned(), port))) }
}

fn describe(fsync: Fsync) -> &'static str {
    match fsync {
        Fsync::Always => "records are on the disk before they are acknowledged",
        Fsync::Within(_) => "acknowledged records are on the disk shortly after",
        Fsync::Os => "records are on the disk when the system pleases",
    }
}

#[cfg(test)]
mod tests;
