//! What all connections share: the turns at the backend, the news that concern everybody, and the counters.

use crate::{
    backend::{Backend, BackendError},
    schedule::{Priority, QueueFull},
    session::Wanted,
    settings::Settings,
    turn::{Turn, Turns},
    wire::{self, Frame},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::broadcast;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// News that may wait for a connection; one that missed some and listens is ended.
const NEWS_MAX: usize = 1024;
const MINUTE: Duration = Duration::from_secs(60);
/// The answer to everybody until there is room on the disk.
pub const FULL: &str = "the disk of the embedded database is full: make room, it goes on by itself";
/// Sets of start-up settings whose meaning is remembered.
const GREETINGS_MAX: usize = 64;

/// What concerns every connection.
#[derive(Debug, Clone)]
pub enum News {
    /// A notification, for those that listen on its channel.
    Notification { channel: String, frame: Frame },
    /// Somebody made the shared session stop listening: who still wants to must say so again.
    ListenAgain,
    /// The store closes: end, once no transaction is open.
    Drain,
    /// There is no backend for want of space on the disk.
    Full,
    /// End now.
    End { reason: &'static str },
}

/// What may be told once a minute.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// Whether it may be told now; then it is taken as told.
    pub fn is_due(&self) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|told| told.elapsed() >= MINUTE);
        if due {
            *told = Some(Instant::now());
        }
        due
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    #[error(transparent)]
    Full(#[from] QueueFull),
    #[error("the store is closed")]
    Closed,
    #[error(transparent)]
    Backend(#[from] BackendError),
}

#[derive(Debug)]
pub struct Hub {
    pub settings: Settings,
    pub turns: Arc<Turns>,
    pub news: broadcast::Sender<News>,
    pub closing: CancellationToken,
    pub clients: TaskTracker,
    next_client: AtomicU32,
    /// Rises when somebody drops the prepared statements of all.
    statements_dropped: AtomicU64,
    full: AtomicBool,
    full_told: Pace,
    greetings: Mutex<HashMap<Wanted, BTreeMap<String, String>>>,
}

impl Hub {
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            turns: Turns::new(settings.limits.waiting),
            settings,
            news: broadcast::channel(NEWS_MAX).0,
            closing: CancellationToken::new(),
            clients: TaskTracker::new(),
            next_client: AtomicU32::new(1),
            statements_dropped: AtomicU64::new(0),
            full: AtomicBool::new(false),
            full_told: Pace::default(),
            greetings: Mutex::default(),
        })
    }

    pub fn next_client(&self) -> u32 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells everybody; that nobody is there is fine.
    pub fn tell(&self, news: News) {
        if self.news.send(news).is_err() {
            tracing::trace!("no connection to tell");
        }
    }

    /// Whether there is no backend for want of space on the disk.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Release);
        if full {
            self.tell(News::Full);
        }
    }

    /// A client got this error: of a full disk, the operator should hear too.
    pub fn note_error(&self, frame: &Frame) {
        let code = wire::field(frame, b'C').unwrap_or_default();
        if ["53100", "58030"].contains(&code.as_str()) && self.full_told.is_due() {
            let message = wire::field(frame, b'M').unwrap_or_default();
            tracing::warn!(code, message, "a statement failed for want of space, or by a fault of the disk");
        }
    }

    pub fn statements_dropped(&self) -> u64 {
        self.statements_dropped.load(Ordering::Acquire)
    }

    pub fn drop_statements(&self) -> u64 {
        self.statements_dropped.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// What the session reports to a client with these settings, where another one had the same.
    pub fn greeting(&self, wanted: &Wanted) -> Option<BTreeMap<String, String>> {
        self.greetings.lock().unwrap_or_else(PoisonError::into_inner).get(wanted).cloned()
    }

    pub fn remember_greeting(&self, wanted: Wanted, reported: BTreeMap<String, String>) {
        let mut greetings = self.greetings.lock().unwrap_or_else(PoisonError::into_inner);
        if greetings.len() < GREETINGS_MAX {
            greetings.insert(wanted, reported);
        }
    }

    /// A turn for the store's own work, with a session that is settled and nobody's.
    pub async fn own_turn(self: &Arc<Self>, priority: Priority) -> Result<Turn, TurnError> {
        let mut turn = self.turns.join(priority)?.turn().await.ok_or(TurnError::Closed)?;
        self.settle(&mut turn).await?;
        turn.suit(None, &Wanted::new()).await?;
        Ok(turn)
    }

    /// Where its last holder left without taking leave.
    pub async fn settle(&self, backend: &mut Backend) -> Result<(), BackendError> {
        if backend.unsettled {
            backend.settle(self.settings.times.discarding).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_comes_once_a_minute() {
        let pace = Pace::default();
        assert!(pace.is_due());
        assert!(!pace.is_due());
        let long_ago = Pace(Mutex::new(Instant::now().checked_sub(MINUTE)));
        assert!(long_ago.is_due());
    }
}
