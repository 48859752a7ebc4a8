//! Reads back what a stage must know of partitions that it takes on: one after the other, on a thread beside the stage's,
//! which goes on with the others meanwhile. One of which a transaction is still open is put behind the others.

use super::StageError;
use std::{
    collections::VecDeque,
    sync::mpsc::{Receiver, TryRecvError, sync_channel},
    thread,
    time::{Duration, Instant},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Transactions of dead members have been ended by then; one that hangs longer is a broker's bug.
const UNSETTLED_MAX: Duration = Duration::from_secs(60);
/// How long who has a [`Restorer`] should wait at most for records while it is busy.
pub(crate) const BUSY_WAIT: Duration = Duration::from_millis(2);

/// What reads back one partition, unless it is told to stop.
pub(crate) type Job<T> = Box<dyn Fn(CancellationToken) -> Result<T, StageError> + Send>;

pub(crate) struct Restorer<T> {
    waiting: VecDeque<Waiting<T>>,
    running: Option<Running<T>>,
    shutdown: CancellationToken,
}

struct Waiting<T> {
    partition: i32,
    job: Job<T>,
    /// When it was put behind the others for the first time.
    unsettled_since: Option<Instant>,
}

/// What came of a job; with the job, where it must be done again.
type Ended<T> = (Option<Job<T>>, Result<T, StageError>);

struct Running<T> {
    partition: i32,
    unsettled_since: Option<Instant>,
    result: Receiver<Ended<T>>,
    /// Dropped, it tells the thread to stop.
    _stop: DropGuard,
}

impl<T: Send + 'static> Restorer<T> {
    pub(crate) fn new(shutdown: CancellationToken) -> Self {
        Self { waiting: VecDeque::new(), running: None, shutdown }
    }

    pub(crate) fn add(&mut self, partition: i32, job: Job<T>) {
        self.waiting.push_back(Waiting { partition, job, unsettled_since: None });
    }

    /// These partitions are somebody else's now.
    pub(crate) fn forget(&mut self, partitions: &[i32]) {
        self.waiting.retain(|waiting| !partitions.contains(&waiting.partition));
        if self.running.as_ref().is_some_and(|running| partitions.contains(&running.partition)) {
            self.running = None;
        }
    }

    /// Whether a partition is still to come: who waits for records should look often.
    pub(crate) fn is_busy(&self) -> bool {
        self.running.is_some() || !self.waiting.is_empty()
    }

    /// A partition that has been read back since the last time. Never waits.
    pub(crate) fn next(&mut self) -> Result<Option<(i32, T)>, StageError> {
        let Some(running) = &self.running else { return self.start().map(|()| None) };
        let (partition, unsettled_since) = (running.partition, running.unsettled_since);
        let (job, restored) = match running.result.try_recv() {
            Ok(ended) => ended,
            Err(TryRecvError::Empty) => return Ok(None),
            Err(TryRecvError::Disconnected) => return Err(StageError::Panicked),
        };
        self.running = None;
        let restored = match (job, restored) {
            (Some(job), Err(error)) => {
                let since = unsettled_since.unwrap_or_else(Instant::now);
                if since.elapsed() >= UNSETTLED_MAX {
                    return Err(error);
                }
                tracing::debug!(%error, "it is asked again");
                self.waiting.push_back(Waiting { partition, job, unsettled_since: Some(since) });
                None
            }
            (_, restored) => Some((partition, restored?)),
        };
        self.start()?;
        Ok(restored)
    }

    fn start(&mut self) -> Result<(), StageError> {
        let Some(Waiting { partition, job, unsettled_since }) = self.waiting.pop_front() else {
            return Ok(());
        };
        let (done, result) = sync_channel(1);
        let stop = self.shutdown.child_token();
        let running = Running { partition, unsettled_since, result, _stop: stop.clone().drop_guard() };
        let body = move || {
            let began = Instant::now();
            let restored = job(stop);
            tracing::debug!(partition, took_ms = began.elapsed().as_millis(), "read back");
            let again = matches!(restored, Err(StageError::Unsettled { .. }));
            // The last job of an assignment closes its clients, which takes a while: better here than on the stage's thread.
            let (again, over) = if again { (Some(job), None) } else { (None, Some(job)) };
            if done.send((again, restored)).is_err() {
                tracing::debug!(partition, "nobody wants the partition any more");
            }
            drop(over);
        };
        thread::Builder::new().name("restore".to_owned()).spawn(body).map_err(StageError::Thread)?;
        self.running = Some(running);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    fn next(restorer: &mut Restorer<&'static str>) -> (i32, &'static str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(restored) = restorer.next().expect("all goes well") {
                return restored;
            }
            assert!(Instant::now() < deadline, "nothing comes");
            thread::yield_now();
        }
    }

    #[test]
    fn one_after_the_other_and_none_of_those_given_up() {
        let mut restorer = Restorer::new(CancellationToken::new());
        let (stopped, was_stopped) = sync_channel(1);
        let endless: Job<_> = Box::new(move |stop| {
            while !stop.is_cancelled() {
                thread::yield_now();
            }
            stopped.send(()).expect("the test waits for it");
            Ok("stopped")
        });
        restorer.add(1, endless);
        restorer.add(2, Box::new(|_| Ok("two")));
        restorer.add(3, Box::new(|_| Ok("three")));
        restorer.add(4, Box::new(|_| Ok("four")));
        assert!(restorer.next().expect("it starts").is_none());
        restorer.forget(&[1, 3]);
        assert_eq!([next(&mut restorer), next(&mut restorer)], [(2, "two"), (4, "four")]);
        was_stopped.recv_timeout(Duration::from_secs(10)).expect("it was told to stop");
    }

    #[test]
    fn what_is_not_settled_yet_holds_no_other_up() {
        let mut restorer = Restorer::new(CancellationToken::new());
        let settled = Arc::new(AtomicBool::new(false));
        let open = Arc::clone(&settled);
        let unsettled: Job<_> = Box::new(move |_| {
            let error = StageError::Unsettled { what: "the end", topic: String::new(), partition: 1 };
            open.load(Ordering::Relaxed).then_some("one").ok_or(error)
        });
        restorer.add(1, unsettled);
        restorer.add(2, Box::new(|_| Ok("two")));
        assert_eq!(next(&mut restorer), (2, "two"));
        settled.store(true, Ordering::Relaxed);
        assert_eq!(next(&mut restorer), (1, "one"));
    }

    #[test]
    fn a_failure_is_told() {
        let mut restorer: Restorer<()> = Restorer::new(CancellationToken::new());
        restorer.add(1, Box::new(|_| Err(StageError::Overtaken)));
        let error = loop {
            match restorer.next() {
                Ok(_) => thread::yield_now(),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, StageError::Overtaken), "{error}");
    }
}
