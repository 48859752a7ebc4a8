//! The ledger: adds up what the stages and the edges tell of the records that they dealt with, by workspace and minute of
//! arrival, in PostgreSQL. What the stages count is in [`tally`].
//!
//! How far it has read the ledger topic stands in the table `sink_offsets`, and of which offsets of the other topics it
//! has the counts in `ledger_positions`; both are written in the same transaction as the counts.

mod entries;
mod metrics;
mod store;
mod tally;
mod worker;

pub use metrics::LedgerMetrics;
pub use store::Error as StoreError;
pub use tally::{Span, Tally};

use crate::sink::{
    MemberError,
    drive::{self, Blocking},
    member::Member,
};
use entries::Sources;
use millrace_log::{LogSettings, NextOffset};
use millrace_schemas::ledger;
use sqlx::PgPool;
use std::time::Duration;
use store::Store;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use worker::Ledger;

/// The ledger's group.
const ROLE: &str = "ledger";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Member(#[from] MemberError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("reading the record {offset} of partition {partition}")]
    Newer {
        partition: i32,
        offset: i64,
        #[source]
        source: ledger::Error,
    },
    #[error(
        "partition {partition} of {topic} ends at offset {end}, but its entries are stored up to {stored}: if the topic was created anew, delete its rows from the table sink_offsets"
    )]
    Recreated { topic: String, partition: i32, stored: NextOffset, end: NextOffset },
    #[error("the ledger panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

pub struct LedgerComponents {
    pub log: LogSettings,
    pub pool: PgPool,
    pub metrics: LedgerMetrics,
    /// Minutes longer ago are deleted.
    pub retention: Duration,
    /// Names this processor among others on the same log.
    pub instance: String,
}

/// Runs until `shutdown`, then stores what it has read. An absent database or broker is waited for.
pub async fn run(components: LedgerComponents, shutdown: CancellationToken) -> Result<(), Error> {
    // Also when this future is dropped, the thread must end.
    let ending = shutdown.child_token();
    let _end = ending.clone().drop_guard();
    let handle = Handle::current();
    let thread = tokio::task::spawn_blocking(move || {
        let LedgerComponents { log, pool, metrics, retention, instance } = components;
        let topics = log.topics();
        let member = Member::join(&log, ROLE, &instance, &topics.ledger)?;
        let blocking = Blocking::new(handle, ending.clone());
        let store = Store::new(pool, &topics.ledger, retention);
        let sources = Sources { metrics: topics.metrics, partials: topics.partials };
        drive::drive(Ledger::new(store, sources, blocking, metrics), member, &ending)
    });
    thread.await.map_err(Error::Panicked)?
}
