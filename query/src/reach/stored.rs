//! Asks PostgreSQL how far the sink is: at most so often, however many want to know.

use super::Reach;
use sqlx::PgPool;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// The sink's name in the table of offsets, as it writes it.
const SINK: &str = "aggregates";
const READ: &str = "SELECT partition, next_offset FROM sink_offsets WHERE sink = $1 AND topic = $2";

pub struct Stored {
    pool: PgPool,
    topic: String,
    reach: Arc<Reach>,
    asked: Mutex<Option<Instant>>,
}

impl Stored {
    /// `topic` is that of the rows.
    pub fn new(pool: PgPool, topic: String, reach: Arc<Reach>) -> Self {
        Self { pool, topic, reach, asked: Mutex::new(None) }
    }

    /// Afterwards `reach` knows what was stored no longer ago than `fresh_for`. Who comes while another one asks waits
    /// for that answer.
    pub async fn refresh(&self, fresh_for: Duration) -> Result<(), sqlx::Error> {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < fresh_for) {
            return Ok(());
        }
        let now = Instant::now();
        let rows: Vec<(i32, i64)> =
            sqlx::query_as(READ).bind(SINK).bind(&self.topic).fetch_all(&self.pool).await?;
        self.reach.sink_is_at(&rows.into_iter().collect::<BTreeMap<_, _>>());
        *asked = Some(now);
        Ok(())
    }
}
