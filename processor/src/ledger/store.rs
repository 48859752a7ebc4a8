//! Stores entries: counts, positions and offsets in one transaction.

use super::entries::{Plan, Position, Reader};
use crate::sink::{
    offsets::Offsets,
    reaction::{Reaction, reaction},
};
use chrono::{DateTime, Utc};
use millrace_log::NextOffset;
use millrace_schemas::{
    EventTime,
    ledger::{Counts, Entry},
};
use sqlx::{Connection as _, PgConnection, PgPool};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use uuid::Uuid;

/// The ledger's name in the table of offsets.
const SINK: &str = "ledger";
/// How long one transaction may take.
const STORE_LIMIT: Duration = Duration::from_secs(30);

const LOCK_POSITIONS: &str = "SELECT p.stage, p.topic, p.partition, p.next_offset, p.arrived, p.since
     FROM ledger_positions AS p
     JOIN unnest($1::text[], $2::text[], $3::int[]) AS t (stage, topic, partition) USING (stage, topic, partition)
     ORDER BY p.stage, p.topic, p.partition FOR UPDATE OF p";
const WRITE_POSITIONS: &str = "INSERT INTO ledger_positions (stage, topic, partition, next_offset, arrived, since)
     SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::timestamptz[], $6::timestamptz[])
     ON CONFLICT (stage, topic, partition) DO UPDATE SET
         (next_offset, arrived, since) = (excluded.next_offset, excluded.arrived, excluded.since)";
const ADD_MINUTES: &str = "INSERT INTO ledger_minutes AS t (workspace_id, minute, from_edge, read, counted, running,
         duplicate, invalid, unknown_workspace, future, late, backfilled, archived)
     SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
         $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[])
     ON CONFLICT (workspace_id, minute) DO UPDATE SET
         from_edge = t.from_edge + excluded.from_edge, read = t.read + excluded.read,
         counted = t.counted + excluded.counted, running = t.running + excluded.running,
         duplicate = t.duplicate + excluded.duplicate, invalid = t.invalid + excluded.invalid,
         unknown_workspace = t.unknown_workspace + excluded.unknown_workspace, future = t.future + excluded.future,
         late = t.late + excluded.late, backfilled = t.backfilled + excluded.backfilled,
         archived = t.archived + excluded.archived";
const RAISE_ACCEPTED: &str = "INSERT INTO ledger_edges AS t (workspace_id, minute, instance, accepted)
     SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::bigint[])
     ON CONFLICT (workspace_id, minute, instance) DO UPDATE SET accepted = greatest(t.accepted, excluded.accepted)";
/// So many at a time: a sweep is short, and comes often.
const FORGET_MINUTES: &str = "DELETE FROM ledger_minutes WHERE (workspace_id, minute) IN
     (SELECT workspace_id, minute FROM ledger_minutes WHERE minute < $1 ORDER BY minute LIMIT 10000)";
const FORGET_ACCEPTED: &str = "DELETE FROM ledger_edges WHERE (workspace_id, minute, instance) IN
     (SELECT workspace_id, minute, instance FROM ledger_edges WHERE minute < $1 ORDER BY minute LIMIT 10000)";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing}")]
    Database {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("storing ledger entries: the database did not answer in time")]
    TimedOut,
    #[error("the offsets of {0} are not where this ledger left them: another one has gone on")]
    Moved(String),
}

impl Error {
    /// Entries are checked when they are read: the database takes them, or something is wrong with it.
    pub fn reaction(&self) -> Reaction {
        match self {
            Self::Database { source, .. } => reaction(source),
            Self::TimedOut | Self::Moved(_) => Reaction::Retry,
        }
    }
}

fn while_doing(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Database { doing, source }
}

pub struct Store {
    pool: PgPool,
    offsets: Offsets,
    retention: Duration,
}

/// Entries in the order of their offsets within each partition, and between which offsets they lie.
#[derive(Debug, Default)]
pub struct Batch {
    pub from: BTreeMap<i32, NextOffset>,
    pub to: BTreeMap<i32, NextOffset>,
    pub entries: Vec<Entry>,
}

impl Store {
    pub fn new(pool: PgPool, topic: &str, retention: Duration) -> Self {
        Self { pool, offsets: Offsets { sink: SINK, topic: topic.to_owned() }, retention }
    }

    /// Where the partitions stand; those never stored stand at 0.
    pub async fn positions(&self, partitions: &[i32]) -> Result<BTreeMap<i32, NextOffset>, Error> {
        let positions = self.offsets.positions(&self.pool, partitions).await;
        positions.map_err(while_doing("reading the ledger's offsets"))
    }

    /// Stores all of `batch`, or nothing.
    pub async fn store(&self, batch: &Batch) -> Result<Plan, Error> {
        let mut connection = self.pool.acquire().await.map_err(while_doing("connecting for the ledger"))?;
        let transaction = self.transact(&mut connection, batch);
        let Ok(result) = tokio::time::timeout(STORE_LIMIT, transaction).await else {
            // It may hang for ever: not for others to have.
            connection.close_on_drop();
            return Err(Error::TimedOut);
        };
        result
    }

