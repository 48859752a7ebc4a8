//! Consumer groups and transactions: pure state machines over one journal, and a thin shell around them.
//!
//! Requests and answers are those of the protocol; versions are bounded by `api::versions`. It touches records only to
//! write transaction markers.

mod event;
mod group;
mod journal;
mod offsets;
mod recovery;
mod requests;
mod state;
#[cfg(test)]
mod tests;
mod timing;
mod transaction;

use crate::{
    clock,
    log::{Error, Syncer},
    topics::Topics,
};
use kafka_protocol::ResponseError;
use state::State;
use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::Instant,
};
use transaction::Producer;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    pub host: String,
}

pub struct Coordinator {
    shared: Arc<Shared>,
    /// The timer, and markers that are being written.
    tasks: Mutex<JoinSet<()>>,
}

/// A batch may be appended as long as this is held.
#[must_use = "a marker may overtake the batch once this is dropped"]
pub struct Verified<'a> {
    _appending: RwLockReadGuard<'a, ()>,
}

/// What requests and tasks share.
struct Shared {
    state: Mutex<State>,
    topics: Arc<Topics>,
    /// Read while a transactional batch is appended: markers wait for those that were let through before.
    appending: RwLock<()>,
    /// The timer has a reason to look again.
    wake: Notify,
    /// Why the coordinator can't go on.
    failure: watch::Sender<Option<String>>,
    started: Instant,
    started_ms: i64,
}

impl Coordinator {
    /// Reads the journal, finishes transactions that were decided but not marked, and starts its timers. It is called
    /// within a runtime.
    pub fn open(folder: &Path, topics: Arc<Topics>, syncer: Arc<Syncer>) -> Result<Arc<Self>, Error> {
        let started_ms = clock::now_ms();
        let mut state = State::open(folder, &syncer, started_ms)?;
        let unwritten = |error: ResponseError| {
            Error::io("writing", &folder.join(journal::FILE_NAME))(io::Error::other(error))
        };
        state.align(&topics).map_err(unwritten)?;
        recovery::recover(&mut state, &topics, started_ms).map_err(unwritten)?;
        let shared = Shared {
            state: Mutex::new(state),
            topics,
            appending: RwLock::default(),
            wake: Notify::new(),
            failure: watch::Sender::new(None),
            started: Instant::now(),
            started_ms,
        };
        let coordinator = Arc::new(Self { shared: Arc::new(shared), tasks: Mutex::default() });
        let timer = timing::run(Arc::downgrade(&coordinator), Arc::clone(&coordinator.shared));
        coordinator.spawn(timer);
        Ok(coordinator)
    }

    /// Whether a transactional batch may be appended: the partition was added to the open transaction of this producer.
    /// Called by Produce; `append` follows while what this returns is held, so that no marker overtakes the batch.
    #[expect(clippy::too_many_arguments, reason = "these are the fields of a batch and where it goes")]
    pub fn verify_transactional(
        &self,
        transactional_id: &str,
        producer_id: i64,
        epoch: i16,
        topic: &str,
        partition: i32,
    ) -> Result<Verified<'_>, ResponseError> {
        let producer = Producer { id: producer_id, epoch };
        let verified =
            Verified { _appending: self.shared.appending.read().unwrap_or_else(PoisonError::into_inner) };
        let transactions = &self.shared.state().transactions;
        transactions.check_partition(transactional_id, producer, topic, partition).map(|()| verified)
    }

    /// A topic was deleted: its offsets go, and it leaves open transactions.
    pub fn topic_deleted(&self, topic: &str) {
        if let Err(error) = self.shared.state().record(event::Event::TopicDeleted { topic: topic.to_owned() })
        {
            // The next start finds that the topic has gone.
            tracing::warn!(%error, topic, "could not store that offsets of a deleted topic have gone");
        }
    }

    /// Resolves when the coordinator can't go on: why.
    pub async fn failed(&self) -> String {
        let mut failure = self.shared.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await;
        failed.ok().and_then(|reason| reason.clone()).unwrap_or_default()
    }

    /// Runs a task until `close`; a panic in it ends the coordinator.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let alarm = Alarm(Arc::clone(&self.shared));
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let _alarm = alarm;
            task.await;
        });
    }

    /// Answers those that wait, then syncs and closes the journal.
    pub async fn close(&self) -> Result<(), Error> {
        let mut tasks = std::mem::take(&mut *self.tasks());
        tasks.shutdown().await;
        // Also after a panic: what is in the file is as good as at a crash.
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.release();
        state.ledger.journal.close()
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|_| {
            self.fail("a thread panicked while it changed groups or transactions".to_owned());
            panic!("a thread panicked while it changed groups or transactions: they can't be trusted")
        })
    }

    fn fail(&self, reason: String) {
        self.failure.send_if_modified(|failure| {
            let is_first = failure.is_none();
            failure.get_or_insert(reason);
            is_first
        });
    }

    /// Time that never jumps while the process runs, so that a clock that is set ends no session.
    fn now_ms(&self) -> i64 {
        let elapsed_ms = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.started_ms.saturating_add(elapsed_ms)
    }

    /// Wakes the timer where it would sleep too long.
    fn arm(&self, state: &State, deadline_ms: Option<i64>) {
        if deadline_ms.is_some_and(|deadline_ms| deadline_ms < state.armed_ms)
            || state.ledger.journal.is_worth_rewriting()
        {
            self.wake.notify_one();
        }
    }
}

/// Tells when the task that holds it panics.
struct Alarm(Arc<Shared>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("a task of the coordinator panicked".to_owned());
        }
    }
}
