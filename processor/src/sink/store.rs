//! Stores batches: rows, unknown services and offsets in one transaction.

pub(crate) mod pages;
pub(crate) mod rows;
mod services;

use super::{
    batch::{Batch, Identity, Plan, merged},
    offsets::Offsets,
    reaction::{Reaction, reaction},
};
use crate::sketch::SketchError;
use millrace_log::NextOffset;
use millrace_schemas::{AggregateRow, ServiceId, Window, WorkspaceId};
use rows::Tables;
use sqlx::{Connection as _, PgConnection, PgPool};
use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

/// This sink's name in the table of offsets.
pub(crate) const SINK: &str = "aggregates";
/// How long one transaction may take.
const STORE_LIMIT: Duration = Duration::from_secs(30);
/// The most services remembered as registered; past it they are registered again.
const SERVICES_MAX: usize = 100_000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing}")]
    Database {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("storing a batch: the database did not answer in time")]
    TimedOut,
    #[error("the offsets of {0} are not where this sink left them: another one has gone on")]
    Moved(String),
    #[error("the sketch that is stored for {identity:?} can't be merged")]
    StoredSketch {
        identity: Identity,
        #[source]
        source: SketchError,
    },
    #[error("a sketch that was valid when it was read")]
    Sketch(#[source] SketchError),
}

impl Error {
    pub fn reaction(&self) -> Reaction {
        match self {
            Self::Database { source, .. } => reaction(source),
            Self::TimedOut | Self::Moved(_) => Reaction::Retry,
            Self::StoredSketch { .. } => Reaction::Stop,
            Self::Sketch(_) => Reaction::Refuse,
        }
    }
}

fn while_doing(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Database { doing, source }
}

/// What a batch came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Rows inserted or replaced.
    pub rows: u64,
    /// Rows among them that deltas were merged into.
    pub merged: u64,
}

pub struct Store {
    pool: PgPool,
    offsets: Offsets,
    /// Services that are certainly in their table.
    services: HashSet<(WorkspaceId, ServiceId)>,
}

impl Store {
    pub fn new(pool: PgPool, topic: &str) -> Self {
        Self { pool, offsets: Offsets { sink: SINK, topic: topic.to_owned() }, services: HashSet::new() }
    }

    /// Where the partitions stand; those never stored stand at 0.
    pub async fn positions(&self, partitions: &[i32]) -> Result<BTreeMap<i32, NextOffset>, Error> {
        let positions = self.offsets.positions(&self.pool, partitions).await;
        positions.map_err(while_doing("reading the sink's offsets"))
    }

    /// Stores all of `batch`, or nothing.
    pub async fn store(&mut self, batch: &Batch) -> Result<Stored, Error> {
        let mut connection =
            self.pool.acquire().await.map_err(while_doing("connecting to store aggregates"))?;
        let new_services = self.unknown_services(batch);
        let transaction = self.transact(&mut connection, batch, &new_services);
        let Ok(result) = tokio::time::timeout(STORE_LIMIT, transaction).await else {
            // It may hang for ever: not for others to have.
            connection.close_on_drop();
            return Err(Error::TimedOut);
        };
        let stored = result?;
        self.remember(new_services);
        Ok(stored)
    }

    async fn transact(
        &self,
        connection: &mut PgConnection,
        batch: &Batch,
        new_services: &[(WorkspaceId, ServiceId)],
    ) -> Result<Stored, Error> {
        let mut transaction = connection.begin().await.map_err(while_doing("beginning a transaction"))?;
        let locked = self.offsets.lock(&mut transaction, &batch.from).await;
        if !locked.map_err(while_doing("locking the sink's offsets"))? {
            return Err(Error::Moved(self.offsets.topic.clone()));
        }
        let stored = store_rows(&mut transaction, &Tables::Live, &Plan::of(batch)).await?;
        services::register(&mut transaction, new_services)
            .await
            .map_err(while_doing("registering services"))?;
        let written = self.offsets.write(&mut transaction, &batch.to()).await;
        written.map_err(while_doing("storing the sink's offsets"))?;
        transaction.commit().await.map_err(while_doing("committing aggregates"))?;
        Ok(stored)
    }

