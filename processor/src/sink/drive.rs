//! The loop around a group member: feeds a [`Worker`] with records, starts it on its partitions, lets it store what is
//! due, and retries what fails, with the partitions paused and the group kept alive.

use super::{
    member::{self, Event, Member},
    outage::{Chain, Outage},
};
use millrace_log::NextOffset;
use rdkafka::message::BorrowedMessage;
use std::{
    collections::BTreeMap,
    error::Error,
    panic::resume_unwind,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// The longest wait for a record: how late a shutdown may be noticed.
const POLL_MAX: Duration = Duration::from_millis(100);
/// The longest wait of a member that was put out, until it joins again.
const PUT_OUT_WAIT_MAX: Duration = Duration::from_secs(1);
const PUT_OUT_WITHIN: Duration = Duration::from_secs(10);

/// What becomes of a step that did not succeed.
#[derive(Debug)]
pub enum Failure<E> {
    /// The same step may succeed later: it is tried again, for ever.
    Retry(E),
    /// Somebody else has gone on: all partitions start anew from what is stored.
    Restart,
    /// It will never succeed.
    Stop(E),
}

/// Whether a step had something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Done,
    Idle,
}

/// Stores the records of some partitions. Nothing of it is told to the group but for show.
pub trait Worker {
    type Error: Error + From<member::Error>;

    /// What it does, for log lines.
    const ROLE: &'static str;
    /// Records that it is given between two calls of [`Worker::work`], which asks for the time.
    const RECORDS_AT_ONCE: usize = 1;

    /// Where to read each of `partitions` from; they are all that this worker has from now on.
    fn start(
        &mut self,
        member: &Member,
        partitions: &[i32],
    ) -> Result<Vec<(i32, NextOffset)>, Failure<Self::Error>>;

    /// Keeps a record. None comes while [`Worker::work`] fails, so what it holds is bounded.
    fn take(&mut self, message: &BorrowedMessage<'_>) -> Result<(), Self::Error>;

    /// Does what is due, if anything is. What has failed is due until it is done: the partitions are paused so long.
    fn work(&mut self, member: &Member, now: Instant) -> Result<Step, Failure<Self::Error>>;

    /// How long until something will be due.
    fn patience(&self, now: Instant) -> Duration;

    /// The partitions are no longer this worker's.
    fn give_up(&mut self);

    /// All records of a partition have been read.
    fn caught_up(&mut self, partition: i32);

    /// Where partitions end, for the lag.
    fn ends(&mut self, ends: &BTreeMap<i32, i64>);

    /// Stores what it has, if that takes a few seconds at most.
    fn finish(&mut self, member: &Member);
}

/// Runs until `shutdown` or an error that no retry helps.
pub fn drive<W: Worker>(worker: W, member: Member, shutdown: &CancellationToken) -> Result<(), W::Error> {
    let mut driver = Driver {
        worker,
        member,
        assigned: Vec::new(),
        starting: false,
        outage: Outage::default(),
        put_out: None,
    };
    while !shutdown.is_cancelled() {
        driver.advance(Instant::now())?;
        driver.listen(Instant::now())?;
    }
    if !driver.starting {
        driver.worker.finish(&driver.member);
    }
    driver.member.leave_to_others();
    Ok(())
}

struct Driver<W> {
    worker: W,
    member: Member,
    assigned: Vec<i32>,
    /// The assignment has not begun to be read.
    starting: bool,
    outage: Outage,
    /// How often it was put out of the group, each within [`PUT_OUT_WITHIN`] of the last, and when last.
    put_out: Option<(u32, Instant)>,
}

impl<W: Worker> Driver<W> {
    fn advance(&mut self, now: Instant) -> Result<(), W::Error> {
        if self.outage.wait(now).is_some() {
            return Ok(());
        }
        let starts = self.starting;
        let result = if starts { self.start() } else { self.worker.work(&self.member, now) };
        match result {
            Ok(Step::Idle) => Ok(()),
            Ok(Step::Done) => {
                if self.recovered(Instant::now()) && !starts {
                    self.member.resume();
                }
                Ok(())
            }
            Err(Failure::Retry(error)) => {
                self.failed(&error, Instant::now());
                Ok(())
            }
            Err(Failure::Restart) => {
                tracing::info!(
                    role = W::ROLE,
                    topic = self.member.topic(),
                    "another one has gone on; starting anew"
                );
                self.worker.give_up();
                self.starting = true;
                Ok(())
            }
            Err(Failure::Stop(error)) => Err(error),
        }
    }

    fn start(&mut self) -> Result<Step, Failure<W::Error>> {
        let positions = self.worker.start(&self.member, &self.assigned)?;
        if let Err(error) = self.member.assign(&positions) {
            self.join_again().map_err(|error| Failure::Stop(error.into()))?;
            return Err(Failure::Retry(error.into()));
        }
        let (role, topic) = (W::ROLE, self.member.topic());
        tracing::info!(role, topic, partitions = ?self.assigned, "reading the partitions");
        self.starting = false;
        Ok(Step::Done)
    }

