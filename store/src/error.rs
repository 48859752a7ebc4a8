//! What can fail when the store is started, runs or is closed. Each says what to do.

use std::{io, path::PathBuf};

/// What the embedded database says.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "this build for {platform} has no embedded store: give the URL of a PostgreSQL (--database-url) instead"
    )]
    Unsupported { platform: String },
    #[error("the folder {} is in use by another process: stop that one, or choose another folder", folder.display())]
    InUse { folder: PathBuf },
    #[error("the folder {} can't be written: grant access to it, or choose another one", folder.display())]
    Unwritable {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the disk of the folder {} is full: make room and start again; nothing committed is lost", folder.display())]
    DiskFull {
        folder: PathBuf,
        #[source]
        source: Cause,
    },
    #[error("the folder {} holds something else than a store of Millrace: choose an empty or missing one", folder.display())]
    Foreign { folder: PathBuf },
    #[error(
        "the folder {} holds a database of PostgreSQL {found}, but this is {expected}: use the Millrace that wrote it and move the data by pg_dump",
        folder.display()
    )]
    Version { folder: PathBuf, found: String, expected: &'static str },
    #[error("the database in {} is damaged or can't be opened: restore a copy of the folder, or move it away to begin anew", folder.display())]
    Open {
        folder: PathBuf,
        #[source]
        source: Cause,
    },
    #[error("listening on the socket {}", path.display())]
    Socket {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("starting the thread of the embedded database")]
    Thread(#[source] io::Error),
    #[error("the embedded database crashed {crashes} times within an hour; last: {last}")]
    Crashes { crashes: usize, last: String },
    #[error("the embedded database did not answer while it was being {doing}")]
    Hung { doing: &'static str },
    #[error("{doing}: {message}")]
    Refused { doing: &'static str, message: String },
    #[error("the store was closed")]
    Closed,
}

/// An error with all its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Whether a full disk is at the bottom of it.
pub fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let full =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    error.downcast_ref::<io::Error>().is_some_and(full)
        || error.to_string().contains("No space left on device")
        || error.source().is_some_and(is_disk_full)
}
