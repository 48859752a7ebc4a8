//! What happens without a request: sessions and transactions that time out, markers, and the rewriting of the journal.

use super::{Coordinator, Shared, event::Turn, journal::Written, recovery::write_markers};
use kafka_protocol::ResponseError;
use std::{
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};

/// Markers that the disk refused are tried again after this time.
pub const RETRY_MS: i64 = 1000;

/// Sleeps until the next deadline, does what is due, and so on.
pub async fn run(coordinator: Weak<Coordinator>, shared: Arc<Shared>) {
    loop {
        let deadline = shared.next_deadline();
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => {}
            () = shared.wake.notified() => {}
        }
        let Some(coordinator) = coordinator.upgrade() else { return };
        let now_ms = shared.now_ms();
        let (unmarked, decided) = {
            let mut state = shared.state();
            let unmarked = state.expire(now_ms);
            (unmarked, state.ledger.journal.forced())
        };
        if !unmarked.is_empty() {
            coordinator.spawn_finishing(unmarked, decided);
        }
        rewrite_if_grown(&shared).await;
    }
}

impl Shared {
    fn next_deadline(&self) -> Instant {
        let mut state = self.state();
        state.armed_ms = state.next_deadline_ms();
        let after_ms = state.armed_ms.saturating_sub(self.started_ms);
        self.started + Duration::from_millis(u64::try_from(after_ms).unwrap_or(0))
    }

    /// Writes the markers of a decided transaction, once the decision is durable, and completes it.
    async fn finish(&self, id: &str) -> Result<(), ResponseError> {
        let decided = self.state().transactions.get(id).cloned();
        let Some((decided, outcome)) =
            decided.and_then(|known| known.state.decided().map(|outcome| (known, outcome)))
        else {
            return Ok(());
        };
        self.wait_for_appends();
        for durable in write_markers(&self.topics, &decided, outcome, self.now_ms())? {
            durable.wait().await.map_err(|refused| refused.error)?;
        }
        let written = {
            let now_ms = self.now_ms();
            let state = &mut *self.state();
            state.transactions.completed(&mut Turn { store: &mut state.ledger, now_ms }, id)?;
            state.ledger.written()
        };
        written.wait().await
    }

    /// Batches that were let through before the decision are in their logs when this returns; others are refused.
    fn wait_for_appends(&self) {
        drop(self.appending.write().unwrap_or_else(PoisonError::into_inner));
    }

    async fn finish_or_retry(&self, id: &str) -> Result<(), ResponseError> {
        let finished = self.finish(id).await;
        let mut state = self.state();
        state.finishing.remove(id);
        if let Err(error) = &finished {
            tracing::warn!(id, %error, "could not end a transaction in all partitions: trying again");
            state.retry_ms = Some(self.now_ms() + RETRY_MS);
            self.wake.notify_one();
        }
        finished
    }
}

impl Coordinator {
    /// Writes markers once the decision is on the disk, in a task of its own, which goes on when the client that asked for it has gone. The ids are in
    /// `finishing` already, so that no two tasks write markers for one.
    pub fn spawn_finishing(
        &self,
        ids: Vec<String>,
        decided: Written,
    ) -> oneshot::Receiver<Result<(), ResponseError>> {
        let (done, finished) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        self.spawn(async move {
            let mut result = decided.wait().await;
            for id in ids {
                // A decision that did not reach the disk stays as it is: nothing is acknowledged any more.
                if result.is_err() {
                    shared.state().finishing.remove(&id);
                    continue;
                }
                let finished = shared.finish_or_retry(&id).await;
                result = result.and(finished);
            }
            if done.send(result).is_err() {
                tracing::debug!("nobody waits for the end of a transaction");
            }
        });
        finished
    }
}

async fn rewrite_if_grown(shared: &Arc<Shared>) {
    let replacement = {
        let mut state = shared.state();
        if !state.ledger.journal.is_worth_rewriting() {
            return;
        }
        state.begin_rewrite()
    };
    let synced = match replacement {
        Ok(replacement) => {
            let sync = tokio::task::spawn_blocking(move || replacement.sync().map(|()| replacement));
            match sync.await {
                Ok(synced) => synced,
                Err(error) => {
                    shared.fail(format!("the rewriting of the journal: {error}"));
                    return;
                }
            }
        }
        Err(error) => Err(error),
    };
    let journal = &mut shared.state().ledger.journal;
    match journal.finish_rewrite(synced) {
        Err(error) if journal.is_broken() => {
            shared.fail(format!("the rewriting of the journal: {}", error.with_cause()));
        }
        Err(error) => tracing::warn!(%error, "could not rewrite the journal: the old one stays"),
        Ok(()) => {}
    }
}
