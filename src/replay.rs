//! `millrace replay`: sends what a log of the past says as if it happened now. A client like any other; no role.

mod csvlog;
pub mod edge;
mod entries;
mod entry;
mod input;
mod jsonlog;
mod lines;
mod names;
mod pace;
mod parsed;
mod progress;
mod reading;
mod sending;
mod settings;
mod sink;
mod summary;
mod timestamp;

pub use settings::Settings;

use edge::{Edge, EdgeError};
use input::{BytesRead, InputError};
use millrace_log::LogSettings;
use millrace_tenancy::{Directory, StoreSettings};
use names::{Names, NamesError, Source};
use settings::Target;
use sink::{EdgeSink, LogSink, Sink, SinkError, StdoutSink};
use std::io::{self, Write};
use summary::Summary;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Names are looked up one after the other.
const DATABASE_CONNECTIONS: u32 = 2;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("an edge wants an administrator's key: give --api-key or MILLRACE_API_KEY")]
    KeyMissing,
    #[error("a log needs the names' ids: give --database-url or DATABASE_URL")]
    DatabaseMissing,
    #[error("opening the database")]
    Database(#[source] millrace_tenancy::Error),
    #[error(transparent)]
    Edge(#[from] EdgeError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Names(#[from] NamesError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("not all records were acknowledged within {0} s of the interruption")]
    Unacknowledged(u64),
    #[error("writing the summary")]
    Summary(#[source] io::Error),
}

/// How a replay ended that did what it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    /// Nothing could be sent, or `--strict` found something wrong.
    Failed,
    Interrupted,
}

/// Replays the files; whatever happens after the start, the summary is printed.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<Ending, Error> {
    let bytes_total = input::total_bytes(&settings.files)?;
    let (names, sink) = connect(&settings, &shutdown).await?;
    let bytes_read = BytesRead::default();
    let mut sender = sending::Sender {
        names: Names::new(names),
        sink,
        pacer: pace::Pacer::new(settings.speed),
        batch: sending::Batch::new(settings.batch_records.into()),
        tally: summary::Tally::default(),
        progress: progress::Progress::start(bytes_read.clone(), bytes_total),
        shutdown,
    };
    let (chunk_sender, mut chunks) = mpsc::channel(reading::CHUNKS_WAITING);
    let files = settings.files;
    // Not awaited: it ends by itself when nobody listens, and may be blocked in reading a terminal.
    let _reader = tokio::task::spawn_blocking(move || reading::read(&files, &bytes_read, &chunk_sender));
    let result = sender.run(&mut chunks).await;
    drop(chunks);
    let summary = summarize(sender, &settings.to);
    print(&summary, &settings.to).map_err(Error::Summary)?;
    match result {
        Err(error) if !is_interruption(&error) => Err(error),
        _ if summary.interrupted => Ok(Ending::Interrupted),
        _ if summary.failed(settings.strict) => Ok(Ending::Failed),
        _ => Ok(Ending::Done),
    }
}

async fn connect(settings: &Settings, shutdown: &CancellationToken) -> Result<(Source, Sink), Error> {
    match &settings.to {
        Target::Edge(url) => {
            let key = settings.api_key.as_deref().ok_or(Error::KeyMissing)?;
            let edge = Edge::new(url, key, shutdown)?;
            let sink = EdgeSink::new(edge.clone(), settings.requests.into());
            Ok((Source::Edge(edge), Sink::Edge(sink)))
        }
        Target::Log { brokers, topic } => {
            let names = database(settings).await?.ok_or(Error::DatabaseMissing)?;
            let log = log_settings(settings, brokers);
            let topic = topic.clone().unwrap_or_else(|| log.topics().metrics);
            Ok((names, Sink::Log(LogSink::new(&log, topic).await?)))
        }
        Target::Stdout => {
            let names = database(settings).await?.unwrap_or(Source::Made);
            Ok((names, Sink::Stdout(StdoutSink::default())))
        }
    }
}

async fn database(settings: &Settings) -> Result<Option<Source>, Error> {
    let Some(database_url) = settings.database_url.clone() else { return Ok(None) };
    let store = StoreSettings { database_url, database_connections: DATABASE_CONNECTIONS };
    let pool = store.connect().await.map_err(Error::Database)?;
    Ok(Some(Source::Database(Directory::new(pool))))
}

/// Nothing is created, so partitions and replicas don't matter.
fn log_settings(settings: &Settings, brokers: &str) -> LogSettings {
    LogSettings {
        brokers: brokers.to_owned(),
        topic_prefix: settings.topic_prefix.clone(),
        topic_partitions: 1,
        topic_replication: -1,
        properties: settings.kafka_properties.clone(),
    }
}

fn summarize(sender: sending::Sender, target: &Target) -> Summary {
    sender.progress.finish();
    Summary {
        counts: sender.sink.counts(),
        elapsed: sender.progress.elapsed(),
        interrupted: sender.shutdown.is_cancelled(),
        tally: sender.tally,
        target: target.to_string(),
    }
}

/// On standard output, unless the records went there.
fn print(summary: &Summary, target: &Target) -> io::Result<()> {
    match target {
        Target::Stdout => writeln!(io::stderr(), "{summary}"),
        _ => writeln!(io::stdout(), "{summary}"),
    }
}

fn is_interruption(error: &Error) -> bool {
    matches!(
        error,
        Error::Sink(SinkError::Edge(EdgeError::Interrupted(_)))
            | Error::Names(
                NamesError::WorkspaceAtEdge { source: EdgeError::Interrupted(_), .. }
                    | NamesError::ServiceAtEdge { source: EdgeError::Interrupted(_), .. }
            )
    )
}
