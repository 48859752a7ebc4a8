//! Producers that go on while everything else dies: over the edge and straight to the log, with repeats, shuffles, garbage,
//! late records and those of the future. What was acknowledged stands in the [`Journal`].

mod direct;
mod edge;
mod journal;
mod records;
mod witness;

pub use journal::Journal;
pub use records::{Cast, LATE_WORKSPACE_NAME};

use super::random::Random;
use crate::harness::Api;
use anyhow::{Context as _, Result};
use chrono::Utc;
use records::{Records, Repeats};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use witness::Witness;

/// Producers over the edge, each for one of the tenants in turn.
const OVER_THE_EDGE: u64 = 4;
/// Producers to the log.
const DIRECT: u64 = 3;
/// Between two batches of one producer.
const BATCH_INTERVAL: Duration = Duration::from_millis(150);
const BATCH_RECORDS_MAX: u64 = 40;
/// How long after the last fault a producer may go without being taken.
const TAKEN_AGAIN_WITHIN: Duration = Duration::from_secs(120);

pub struct Load {
    producers: JoinSet<Result<()>>,
    stop: CancellationToken,
    pub journal: Arc<Journal>,
}

/// Where they produce to.
pub struct Places {
    /// With a key for all workspaces.
    pub edge: Api,
    /// With the same.
    pub query: Api,
    pub brokers: String,
    pub topic: String,
}

impl Load {
    pub fn start(seed: u64, cast: &Arc<Cast>, places: &Places) -> Result<Self> {
        let random = Random::new(seed);
        let (journal, stop) = (Arc::new(Journal::default()), CancellationToken::new());
        let repeats = Arc::new(Repeats::default());
        let mut producers = JoinSet::new();
        for number in 0..OVER_THE_EDGE {
            let records = Records::new(random.fork(number), cast, &repeats);
            let producer =
                edge::Producer { api: places.edge.clone(), records, journal: Arc::clone(&journal) };
            producers.spawn(producer.run(stop.clone()));
        }
        for number in 0..DIRECT {
            // One of them does not key its records as the edge does: its repeats are its own.
            let keyed = number > 0;
            let repeats = if keyed { Arc::clone(&repeats) } else { Arc::default() };
            let records = Records::new(random.fork(100 + number), cast, &repeats);
            let producer = direct::Producer::new(places, records, Arc::clone(&journal), keyed)?;
            producers.spawn(producer.run(stop.clone()));
        }
        let witness = Witness {
            workspace: cast.witness.workspace,
            began: Utc::now(),
            edge: places.edge.clone(),
            query: places.query.clone(),
            records: Records::new(random.fork(200), cast, &Arc::default()),
            journal: Arc::clone(&journal),
        };
        producers.spawn(witness.run(stop.clone()));
        Ok(Self { producers, stop, journal })
    }

    /// Returns when each producer's last batch is acknowledged.
    pub async fn end(mut self) -> Result<Arc<Journal>> {
        self.stop.cancel();
        while let Some(ended) = self.producers.join_next().await {
            ended.context("a producer panicked")??;
        }
        Ok(self.journal)
    }
}