    fn listen(&mut self, now: Instant) -> Result<(), W::Error> {
        let patience = if self.starting { POLL_MAX } else { self.worker.patience(now) };
        let mut timeout = self.outage.wait(now).unwrap_or(patience).min(POLL_MAX);
        for _ in 0..W::RECORDS_AT_ONCE {
            let event = match self.member.next(timeout) {
                Err(error) if error.is_fenced() => return self.put_out(&error, now),
                event => event?,
            };
            match event {
                Event::Record(message) => self.worker.take(&message)?,
                Event::Assigned(partitions) => {
                    self.worker.give_up();
                    self.assigned = partitions;
                    self.starting = true;
                    break;
                }
                Event::Revoked => {
                    self.worker.give_up();
                    self.assigned.clear();
                    self.starting = false;
                    self.member.give_up()?;
                    break;
                }
                Event::CaughtUp(partition) => self.worker.caught_up(partition),
                Event::Ends(ends) => self.worker.ends(&ends),
                Event::Nothing => break,
            }
            timeout = Duration::ZERO;
        }
        Ok(())
    }

    /// Begins again as a new member of the same name. After an outage a broker may know this one under an older session; or
    /// there is a namesake: which process then ends is windows' to say.
    fn put_out(&mut self, error: &member::Error, now: Instant) -> Result<(), W::Error> {
        let times = self.put_out.map_or(1, |(times, last)| {
            if now.saturating_duration_since(last) < PUT_OUT_WITHIN { times + 1 } else { 1 }
        });
        self.put_out = Some((times, now));
        tracing::warn!(role = W::ROLE, error = %Chain(error), times, "put out of the group; joining again");
        std::thread::sleep((POLL_MAX * times).min(PUT_OUT_WAIT_MAX));
        Ok(self.join_again()?)
    }

    /// With a new client, which has nothing of what this one had.
    fn join_again(&mut self) -> Result<(), member::Error> {
        self.worker.give_up();
        self.assigned.clear();
        self.starting = false;
        self.member.rejoin()
    }

    fn failed(&mut self, error: &W::Error, now: Instant) {
        if self.outage.failed(now) {
            let (role, topic) = (W::ROLE, self.member.topic());
            tracing::warn!(role, topic, error = %Chain(error), "can't go on; trying again until it works");
        }
        self.member.pause();
    }

    /// Whether that ends an outage.
    fn recovered(&mut self, now: Instant) -> bool {
        let Some(outage) = self.outage.ended(now) else { return false };
        let (role, topic) = (W::ROLE, self.member.topic());
        tracing::info!(role, topic, outage_ms = outage.as_millis(), "goes on");
        true
    }
}

/// Runs futures on a thread that isn't the runtime's.
#[derive(Clone)]
pub struct Blocking {
    handle: Handle,
    shutdown: CancellationToken,
    /// Known once the shutdown has been noticed, by whichever of the clones.
    end: Arc<OnceLock<Instant>>,
}

/// How much longer all steps together may take once the shutdown has begun: then the group is to be left in time.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

impl Blocking {
    pub fn new(handle: Handle, shutdown: CancellationToken) -> Self {
        Self { handle, shutdown, end: Arc::default() }
    }

    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// The output of `future`; `None` when it takes longer than `limit`, or a shutdown can't wait for it.
    pub fn run<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        let too_long = async {
            let grace = async {
                self.shutdown.cancelled().await;
                tokio::time::sleep_until(self.end().into()).await;
            };
            tokio::select! {
                () = grace => {}
                () = tokio::time::sleep(limit) => {}
            }
        };
        self.handle.block_on(async {
            tokio::select! {
                output = future => Some(output),
                () = too_long => None,
            }
        })
    }

    /// Does `work` on a thread of its own; [`Self::wait`] for it.
    pub fn beside<T: Send + 'static>(&self, work: impl FnOnce(&Self) -> T + Send + 'static) -> JoinHandle<T> {
        let blocking = self.clone();
        self.handle.spawn_blocking(move || work(&blocking))
    }

    /// What came of it; `None` where the process ends before it had begun. Panics as it did.
    pub fn wait<T>(&self, beside: JoinHandle<T>) -> Option<T> {
        match self.handle.block_on(beside) {
            Ok(done) => Some(done),
            Err(error) => error.try_into_panic().map_or(None, |panic| resume_unwind(panic)),
        }
    }

    /// What a step may take: `limit`, or what a shutdown leaves.
    pub fn left(&self, limit: Duration) -> Duration {
        if self.shutdown.is_cancelled() {
            limit.min(self.end().saturating_duration_since(Instant::now()))
        } else {
            limit
        }
    }

    fn end(&self) -> Instant {
        *self.end.get_or_init(|| Instant::now() + SHUTDOWN_GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_done_beside_ends_no_later() {
        let blocking = Blocking::new(Handle::current(), CancellationToken::new());
        let beside = blocking.clone();
        let end = beside.end();
        assert_eq!(blocking.end(), end);
    }
}