    async fn transact(&self, connection: &mut PgConnection, batch: &Batch) -> Result<Plan, Error> {
        let doing = "storing ledger entries";
        let mut transaction = connection.begin().await.map_err(while_doing(doing))?;
        if !self.offsets.lock(&mut transaction, &batch.from).await.map_err(while_doing(doing))? {
            return Err(Error::Moved(self.offsets.topic.clone()));
        }
        let stored = lock_positions(&mut transaction, &batch.entries).await.map_err(while_doing(doing))?;
        let plan = Plan::of(&batch.entries, stored, Utc::now().into());
        write(&mut transaction, &plan).await.map_err(while_doing(doing))?;
        self.offsets.write(&mut transaction, &batch.to).await.map_err(while_doing(doing))?;
        transaction.commit().await.map_err(while_doing("committing ledger entries"))?;
        Ok(plan)
    }

    /// Deletes some of what is older than the retention; how many rows.
    pub async fn forget(&self) -> Result<u64, Error> {
        let doing = "deleting old minutes of the ledger";
        let before = DateTime::<Utc>::from(EventTime::from(Utc::now()).saturating_sub(self.retention));
        let mut deleted = 0;
        for statement in [FORGET_MINUTES, FORGET_ACCEPTED] {
            let result = sqlx::query(statement).bind(before).execute(&self.pool).await;
            deleted += result.map_err(while_doing(doing))?.rows_affected();
        }
        Ok(deleted)
    }
}

async fn lock_positions(
    connection: &mut PgConnection,
    entries: &[Entry],
) -> Result<BTreeMap<Reader, Position>, sqlx::Error> {
    type Found = (String, String, i32, i64, Option<DateTime<Utc>>, Option<DateTime<Utc>>);
    let readers: BTreeSet<Reader> = entries.iter().filter_map(Reader::of).collect();
    if readers.is_empty() {
        return Ok(BTreeMap::new());
    }
    let found: Vec<Found> = sqlx::query_as(LOCK_POSITIONS)
        .bind(readers.iter().map(|reader| reader.stage.as_str()).collect::<Vec<_>>())
        .bind(readers.iter().map(|reader| reader.topic.as_str()).collect::<Vec<_>>())
        .bind(readers.iter().map(|reader| reader.partition).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    let position = |(stage, topic, partition, next, arrived, since): Found| {
        let next = NextOffset::exclusive(next);
        let position =
            Position { next, arrived: arrived.map(EventTime::from), since: since.map(EventTime::from) };
        (Reader { stage, topic, partition }, position)
    };
    Ok(found.into_iter().map(position).collect())
}

async fn write(connection: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    if !plan.minutes.is_empty() {
        add_minutes(connection, &plan.minutes.iter().collect::<Vec<_>>()).await?;
    }
    if !plan.accepted.is_empty() {
        let keys = plan.accepted.keys();
        sqlx::query(RAISE_ACCEPTED)
            .bind(keys.clone().map(|(workspace, ..)| *workspace).collect::<Vec<_>>())
            .bind(keys.clone().map(|(_, minute, _)| minute.start().into()).collect::<Vec<DateTime<Utc>>>())
            .bind(keys.map(|(.., instance)| *instance).collect::<Vec<_>>())
            .bind(plan.accepted.values().copied().collect::<Vec<_>>())
            .execute(&mut *connection)
            .await?;
    }
    if !plan.positions.is_empty() {
        let (readers, positions) = (plan.positions.keys(), plan.positions.values());
        let time = |time: Option<EventTime>| time.map(DateTime::<Utc>::from);
        sqlx::query(WRITE_POSITIONS)
            .bind(readers.clone().map(|reader| reader.stage.as_str()).collect::<Vec<_>>())
            .bind(readers.clone().map(|reader| reader.topic.as_str()).collect::<Vec<_>>())
            .bind(readers.map(|reader| reader.partition).collect::<Vec<_>>())
            .bind(positions.clone().map(|position| position.next.get()).collect::<Vec<_>>())
            .bind(positions.clone().map(|position| time(position.arrived)).collect::<Vec<_>>())
            .bind(positions.map(|position| time(position.since)).collect::<Vec<_>>())
            .execute(connection)
            .await?;
    }
    Ok(())
}

type MinuteRow<'a> = (&'a (Uuid, millrace_schemas::ledger::Minute), &'a Counts);

async fn add_minutes(connection: &mut PgConnection, rows: &[MinuteRow<'_>]) -> Result<(), sqlx::Error> {
    let column = |count: fn(&Counts) -> i64| rows.iter().map(|(_, counts)| count(counts)).collect::<Vec<_>>();
    sqlx::query(ADD_MINUTES)
        .bind(rows.iter().map(|((workspace, _), _)| *workspace).collect::<Vec<_>>())
        .bind(rows.iter().map(|((_, minute), _)| minute.start().into()).collect::<Vec<DateTime<Utc>>>())
        .bind(column(|counts| counts.from_edge))
        .bind(column(|counts| counts.read))
        .bind(column(|counts| counts.counted))
        .bind(column(|counts| counts.running))
        .bind(column(|counts| counts.duplicate))
        .bind(column(|counts| counts.dead_lettered.invalid))
        .bind(column(|counts| counts.dead_lettered.unknown_workspace))
        .bind(column(|counts| counts.dead_lettered.future))
        .bind(column(|counts| counts.late))
        .bind(column(|counts| counts.backfilled))
        .bind(column(|counts| counts.archived))
        .execute(connection)
        .await?;
    Ok(())
}
