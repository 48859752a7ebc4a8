//! Forces files to the disk for all logs, in groups (`--log-fsync`): one thread, asleep while nothing is dirty.
//!
//! A failed sync is final: Linux drops the pages that it could not write, so a second try would only seem to succeed.

use super::Refused;
use crate::Fsync;
use kafka_protocol::ResponseError;
use std::{
    fs::File,
    io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock},
    thread::JoinHandle,
};
use tokio::sync::watch;

const BROKEN: &str = "a thread panicked while it changed what is to be synced";

/// See the module. Stops when told to; what is dirty then is synced first.
pub struct Syncer {
    fsync: Fsync,
    queue: Mutex<Queue>,
    work: Condvar,
    failure: OnceLock<String>,
    failed: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
    force: Force,
}

type Force = fn(&File) -> io::Result<()>;
type OnSynced = Box<dyn Fn(u64) + Send + Sync>;

#[derive(Default)]
struct Queue {
    dirty: Vec<Arc<SyncTarget>>,
    stopping: bool,
}

impl Queue {
    /// All that is dirty, logs first: they are forced before what speaks of them, such as the coordinator's journal. The
    /// marks of that are taken before those of the logs, under one lock: what it spoke of was in the logs by then.
    fn take(&mut self) -> Vec<(Arc<SyncTarget>, Taken)> {
        let mut dirty = mem::take(&mut self.dirty);
        dirty.sort_by_key(|target| target.is_log);
        let marked = |target: Arc<SyncTarget>| (Arc::clone(&target), target.take());
        let mut taken: Vec<_> = dirty.into_iter().map(marked).collect();
        taken.reverse();
        taken
    }
}

/// Something that is written in order, possibly over several files, such as the log of a partition.
pub struct SyncTarget {
    syncer: Arc<Syncer>,
    is_log: bool,
    pending: Mutex<Pending>,
    /// The mark up to which all is on the disk.
    synced: watch::Sender<u64>,
    on_synced: OnSynced,
}

#[derive(Default)]
struct Pending {
    files: Vec<Arc<File>>,
    mark: u64,
    queued: bool,
}

/// What one round forces.
struct Taken {
    files: Vec<Arc<File>>,
    mark: u64,
}

/// Resolves when what was written is as durable as the settings promise before an acknowledgement.
pub struct Durable(Option<(watch::Receiver<u64>, u64, Arc<Syncer>)>);

impl std::fmt::Debug for Durable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Durable")
    }
}

impl Durable {
    /// Nothing to wait for.
    pub fn now() -> Self {
        Self(None)
    }

    #[cfg(test)]
    pub(crate) fn is_now(&self) -> bool {
        self.0.is_none()
    }

    pub async fn wait(self) -> Result<(), Refused> {
        let Some((mut synced, mark, syncer)) = self.0 else { return Ok(()) };
        let mut failed = syncer.failed.subscribe();
        tokio::select! {
            biased;
            reached = synced.wait_for(|synced| *synced >= mark) => {
                reached.map(|_| ()).map_err(|_| refused("the log was closed before the disk had the records"))
            }
            _ = failed.wait_for(|failed| *failed) => Err(refused("the disk failed to sync")),
        }
    }
}

fn refused(message: &str) -> Refused {
    Refused::new(ResponseError::KafkaStorageError, message.to_owned())
}

/// A folder has no data of its own: its entries are what must be forced.
fn force(file: &File) -> io::Result<()> {
    if file.metadata()?.is_dir() { file.sync_all() } else { file.sync_data() }
}

impl Syncer {
    pub fn start(fsync: Fsync) -> io::Result<Arc<Self>> {
        Self::start_with(fsync, force)
    }

    /// With another way to force a file: for tests of failing disks.
    pub(crate) fn start_with(fsync: Fsync, force: Force) -> io::Result<Arc<Self>> {
        let syncer = Arc::new(Self {
            fsync,
            queue: Mutex::default(),
            work: Condvar::new(),
            failure: OnceLock::new(),
            failed: watch::Sender::new(false),
            thread: Mutex::default(),
            force,
        });
        if fsync != Fsync::Os {
            let works = Arc::clone(&syncer);
            let thread =
                std::thread::Builder::new().name("log-sync".to_owned()).spawn(move || works.run())?;
            *syncer.thread.lock().expect(BROKEN) = Some(thread);
        }
        Ok(syncer)
    }

    pub fn fsync(&self) -> Fsync {
        self.fsync
    }

    pub fn is_failed(&self) -> bool {
        self.failure.get().is_some()
    }