    fn unknown_services(&self, batch: &Batch) -> Vec<(WorkspaceId, ServiceId)> {
        let services: HashSet<_> = batch.rows().map(|row| (row.workspace_id, row.service_id)).collect();
        let mut unknown: Vec<_> = services.difference(&self.services).copied().collect();
        unknown.sort_unstable();
        unknown
    }

    fn remember(&mut self, services: Vec<(WorkspaceId, ServiceId)>) {
        if self.services.len() + services.len() > SERVICES_MAX {
            self.services.clear();
        }
        self.services.extend(services);
    }
}

/// How far the partitions of `topic` are stored, of which anything is.
pub(crate) async fn positions_of(pool: &PgPool, topic: &str) -> Result<BTreeMap<i32, i64>, Error> {
    let rows: Vec<(i32, i64)> =
        sqlx::query_as("SELECT partition, next_offset FROM sink_offsets WHERE sink = $1 AND topic = $2")
            .bind(SINK)
            .bind(topic)
            .fetch_all(pool)
            .await
            .map_err(while_doing("reading the sink's offsets"))?;
    Ok(rows.into_iter().collect())
}

/// Stores `rows` in tables of a rebuild as a sink stores them, in one transaction.
pub(crate) async fn store_copies(pool: &PgPool, tables: &Tables, rows: &[AggregateRow]) -> Result<(), Error> {
    let mut transaction = pool.begin().await.map_err(while_doing("beginning a transaction"))?;
    store_rows(&mut transaction, tables, &Plan::of_rows(rows)).await?;
    transaction.commit().await.map_err(while_doing("committing aggregates"))
}

async fn store_rows(
    connection: &mut PgConnection,
    tables: &Tables,
    plan: &Plan<'_>,
) -> Result<Stored, Error> {
    let merged = merge_rows(connection, tables, plan).await?;
    let mut stored = Stored { rows: 0, merged: u64::try_from(merged.len()).unwrap_or(u64::MAX) };
    for window in Window::ALL {
        let of_window = |row: &&AggregateRow| row.window == window;
        let rows: Vec<&AggregateRow> = plan.rows.values().copied().chain(&merged).filter(of_window).collect();
        if !rows.is_empty() {
            let upserted = rows::upsert(connection, tables, window, &rows).await;
            stored.rows += upserted.map_err(while_doing("storing aggregate rows"))?;
        }
    }
    Ok(stored)
}

/// The rows that the deltas make of the stored ones.
async fn merge_rows(
    connection: &mut PgConnection,
    tables: &Tables,
    plan: &Plan<'_>,
) -> Result<Vec<AggregateRow>, Error> {
    let mut results = Vec::with_capacity(plan.merges.len());
    for window in Window::ALL {
        let identities: Vec<Identity> =
            plan.merges.keys().filter(|id| id.window == window).copied().collect();
        if identities.is_empty() {
            continue;
        }
        let found = rows::lock(connection, tables, window, &identities).await;
        let mut stored = found.map_err(while_doing("reading the rows that late records belong to"))?;
        for identity in identities {
            let stored = stored.remove(&identity);
            results.extend(merge_row(identity, stored, &plan.merges[&identity])?);
        }
    }
    Ok(results)
}

fn merge_row(
    identity: Identity,
    stored: Option<AggregateRow>,
    changes: &[&AggregateRow],
) -> Result<Option<AggregateRow>, Error> {
    if let Some(row) = &stored {
        crate::aggregate::decode_sketch(&row.sketch)
            .map_err(|source| Error::StoredSketch { identity, source })?;
    }
    merged(stored, changes).map_err(Error::Sketch)
}
