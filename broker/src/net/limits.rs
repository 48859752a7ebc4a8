//! What all connections share: how many there may be, how many bytes of requests may be in work, and the counts.

use crate::Settings;
use std::{sync::Arc, sync::atomic::AtomicU64, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Traffic {
    pub connections_accepted: AtomicU64,
    pub connections_refused: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
}

/// What a frame has of the budget, until it is dropped.
#[derive(Debug, Default)]
pub struct Budget {
    /// How many bytes of the frame it covers.
    pub(super) bytes: usize,
    permits: Option<OwnedSemaphorePermit>,
    _overdraft: Option<OwnedSemaphorePermit>,
}

/// The limits of a server and what is left of them.
#[derive(Debug)]
pub struct Limits {
    pub request_bytes_max: usize,
    /// A connection without a request for so long is closed (Kafka: connections.max.idle.ms), as is one that does not
    /// take its answer for so long.
    pub idle: Duration,
    /// A frame that has begun must be there after this long, and as much longer as its size takes at
    /// `SLOWEST_BYTES_PER_SECOND`.
    pub frame_grace: Duration,
    pub traffic: Arc<Traffic>,
    connections: Arc<Semaphore>,
    connections_max: usize,
    inflight: Arc<Semaphore>,
    inflight_max: u32,
    overdraft: Arc<Semaphore>,
}

const SLOWEST_BYTES_PER_SECOND: u32 = 64 << 10;

impl Limits {
    pub fn new(settings: &Settings) -> Self {
        let connections_max = settings.log_connections as usize;
        Self {
            request_bytes_max: settings.log_request_bytes as usize,
            idle: Duration::from_secs(600),
            frame_grace: Duration::from_secs(30),
            traffic: Arc::default(),
            connections: Arc::new(Semaphore::new(connections_max)),
            connections_max,
            inflight: Arc::new(Semaphore::new(settings.log_inflight_bytes as usize)),
            inflight_max: settings.log_inflight_bytes,
            overdraft: Arc::new(Semaphore::new(1)),
        }
    }

    /// Room for one more connection, until it is dropped; None: there is none.
    pub(super) fn open(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).try_acquire_owned().ok()
    }

    /// Waits until so many bytes of a frame may be held. Frames that have a part of the budget each may all wait for more:
    /// so one at a time may go past it, to its `length`. A frame that is larger than the budget waits for all of it.
    pub(super) async fn admit(&self, budget: &mut Budget, bytes: usize, length: usize) {
        let held = budget.permits.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.min(self.inflight_max as usize).saturating_sub(held);
        let more = u32::try_from(more).expect("the budget is a u32");
        tokio::select! {
            biased;
            permits = Arc::clone(&self.inflight).acquire_many_owned(more) => {
                let permits = permits.expect("the budget is never closed");
                match &mut budget.permits {
                    Some(held) => held.merge(permits),
                    none => *none = Some(permits),
                }
                budget.bytes = bytes;
            }
            overdraft = Arc::clone(&self.overdraft).acquire_owned() => {
                budget._overdraft = Some(overdraft.expect("it is never closed"));
                budget.bytes = length;
            }
        }
    }

    /// How long a frame of this length may take to arrive.
    pub(super) fn frame_time(&self, length: usize) -> Duration {
        self.frame_grace + Duration::from_secs(length as u64 / u64::from(SLOWEST_BYTES_PER_SECOND))
    }

    pub fn connections_open(&self) -> usize {
        self.connections_max - self.connections.available_permits()
    }
}
