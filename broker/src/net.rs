//! Sockets: accepts connections, reads frames, bounds what is in flight, writes answers in order. It knows no API.

mod connection;
mod frame;
mod limits;

pub use limits::{Limits, Traffic};

use bytes::Bytes;
use connection::Connection;
use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc, sync::atomic::Ordering, time::Duration};
use tokio::{net::TcpListener, net::TcpStream, sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub client: SocketAddr,
    /// The address of ours that the client has reached.
    pub local: SocketAddr,
}

/// An answer: its frame in pieces, so that records need not be copied into one.
#[derive(Debug)]
pub struct Answer {
    pub pieces: Vec<Bytes>,
    /// What is given back when it is written.
    pub held: Option<OwnedSemaphorePermit>,
}

impl From<Bytes> for Answer {
    fn from(frame: Bytes) -> Self {
        Self { pieces: vec![frame], held: None }
    }
}

/// Why a connection is closed instead of answered.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Close(pub String);

/// What becomes the answer; None where the client wants none.
pub type Answering = Pin<Box<dyn Future<Output = Result<Option<Answer>, Close>> + Send>>;

/// A request that has begun.
pub struct Pending {
    pub answering: Answering,
    /// All that must happen in order has happened: the connection's next request may begin meanwhile.
    pub overlaps: bool,
}

/// What answers requests. `begin` does at once what must be done in the order of the requests.
pub trait Service: Send + Sync + 'static {
    fn begin(&self, peer: &Peer, frame: Bytes) -> Result<Pending, Close>;
}

/// How long a closing server waits for answers that are nearly there.
const DRAIN: Duration = Duration::from_secs(2);
/// How often the log may say that connections are refused.
const REFUSAL_LOG_EVERY: Duration = Duration::from_secs(5);
/// How long to wait when the system has no descriptor for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves connections until `stop`, then waits a little for answers that are on their way.
pub async fn serve<S: Service>(
    listener: TcpListener,
    service: Arc<S>,
    limits: Arc<Limits>,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();
    let mut refusals = Refusals::default();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection to the log can't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(open) = limits.open() else {
            refusals.note(&limits, client);
            continue;
        };
        let (service, limits) = (Arc::clone(&service), Arc::clone(&limits));
        let (stop, abort) = (stop.clone(), abort.clone());
        connections.spawn(async move {
            let ended = abort.run_until_cancelled(converse(stream, client, service, limits, stop)).await;
            match ended {
                Some(Ok(())) => tracing::trace!(%client, "a connection to the log is closed"),
                Some(Err(reason)) => tracing::debug!(%client, %reason, "a connection to the log is closed"),
                None => tracing::debug!(%client, "a connection to the log is cut off: the log closes"),
            }
            drop(open);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        abort.cancel();
        connections.wait().await;
    }
}

async fn converse<S: Service>(
    stream: TcpStream,
    client: SocketAddr,
    service: Arc<S>,
    limits: Arc<Limits>,
    stop: CancellationToken,
) -> Result<(), Close> {
    stream.set_nodelay(true).map_err(|error| Close(format!("setting TCP_NODELAY: {error}")))?;
    let local = stream.local_addr().map_err(|error| Close(format!("asking for its own address: {error}")))?;
    Connection::new(stream, Peer { client, local }, service, limits).run(stop).await
}

/// Says now and then that connections are refused, not each time.
#[derive(Default)]
struct Refusals {
    since_log: u64,
    logged: Option<Instant>,
}

impl Refusals {
    fn note(&mut self, limits: &Limits, client: SocketAddr) {
        limits.traffic.connections_refused.fetch_add(1, Ordering::Relaxed);
        self.since_log += 1;
        if self.logged.is_none_or(|at| at.elapsed() >= REFUSAL_LOG_EVERY) {
            let refused = self.since_log;
            tracing::warn!(refused, %client, "connections to the log are refused: --log-connections are open");
            (self.since_log, self.logged) = (0, Some(Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests;
