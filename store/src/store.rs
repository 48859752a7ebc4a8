//! The store as a whole: started, looked after, closed.

use crate::{
    Error,
    backend::Backend,
    engine::{self, Event},
    folder::{Folder, SocketFolder},
    hub::{Hub, News, TurnError},
    maintenance, relay,
    schedule::Priority,
    session::Wanted,
    settings::Settings,
};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;

/// For the last checkpoint, and for the end of the backend.
const END_MAX: Duration = Duration::from_secs(10);
/// For connections to take their last message once the store closes.
const FAREWELL: Duration = Duration::from_millis(500);
/// For the backend to be free after the time for the running transaction.
const FREE: Duration = Duration::from_secs(1);

/// An embedded PostgreSQL with a socket. Dropped instead of closed, it ends in the background and loses nothing that
/// was committed.
#[derive(Debug)]
pub struct Store {
    hub: Arc<Hub>,
    socket: SocketFolder,
    pipe: Current,
    ended: watch::Receiver<Option<Error>>,
    tasks: TaskTracker,
}

/// The pipe of the backend that runs at present.
type Current = Arc<Mutex<Option<Arc<crate::pipe::Pipe>>>>;

impl Store {
    /// Opens the database, or makes it, and listens. The socket is there when this returns.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        if !engine::SUPPORTED {
            let platform = format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH);
            return Err(Error::Unsupported { platform });
        }
        let path = settings.folder.clone();
        let folder = tokio::task::spawn_blocking(move || Folder::open(&path));
        let folder = folder.await.map_err(|_| Error::Hung { doing: "started" })??;
        let log = folder.log();
        let socket = SocketFolder::choose(folder.path())?;
        let (says, mut events) = engine::events();
        let hub = Hub::new(settings);
        engine::start(folder, hub.settings.limits.crashes, says, hub.closing.clone())?;
        let pipe = Current::default();
        match events.recv().await {
            Some(Event::Failed(error)) => return Err(error),
            Some(event) => heed(&hub, &pipe, event).await,
            None => return Err(Error::Closed),
        }
        let listener = socket.listen()?;
        let (end, ended) = watch::channel(None);
        let tasks = TaskTracker::new();
        tasks.spawn(look_after(Arc::clone(&hub), Arc::clone(&pipe), events, end));
        tasks.spawn(relay::run(Arc::clone(&hub), listener));
        tasks.spawn(maintenance::run(Arc::clone(&hub), log));
        Ok(Self { hub, socket, pipe, ended, tasks })
    }

    /// Whether there is an embedded database for this platform.
    pub const fn is_supported() -> bool {
        engine::SUPPORTED
    }

    /// For sqlx and psql. The folder's path is percent-encoded.
    pub fn url(&self) -> String {
        let host: String = self.socket_dir().to_string_lossy().bytes().map(percent_encode).collect();
        format!("postgresql:///postgres?host={host}&user=postgres")
    }

    /// The folder in which the socket `.s.PGSQL.5432` is.
    pub fn socket_dir(&self) -> &Path {
        self.socket.path()
    }

    /// Resolves when the store can't go on. May be dropped and called again: it says the same.
    pub async fn ended(&mut self) -> Error {
        let ended = self.ended.wait_for(Option::is_some).await;
        ended.ok().and_then(|error| error.clone()).unwrap_or(Error::Closed)
    }

    /// Takes no more connections, lets the running transaction end for a limited time, writes a checkpoint and closes
    /// the database. A store that ended already says why, at once.
    ///
    /// A statement that computes can't be stopped: about a second after the limit its thread is left to itself and no
    /// checkpoint is written, which loses nothing that was committed. The thread ends with the process, or with its
    /// statement; until then the folder is locked, so that a store can't be started on it again.
    pub async fn close(mut self) -> Result<(), Error> {
        let hub = Arc::clone(&self.hub);
        hub.closing.cancel();
        hub.clients.close();
        hub.tell(News::Drain);
        let checkpoint = tokio::select! {
            biased;
            error = self.ended() => return why(error),
            checkpoint = last_checkpoint(&hub) => checkpoint,
        };
        let Some(checkpoint) = checkpoint else {
            tracing::warn!(
                "the embedded database is busy and left behind; its next start takes a little longer"
            );
            self.crash();
            return Ok(());
        };
        self.end_backend();
        match timeout(END_MAX, self.ended()).await {
            Ok(error) => why(error)?,
            Err(_) => return Err(Error::Hung { doing: "closed" }),
        }
        self.tasks.close();
        self.tasks.wait().await;
        checkpoint.map_err(|error| Error::Refused {
            doing: "writing the last checkpoint",
            message: error.to_string(),
        })
    }

    /// Ends the backend as a crash would, at its next word.
    #[doc(hidden)]
    pub fn crash(&self) {
        if let Some(pipe) = self.current() {
            pipe.cut();
        }
    }

    fn end_backend(&self) {
        if let Some(pipe) = self.current() {
            pipe.end();
        }
    }

    fn current(&self) -> Option<Arc<crate::pipe::Pipe>> {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.hub.closing.cancel();
        self.hub.tell(News::End { reason: "terminating connection because the store closes" });
        self.end_backend();
    }
}

