//! Finds out for which minutes the ledger has everything: when somebody asks, and every few seconds for Prometheus.

use super::{Partition, Standing, meters::LedgerMeters, select};
use crate::routes::Waits;
use chrono::Utc;
use millrace_schemas::EventTime;
use sqlx::PgPool;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Mutex, time::timeout};
use tokio_util::sync::CancellationToken;

/// How often it is looked at for Prometheus.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long the brokers may take to say where the partitions end.
const ENDS_LIMIT: Duration = Duration::from_secs(1);
const HEALTH_LIMIT: Duration = Duration::from_secs(5);
/// Who asks gets an answer that is no older.
const FRESH_FOR: Duration = Duration::from_millis(500);

pub struct LedgerMonitor {
    pool: PgPool,
    waits: Arc<Waits>,
    meters: LedgerMeters,
    last: Mutex<Option<(Instant, Standing)>>,
}

impl LedgerMonitor {
    pub fn new(pool: PgPool, waits: Arc<Waits>, meters: LedgerMeters) -> Self {
        Self { pool, waits, meters, last: Mutex::new(None) }
    }

    /// One look for all who ask at once.
    pub async fn standing(&self) -> Result<Standing, sqlx::Error> {
        let mut last = self.last.lock().await;
        if let Some((at, standing)) = *last
            && at.elapsed() < FRESH_FOR
        {
            return Ok(standing);
        }
        let asked = EventTime::from(Utc::now());
        let partitions = self.partitions().await;
        let mut connection = self.pool.acquire().await?;
        let positions = select::positions(&mut connection, self.waits.brokers.topic()).await?;
        let standing = Standing::of(&partitions, &positions, asked);
        *last = Some((Instant::now(), standing));
        Ok(standing)
    }

    /// Keeps the metrics up to date. A failure is no news: readiness and the routes tell of it.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            match timeout(HEALTH_LIMIT, self.look()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "the ledger can't be seen"),
                Err(_) => tracing::debug!("the ledger can't be seen in time"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    async fn look(&self) -> Result<(), sqlx::Error> {
        let standing = self.standing().await?;
        let mut connection = self.pool.acquire().await?;
        self.meters.show(&select::health(&mut connection, &standing, Utc::now().into()).await?);
        Ok(())
    }

    /// Empty while the topic is not known.
    async fn partitions(&self) -> Vec<Partition> {
        let readable = self.waits.positions.readable();
        let ends = async {
            let mut ends = Vec::with_capacity(readable.len());
            for (partition, _) in (0..).zip(&readable) {
                ends.push(self.waits.brokers.end(partition).await.ok()??);
            }
            Some(ends)
        };
        // Without them no partition is known to be at its end, and what came last counts.
        let ends = timeout(ENDS_LIMIT, ends).await.ok().flatten();
        let end = |number: usize| ends.as_ref().map(|ends| ends[number]);
        readable
            .iter()
            .enumerate()
            .map(|(number, readable)| Partition { end: end(number), readable: *readable })
            .collect()
    }
}
