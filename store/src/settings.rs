//! Settings of the store. They are values: nothing here reads the environment.

use std::{path::PathBuf, time::Duration};

/// Where the database is, and what it grants.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder that the store owns; created where it is missing.
    pub folder: PathBuf,
    pub limits: Limits,
    pub times: Times,
    /// The time between two rounds of `VACUUM (ANALYZE)` and `CHECKPOINT`.
    pub maintenance_interval: Duration,
}

impl Settings {
    /// The defaults, for a folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            limits: Limits::default(),
            times: Times::default(),
            maintenance_interval: Duration::from_secs(600),
        }
    }
}

/// Each with its answer.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time; one more gets FATAL 53300.
    pub connections: usize,
    /// Connections that wait for the backend; one more gets FATAL 53300.
    pub waiting: usize,
    /// Bytes in one message of a client; a longer one gets FATAL 08P01.
    pub message_bytes: usize,
    /// Prepared statements of one connection; one more gets FATAL 53400.
    pub statements: usize,
    /// Bytes of an answer that wait for a slow client while the backend goes on; then the backend waits for the client,
    /// for [`Times::reading`] at most.
    pub answer_bytes: usize,
    /// Megabytes of write-ahead log after which a `CHECKPOINT` runs out of turn, so that the log can't fill the disk.
    pub log_megabytes: u64,
    /// Crashes of the backend in one hour after which the store gives up: [`crate::Store::ended`] resolves.
    /// On a full disk it doesn't: it waits for room, and everybody gets FATAL 53100 meanwhile.
    pub crashes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 100,
            waiting: 100,
            message_bytes: 64 << 20,
            statements: 2000,
            answer_bytes: 8 << 20,
            log_megabytes: 512,
            crashes: 10,
        }
    }
}

/// How long anything may take.
#[derive(Debug, Clone)]
pub struct Times {
    /// From the connection to the end of its first message; then it is closed.
    pub greeting: Duration,
    /// The wait for the backend while others have it; then FATAL 57014.
    pub waiting: Duration,
    /// A transaction in which the client says nothing; then FATAL 25P03 and a rollback. It is short because such a
    /// transaction stops everybody: one who waits for a second connection within a transaction, or one that sqlx forgot
    /// because the future of its `begin` was dropped.
    pub idle_in_transaction: Duration,
    /// All the time together for which one transaction may hold the backend up because its client doesn't read; then
    /// FATAL 57014, and the rest of the answer is dropped.
    pub reading: Duration,
    /// For how long the rest of an answer that nobody wants is read, before the backend is restarted to end it.
    pub discarding: Duration,
    /// What [`crate::Store::close`] grants to the running transaction; one that goes on a second longer is left behind.
    pub closing: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            greeting: Duration::from_secs(10),
            waiting: Duration::from_secs(60),
            idle_in_transaction: Duration::from_secs(5),
            reading: Duration::from_secs(30),
            discarding: Duration::from_secs(10),
            closing: Duration::from_secs(5),
        }
    }
}
