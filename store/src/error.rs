//! What can fail when the store is started, runs or is closed. Each says what to do.

use std::{io, path::PathBuf, sync::Arc};

/// What the embedded database says.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;
/// The same in an error that may be told more than once.
type Source = Arc<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error(
        "this build for {platform} has no embedded store: give the URL of a PostgreSQL (--database-url) instead"
    )]
    Unsupported { platform: String },
    #[error("the folder {} is in use by {}: stop that one, or choose another folder", folder.display(), holder(*pid))]
    InUse {
        folder: PathBuf,
        /// Of the process that uses it, where it says so.
        pid: Option<u32>,
    },
    #[error("the folder {} can't be written: grant access to it, or choose another one", folder.display())]
    Unwritable {
        folder: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("the disk of the folder {} is full: make room and start again; nothing committed is lost", folder.display())]
    DiskFull {
        folder: PathBuf,
        #[source]
        source: Source,
    },
    #[error("the folder {} holds something else than a store of Millrace: choose an empty or missing one", folder.display())]
    Foreign { folder: PathBuf },
    #[error(
        "the folder {} holds a database of PostgreSQL {found}, but this is {expected}: use the Millrace that wrote it and move the data by pg_dump",
        folder.display()
    )]
    Version { folder: PathBuf, found: String, expected: &'static str },
    #[error("the embedded database unpacks its machine code into {}, which can't be written: set XDG_CACHE_HOME to a folder that can", folder.display())]
    Cache {
        folder: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("the folder for temporary files {} can't be written: set TMPDIR to a folder that can", folder.display())]
    Temporary {
        folder: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("the database in {} is damaged: restore a copy of the folder, or move it away to begin anew", folder.display())]
    Damaged {
        folder: PathBuf,
        #[source]
        source: Source,
    },
    #[error("the database in {} can't be opened", folder.display())]
    Open {
        folder: PathBuf,
        #[source]
        source: Source,
    },
    #[error("listening on the socket {}", path.display())]
    Socket {
        path: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("starting the thread of the embedded database")]
    Thread(#[source] Arc<io::Error>),
    #[error("the embedded database crashed {crashes} times within an hour; last: {last}")]
    Crashes { crashes: usize, last: String },
    #[error("the embedded database did not answer while it was being {doing}")]
    Hung { doing: &'static str },
    #[error("{doing}: {message}")]
    Refused { doing: &'static str, message: String },
    #[error("the store was closed")]
    Closed,
}

/// Who has the folder.
fn holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) if pid == std::process::id() => format!("process {pid}, which is this one"),
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
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