/// Why the store ended, unless it was asked to.
fn why(error: Error) -> Result<(), Error> {
    match error {
        Error::Closed => Ok(()),
        error => Err(error),
    }
}

/// Lets the connections end and writes what is in memory to the files; none where the backend isn't free in time.
async fn last_checkpoint(hub: &Arc<Hub>) -> Option<Result<(), TurnError>> {
    let grace = hub.settings.times.closing;
    let deadline = Instant::now() + grace + FREE;
    if timeout(grace, hub.clients.wait()).await.is_err() {
        hub.tell(News::End { reason: "terminating connection because the store closes" });
        if timeout(FAREWELL, hub.clients.wait()).await.is_err() {
            tracing::warn!("connections are left behind as the store closes");
        }
    }
    let turn = timeout_at(deadline, hub.own_turn(Priority::Own)).await.ok()?;
    let checkpoint = async {
        turn?.run("CHECKPOINT").await?;
        Ok::<_, TurnError>(())
    };
    timeout(END_MAX, checkpoint).await.ok()
}

fn percent_encode(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    }
}

/// Hears what the engine says until its end.
async fn look_after(
    hub: Arc<Hub>,
    pipe: Current,
    mut events: mpsc::Receiver<Event>,
    end: watch::Sender<Option<Error>>,
) {
    let error = loop {
        match events.recv().await {
            Some(Event::Failed(error)) => break error,
            Some(Event::Closed) | None => break Error::Closed,
            Some(event) => heed(&hub, &pipe, event).await,
        }
    };
    hub.closing.cancel();
    hub.turns.close();
    hub.tell(News::End { reason: "terminating connection because the embedded database is gone" });
    if end.send(Some(error)).is_err() {
        tracing::debug!("the store was dropped before its database ended");
    }
}

async fn heed(hub: &Arc<Hub>, current: &Current, event: Event) {
    match event {
        Event::Opened { pipe, greeting } => {
            *current.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&pipe));
            if hub.closing.is_cancelled() {
                pipe.end(); // who closed the store could not end what wasn't there yet
            }
            hub.set_full(false);
            let mut backend = Backend::new(pipe, &greeting);
            if backend.until_ready().await.is_ok() {
                hub.remember_greeting(Wanted::new(), backend.reported.clone());
                hub.turns.free(backend);
            }
        }
        Event::Crashed => {
            hub.tell(News::End {
                reason: "terminating connection because the embedded database crashed; try again",
            });
        }
        Event::NoSpace => hub.set_full(true),
        Event::Failed(_) | Event::Closed => {}
    }
}
