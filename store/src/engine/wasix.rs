//! PostgreSQL 18 as WebAssembly, compiled ahead of time: `oliphaunt-wasix`, through its interface for socket adapters.
//!
//! The library streams only while a `COPY` runs, but a connection that began to stream goes on so to its end. So a
//! `COPY` of nothing is its first statement; after it the backend reads requests from our pipe and writes answers into it.

mod diagnosis;

use super::Event;
use crate::{
    Error,
    error::{Cause, chain},
    folder::Folder,
    hub::Pace,
    pipe::Pipe,
    wire::{put_query, put_text},
};
use bytes::{BufMut, BytesMut};
use oliphaunt_wasix::{
    DatabaseStorage, Extension,
    session::{
        CatalogProfile, PostgresConfig, PreparedDatabase, PreparedRuntime, ProtocolSession, ProtocolStream,
        StartupConfig, postgres_config_with_extension_startup, resolve_extension_set,
    },
};
use std::{
    io::{self, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub const SUPPORTED: bool = true;

/// The role and the database that exist in every new cluster.
const NAME: &str = "postgres";
/// Of the engine's own thread; WebAssembly runs on stacks of its own.
const STACK_BYTES: usize = 16 << 20;
const CRASHES_COUNTED_FOR: Duration = Duration::from_secs(3600);
/// Before the backend is opened again: doubled with each crash in a row.
const PAUSE: Duration = Duration::from_millis(50);
/// Before it is opened again on a full disk.
const SPACE_PAUSE: Duration = Duration::from_secs(2);
/// In a pause it is looked so often whether the store closes.
const LOOK: Duration = Duration::from_millis(50);
/// Settings that differ from PostgreSQL's own defaults, and why.
const SETTINGS: [(&str, &str); 3] = [
    // Half of the default: less memory at rest, and the kernel caches the files too.
    ("shared_buffers", "64MB"),
    // There is no compiler in here.
    ("jit", "off"),
    // Background processes don't exist: nothing would read it.
    ("log_min_messages", "fatal"),
];

/// Starts the thread; it says everything else by events, and holds the folder for as long as it runs. While the store
/// closes, what crashed isn't opened again.
pub fn start(
    folder: Folder,
    crashes_max: usize,
    events: mpsc::Sender<Event>,
    closing: CancellationToken,
) -> Result<(), Error> {
    let engine =
        Engine { folder, crashes_max, crashes: Vec::new(), events, closing, full_told: Pace::default() };
    thread::Builder::new()
        .name("millrace-store".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || engine.run())
        .map(drop)
        .map_err(|error| Error::Thread(error.into()))
}

struct Engine {
    folder: Folder,
    crashes_max: usize,
    crashes: Vec<Instant>,
    events: mpsc::Sender<Event>,
    closing: CancellationToken,
    full_told: Pace,
}

/// How a backend ended.
enum End {
    InOrder,
    Crash(String),
}

impl Engine {
    fn run(mut self) {
        let last = match self.serve() {
            Ok(()) => Event::Closed,
            Err(error) => Event::Failed(error),
        };
        let Self { folder, events, .. } = self;
        drop(folder); // unlocked before anybody hears of the end
        say(&events, last);
    }

    fn serve(&mut self) -> Result<(), Error> {
        self.folder.begin()?;
        let path = self.folder.database();
        let prepared =
            PreparedDatabase::prepare(DatabaseStorage::Directory(path), CatalogProfile::default(), NAME);
        let mut prepared = prepared.map_err(|error| self.failed(error.into()))?;
        let runtime = prepared.runtime().map_err(|error| self.failed(error.into()))?;
        let served = self.serve_runtime(&runtime);
        drop(runtime);
        let released = prepared.release().map_err(|error| self.failed(error.into()));
        served.and(released)
    }

    fn serve_runtime(&mut self, runtime: &PreparedRuntime) -> Result<(), Error> {
        let mut opened = false;
        loop {
            let reason = match self.serve_backend(runtime, &mut opened) {
                Ok(End::InOrder) => return Ok(()),
                Ok(End::Crash(reason)) => reason,
                Err(error) if !opened => return Err(error),
                Err(error) => chain(&error),
            };
            // A full disk can be the reason for any crash.
            match self.closing.is_cancelled() {
                true => tracing::debug!(reason, "the embedded database ended while the store closed"),
                false if self.folder.is_full() => self.await_space(&reason),
                false => self.crashed(reason)?,
            }
            if self.closing.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// A full disk is no reason to give up: somebody will make room.
    fn await_space(&self, reason: &str) {
        if self.full_told.is_due() {
            tracing::warn!(
                reason,
                "the disk of the embedded database is full: make room; it goes on by itself"
            );
        }
        say(&self.events, Event::NoSpace);
        self.pause(SPACE_PAUSE);
    }

    /// Sleeps, unless the store closes.
    fn pause(&self, length: Duration) {
        let end = Instant::now() + length;
        while !self.closing.is_cancelled() && Instant::now() < end {
            thread::sleep(LOOK.min(length));
        }
    }

    /// Opens a backend and serves it to its end.
    fn serve_backend(&mut self, runtime: &PreparedRuntime, opened: &mut bool) -> Result<End, Error> {
        let open = catch_unwind(AssertUnwindSafe(|| open(runtime)));
        let (mut session, greeting) = open
            .unwrap_or_else(|panic| Err(panic_text(panic.as_ref()).into()))
            .map_err(|cause| self.failed(cause))?;
        if !*opened {
            self.folder.begun()?;
        }
        *opened = true;
        let pipe = Arc::new(Pipe::default());
        say(&self.events, Event::Opened { pipe: Arc::clone(&pipe), greeting });
        let end = pump(&mut session, &pipe);
        pipe.died();
        // Frees its memory; it writes nothing, so that what a crash left in memory can't reach the files.
        if let Err(error) = session.shutdown() {
            tracing::warn!(%error, "the memory of an ended backend can't be freed");
        }
        Ok(end)
    }

    /// Enters a crash in the books and pauses, or gives up.
    fn crashed(&mut self, reason: String) -> Result<(), Error> {
        tracing::error!(reason, "the embedded database crashed; it is opened again");
        say(&self.events, Event::Crashed);
        let now = Instant::now();
        self.crashes.retain(|crash| now.duration_since(*crash) < CRASHES_COUNTED_FOR);
        self.crashes.push(now);
        let crashes = self.crashes.len();
        if crashes > self.crashes_max {
            return Err(Error::Crashes { crashes, last: reason });
        }
        let in_a_row = self.crashes.iter().filter(|crash| now.duration_since(**crash).as_secs() < 60).count();
        self.pause(PAUSE * 2_u32.pow(u32::try_from(in_a_row.min(6)).unwrap_or(6)));
        Ok(())
    }

    fn failed(&self, cause: Cause) -> Error {
        diagnosis::of(&self.folder, cause)
    }
}

fn open(runtime: &PreparedRuntime) -> Result<(ProtocolSession, Vec<u8>), Cause> {
    let extensions: Vec<Extension> = resolve_extension_set(&[oliphaunt_extension_vector::VECTOR])?;
    let mut config = PostgresConfig::default();
    for (name, value) in SETTINGS {
        config.insert(name, value);
    }
    let config = postgres_config_with_extension_startup(config, &extensions)?;
    let mut session = runtime.open_with_extensions(config, StartupConfig::default(), &extensions)?;
    let answer = session.startup_with_packet(&startup_packet())?;
    if !answer.accepted {
        return Err("the database refused its first message".into());
    }
    Ok((session, answer.output))
}

fn startup_packet() -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u32(3 << 16);
    for text in [
        "user",
        NAME,
        "database",
        NAME,
        "client_encoding",
        "UTF8",
        "DateStyle",
        "ISO, MDY",
        "TimeZone",
        "UTC",
        "",
    ] {
        put_text(&mut body, text.as_bytes());
    }
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &body[..]].concat()
}

/// Serves the pipe until the backend ends.
fn pump(session: &mut ProtocolSession, pipe: &Arc<Pipe>) -> End {
    let mut first = BytesMut::new();
    put_query(&mut first, "COPY (SELECT WHERE false) TO STDOUT");
    let pumped = catch_unwind(AssertUnwindSafe(|| {
        session.attach_protocol_stream(Stream(Arc::clone(pipe)))?;
        session.send_with_connection_protocol_pump(&first, Vec::new)
    }));
    match pumped {
        Ok(Ok(_)) if pipe.was_asked_to_end() => End::InOrder,
        Ok(Ok(_)) => End::Crash("it ended by itself".to_owned()),
        Ok(Err(error)) => End::Crash(format!("{error:#}")),
        Err(panic) => End::Crash(panic_text(panic.as_ref())),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("of an unknown kind"))
}

/// A full queue of events is waited for; without a listener there is nobody to tell.
fn say(events: &mpsc::Sender<Event>, event: Event) {
    if events.blocking_send(event).is_err() {
        tracing::debug!("nobody listens to the embedded database any more");
    }
}

/// The backend's end of the pipe.
struct Stream(Arc<Pipe>);

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ProtocolStream for Stream {
    fn read_ready(&mut self) -> io::Result<bool> {
        Ok(true)
    }
}
