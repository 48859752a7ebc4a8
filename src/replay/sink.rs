//! Where records go: an edge, a log, or standard output. Each bounds what is on its way.

mod edge;
mod log;
mod stdout;

use crate::replay::edge::EdgeError;
use millrace_schemas::QueryMetric;
use rdkafka::error::KafkaError;
use std::io;

pub use edge::EdgeSink;
pub use log::LogSink;
pub use stdout::StdoutSink;

#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("sending records to the edge")]
    Edge(#[from] EdgeError),
    #[error("sending records to the topic {topic}")]
    Log { topic: String, source: KafkaError },
    #[error("the topic {topic} can't be written: `millrace up` creates the topics")]
    Topic { topic: String, source: Box<millrace_log::TopicsError> },
    #[error("the settings of the log")]
    LogSettings(#[source] millrace_log::SettingsError),
    #[error("encoding a record")]
    Encode(#[source] serde_json::Error),
    #[error("writing to standard output")]
    Stdout(#[source] io::Error),
    #[error("a task of the replay died")]
    Task(#[from] tokio::task::JoinError),
}

/// What became of the records sent so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub accepted: u64,
    pub rejected: u64,
    /// Why the first was rejected, if that was told.
    pub first_rejection: Option<String>,
}

pub enum Sink {
    Edge(EdgeSink),
    Log(LogSink),
    Stdout(StdoutSink),
}

impl Sink {
    /// Takes a batch; waits while too much is on its way. An error may be that of an earlier batch.
    pub async fn send(&mut self, batch: Vec<QueryMetric>) -> Result<(), SinkError> {
        match self {
            Self::Edge(sink) => sink.send(batch).await,
            Self::Log(sink) => sink.send(&batch).await,
            Self::Stdout(sink) => sink.send(&batch).await,
        }
    }

    /// Waits until all that was sent is acknowledged.
    pub async fn finish(&mut self) -> Result<(), SinkError> {
        match self {
            Self::Edge(sink) => sink.finish().await,
            Self::Log(sink) => sink.finish().await,
            Self::Stdout(_) => Ok(()),
        }
    }

    pub fn counts(&self) -> Counts {
        match self {
            Self::Edge(sink) => sink.counts(),
            Self::Log(sink) => sink.counts(),
            Self::Stdout(sink) => sink.counts(),
        }
    }
}
