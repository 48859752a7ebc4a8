//! The sink: rows of the `aggregates` topic into the window tables of PostgreSQL.
//!
//! How far it is stands in the table `sink_offsets`, written in the same transaction as the rows: every row is stored
//! exactly once, whatever dies. Consumer groups only share out the partitions; their offsets are told but never read.

pub(crate) mod batch;
pub(crate) mod drive;
pub(crate) mod member;
mod metrics;
pub(crate) mod offsets;
pub(crate) mod outage;
pub(crate) mod reaction;
pub(crate) mod read;
pub(crate) mod store;
mod worker;

pub use batch::Identity;
pub use member::Error as MemberError;
pub use metrics::SinkMetrics;
pub use read::Error as ReadError;
pub use store::Error as StoreError;

use drive::Blocking;
use member::Member;
use millrace_log::{LogSettings, NextOffset};
use sqlx::PgPool;
use store::Store;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use worker::Sink;

/// The sink's group.
const ROLE: &str = "sink";

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
        source: ReadError,
    },
    #[error(
        "partition {partition} of {topic} ends at offset {end}, but its aggregates are stored up to {stored}: if the topic was created anew, delete its rows from the table sink_offsets"
    )]
    Recreated { topic: String, partition: i32, stored: NextOffset, end: NextOffset },
    #[error("the sink panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

pub struct SinkComponents {
    pub log: LogSettings,
    pub pool: PgPool,
    pub metrics: SinkMetrics,
    /// Names this processor among others on the same log.
    pub instance: String,
}

/// Runs until `shutdown`, then stores what it has read. An absent database or broker is waited for.
pub async fn run(components: SinkComponents, shutdown: CancellationToken) -> Result<(), Error> {
    // Also when this future is dropped, the thread must end.
    let ending = shutdown.child_token();
    let _end = ending.clone().drop_guard();
    let handle = Handle::current();
    let thread = tokio::task::spawn_blocking(move || {
        let SinkComponents { log, pool, metrics, instance } = components;
        let topic = log.topics().aggregates;
        let member = Member::join(&log, ROLE, &instance, &topic)?;
        let blocking = Blocking::new(handle, ending.clone());
        drive::drive(Sink::new(Store::new(pool, &topic), blocking, metrics), member, &ending)
    });
    thread.await.map_err(Error::Panicked)?
}
