//! How far a sink has stored the partitions of its topic: rows of the table `sink_offsets`, written with what is stored.

use millrace_log::NextOffset;
use sqlx::{PgConnection, PgPool};
use std::collections::BTreeMap;

const BEGIN: &str = "INSERT INTO sink_offsets (sink, topic, partition, next_offset)
     SELECT $1, $2, partition, 0 FROM unnest($3::int[]) AS t (partition) ORDER BY partition
     ON CONFLICT DO NOTHING";
const READ: &str = "SELECT partition, next_offset FROM sink_offsets
     WHERE sink = $1 AND topic = $2 AND partition = ANY ($3)";
const LOCK: &str = "SELECT partition, next_offset FROM sink_offsets
     WHERE sink = $1 AND topic = $2 AND partition = ANY ($3) ORDER BY partition FOR UPDATE";
const WRITE: &str = "UPDATE sink_offsets SET next_offset = t.next_offset
     FROM unnest($3::int[], $4::bigint[]) AS t (partition, next_offset)
     WHERE sink = $1 AND topic = $2 AND sink_offsets.partition = t.partition";

pub struct Offsets {
    /// The sink's name in the table.
    pub sink: &'static str,
    pub topic: String,
}

impl Offsets {
    /// Where the partitions stand; those never stored stand at 0.
    pub async fn positions(
        &self,
        pool: &PgPool,
        partitions: &[i32],
    ) -> Result<BTreeMap<i32, NextOffset>, sqlx::Error> {
        sqlx::query(BEGIN).bind(self.sink).bind(&self.topic).bind(partitions).execute(pool).await?;
        let rows: Vec<(i32, i64)> =
            sqlx::query_as(READ).bind(self.sink).bind(&self.topic).bind(partitions).fetch_all(pool).await?;
        Ok(rows.into_iter().map(|(partition, next)| (partition, NextOffset::exclusive(next))).collect())
    }

    /// No other sink can go on until the transaction ends; false where one already has.
    pub async fn lock(
        &self,
        connection: &mut PgConnection,
        expected: &BTreeMap<i32, NextOffset>,
    ) -> Result<bool, sqlx::Error> {
        let partitions: Vec<i32> = expected.keys().copied().collect();
        let found: Vec<(i32, i64)> = sqlx::query_as(LOCK)
            .bind(self.sink)
            .bind(&self.topic)
            .bind(partitions)
            .fetch_all(connection)
            .await?;
        Ok(found.into_iter().eq(expected.iter().map(|(partition, next)| (*partition, next.get()))))
    }

    pub async fn write(
        &self,
        connection: &mut PgConnection,
        to: &BTreeMap<i32, NextOffset>,
    ) -> Result<(), sqlx::Error> {
        let (partitions, next): (Vec<i32>, Vec<i64>) =
            to.iter().map(|(partition, next)| (*partition, next.get())).unzip();
        sqlx::query(WRITE)
            .bind(self.sink)
            .bind(&self.topic)
            .bind(partitions)
            .bind(next)
            .execute(connection)
            .await?;
        Ok(())
    }
}