    /// Resolves when a sync has failed: what it said.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.subscribe();
        if failed.wait_for(|failed| *failed).await.is_ok() {
            return self.failure.get().cloned().unwrap_or_default();
        }
        std::future::pending().await
    }

    /// `on_synced` is called on the syncer's thread with the mark that is on the disk.
    pub fn target(self: &Arc<Self>, on_synced: OnSynced) -> Arc<SyncTarget> {
        self.target_of(false, on_synced)
    }

    /// For the log of a partition, which is forced before others.
    pub(crate) fn log_target(self: &Arc<Self>, on_synced: OnSynced) -> Arc<SyncTarget> {
        self.target_of(true, on_synced)
    }

    fn target_of(self: &Arc<Self>, is_log: bool, on_synced: OnSynced) -> Arc<SyncTarget> {
        let (syncer, synced) = (Arc::clone(self), watch::Sender::new(0));
        Arc::new(SyncTarget { syncer, is_log, pending: Mutex::default(), synced, on_synced })
    }

    /// Syncs what is dirty and ends the thread.
    pub fn stop(&self) {
        self.queue().stopping = true;
        self.work.notify_all();
        let thread = self.thread.lock().expect(BROKEN).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the syncing thread panicked");
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect(BROKEN)
    }

    fn run(&self) {
        while let Some(taken) = self.next_round() {
            let forced = taken.into_iter().try_for_each(|(target, taken)| target.force(taken, self.force));
            if let Err(error) = forced {
                return self.fail(&error);
            }
            self.pause();
        }
    }

    /// What is dirty; waits until something is.
    fn next_round(&self) -> Option<Vec<(Arc<SyncTarget>, Taken)>> {
        let idle = |queue: &mut Queue| queue.dirty.is_empty() && !queue.stopping;
        let mut queue = self.work.wait_while(self.queue(), idle).expect(BROKEN);
        let taken = queue.take();
        (!taken.is_empty()).then_some(taken)
    }

    /// Between rounds, so that they gather; the first after an idle time begins at once. Half of the interval is for the
    /// disk.
    fn pause(&self) {
        if let Fsync::Within(interval) = self.fsync {
            let running = |queue: &mut Queue| !queue.stopping;
            drop(self.work.wait_timeout_while(self.queue(), interval / 2, running).expect(BROKEN));
        }
    }

    fn fail(&self, error: &io::Error) {
        tracing::error!(%error, "the disk failed to sync: nothing is acknowledged any more");
        if self.failure.set(error.to_string()).is_ok() {
            self.failed.send_replace(true);
        }
        self.queue().dirty.clear();
    }
}

impl SyncTarget {
    /// Says that all up to `mark` was written, the last of it to `file`.
    pub fn wrote(self: &Arc<Self>, file: &Arc<File>, mark: u64) -> Durable {
        if self.syncer.fsync == Fsync::Os {
            return Durable::now();
        }
        if self.note(file, mark) {
            self.syncer.queue().dirty.push(Arc::clone(self));
            self.syncer.work.notify_one();
        }
        self.reached(mark)
    }

    /// Resolves when the disk has what is up to `mark`, though no acknowledgement waits for it.
    pub fn forced(self: &Arc<Self>, mark: u64) -> Durable {
        match self.syncer.fsync {
            Fsync::Os => Durable::now(),
            Fsync::Always | Fsync::Within(_) => {
                Durable(Some((self.synced.subscribe(), mark, Arc::clone(&self.syncer))))
            }
        }
    }

    /// Says that all up to `mark` was on the disk before this target was made.
    pub fn begin(&self, mark: u64) {
        self.pending.lock().expect(BROKEN).mark = mark;
        self.synced.send_replace(mark);
    }

    /// A promise for what was written before.
    pub fn reached(self: &Arc<Self>, mark: u64) -> Durable {
        match self.syncer.fsync {
            Fsync::Always => Durable(Some((self.synced.subscribe(), mark, Arc::clone(&self.syncer)))),
            Fsync::Within(_) | Fsync::Os => Durable::now(),
        }
    }

    /// Whether it must be queued.
    fn note(&self, file: &Arc<File>, mark: u64) -> bool {
        let mut pending = self.pending.lock().expect(BROKEN);
        // Files are written one after the other; a folder comes in between.
        if !pending.files.iter().rev().take(2).any(|known| Arc::ptr_eq(known, file)) {
            pending.files.push(Arc::clone(file));
        }
        pending.mark = pending.mark.max(mark);
        !mem::replace(&mut pending.queued, true)
    }

    fn take(&self) -> Taken {
        let mut pending = self.pending.lock().expect(BROKEN);
        pending.queued = false;
        Taken { files: mem::take(&mut pending.files), mark: pending.mark }
    }

    fn force(&self, taken: Taken, force: Force) -> io::Result<()> {
        let Taken { files, mark } = taken;
        files.iter().try_for_each(|file| force(file))?;
        // First: who was acknowledged to sees its own records.
        (self.on_synced)(mark);
        self.synced.send_if_modified(|synced| mem::replace(synced, mark.max(*synced)) < mark);
        Ok(())
    }

    /// Forces `file` on this thread; what waits for the syncer still waits for it.
    pub fn sync_now(&self, file: &File) -> io::Result<()> {
        (self.syncer.force)(file).inspect_err(|error| self.syncer.fail(error))
    }
}

#[cfg(test)]
mod tests;
