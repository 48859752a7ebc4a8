//! The embedded store: a real PostgreSQL 18 with pgvector in this process, for trying Millrace out and for small sites.
//!
//! [`Store::start`] opens it in a folder and listens on a Unix socket; sqlx and psql connect to [`Store::url`]. Its
//! limits, for those who write SQL for it:
//!
//! - There is **one** backend: connections take turns, each for the length of a transaction. Never hold a transaction
//!   while waiting for another connection. A transaction that idles is ended ([`Times::idle_in_transaction`]).
//! - A running statement can't be stopped: `statement_timeout` and cancellations have no effect; clients limit their own
//!   waiting. Only an answer that nobody reads is cut off, if need be by restarting the backend. [`Store::close`] leaves
//!   such a statement behind; it ends with the process.
//! - All share one session. Start-up settings, and those that the backend reports (`TimeZone`, `search_path`, …), are
//!   kept per client; other settings last until another client's turn. Temporary tables, SQL's `PREPARE` and cursors
//!   `WITH HOLD` are everybody's. An advisory lock of the session keeps the backend until it is given back.
//! - Everybody is the owner: the socket's folder, mode 0700, is the only guard. There is no TCP.
//! - No TimescaleDB, no replication, no autovacuum (the store cleans by itself), no parallel queries.
//! - `oliphaunt-wasix` unpacks its machine code into `$XDG_CACHE_HOME` or `~/.cache`, in `oliphaunt-wasix/` (48 MB), and
//!   scratch files into the folder for temporary files.

#![cfg_attr(
    not(feature = "postgres"),
    expect(dead_code, reason = "there is nothing to open and nothing to relay to")
)]

mod backend;
mod engine;
mod error;
mod exchange;
mod folder;
mod hub;
mod maintenance;
mod pipe;
mod relay;
mod schedule;
mod session;
mod settings;
mod store;
mod turn;
mod wire;

pub use error::Error;
pub use settings::{Limits, Settings, Times};
pub use store::Store;
