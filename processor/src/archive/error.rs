//! What can fail in the archive, and what is done about it.

use super::{location, manifest, shelf::whole::Lacks};
use crate::{sink::MemberError, stage::StageError};
use millrace_log::{NextOffset, PublishError};
use parquet::errors::ParquetError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Location(#[from] location::Error),
    #[error(transparent)]
    Member(#[from] MemberError),
    #[error("{doing} {path} in the archive")]
    Store {
        doing: &'static str,
        path: String,
        #[source]
        source: Box<object_store::Error>,
    },
    #[error("writing the archive's files through to the disk")]
    Sync(#[source] std::io::Error),
    #[error("encoding the archive's file {path}")]
    Encode {
        path: String,
        #[source]
        source: ParquetError,
    },
    #[error("reading the archive's file {path}")]
    Decode {
        path: String,
        #[source]
        source: ParquetError,
    },
    #[error("a manifest of the archive names {0}, which is not there")]
    Missing(String),
    #[error(
        "the archive lacks {0}: bring it back from a backup, or do without the archive while the log has all"
    )]
    Incomplete(Lacks),
    #[error("reading {path} in the archive")]
    Manifest {
        path: String,
        #[source]
        source: manifest::Error,
    },
    #[error("the archive has another manifest at {0}: another processor has gone on")]
    Moved(String),
    #[error("asking which workspaces exist")]
    Directory(#[source] millrace_tenancy::Error),
    #[error("asking which records are dead letters")]
    DeadLetters(#[source] Box<StageError>),
    #[error("telling the ledger what is archived")]
    Ledger(#[source] PublishError),
    #[error("{0} took too long")]
    TimedOut(&'static str),
    #[error(
        "partition {partition} of {topic} ends at offset {end}, but it is archived up to {archived}: if the topic was created anew, use another archive URL or topic prefix"
    )]
    Recreated { topic: String, partition: i32, archived: NextOffset, end: NextOffset },
    #[error("the archive panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The store, the database or the broker is away, or refuses for now: nothing is lost by trying again.
    Retry,
    /// Somebody else has archived this stretch.
    Restart,
    /// A person must act.
    Stop,
}

impl Error {
    pub fn reaction(&self) -> Reaction {
        match self {
            Self::Store { source, .. } => reaction_to_store(source),
            Self::Member(_) | Self::Sync(_) | Self::DeadLetters(_) | Self::Ledger(_) | Self::TimedOut(_) => {
                Reaction::Retry
            }
            Self::Directory(error) if error.is_transient() => Reaction::Retry,
            Self::Moved(_) => Reaction::Restart,
            Self::Location(_)
            | Self::Encode { .. }
            | Self::Decode { .. }
            | Self::Missing(_)
            | Self::Incomplete(_)
            | Self::Manifest { .. }
            | Self::Directory(_)
            | Self::Recreated { .. }
            | Self::Panicked(_) => Reaction::Stop,
        }
    }
}

/// A refusal may be a key that is being changed, or a bucket that is not there yet: it is waited out like an outage.
fn reaction_to_store(error: &object_store::Error) -> Reaction {
    use object_store::Error::{
        InvalidPath, JoinError, NotImplemented, NotSupported, UnknownConfigurationKey,
    };
    match error {
        InvalidPath { .. }
        | NotSupported { .. }
        | NotImplemented { .. }
        | UnknownConfigurationKey { .. }
        | JoinError { .. } => Reaction::Stop,
        _ => Reaction::Retry,
    }
}
