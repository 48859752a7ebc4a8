//! Looks at the pipeline: when somebody asks, and every few seconds for Prometheus.

use super::{
    Parts, Pipeline,
    groups::{Committed, Group},
    meters::PipelineMeters,
};
use crate::routes::Waits;
use chrono::Utc;
use millrace_log::LogSettings;
use rdkafka::error::KafkaError;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Mutex, task::spawn_blocking, time::timeout};
use tokio_util::sync::CancellationToken;

/// How often it is looked at for Prometheus.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long the database may take to say how far the sink is.
const SINK_LIMIT: Duration = Duration::from_secs(1);
/// Who asks gets an answer that is no older.
const FRESH_FOR: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("asking for the offsets that the processor has committed")]
    Groups(#[from] KafkaError),
    #[error("asking for offsets panicked")]
    Panicked(#[from] tokio::task::JoinError),
    #[error("the topic is not known yet: no broker has answered")]
    NoTopic,
}

pub struct Monitor {
    groups: Arc<Groups>,
    waits: Arc<Waits>,
    meters: PipelineMeters,
    last: Mutex<Option<(Instant, Arc<Pipeline>)>>,
}

struct Groups {
    combine: Group,
    archive: Group,
}

impl Monitor {
    pub fn new(log: &LogSettings, waits: Arc<Waits>, meters: PipelineMeters) -> Result<Self, KafkaError> {
        // The names of the groups are the processor's.
        let groups = Groups { combine: Group::new(log, "combine")?, archive: Group::new(log, "archive")? };
        Ok(Self { groups: Arc::new(groups), waits, meters, last: Mutex::new(None) })
    }

    /// One look for all who ask at once.
    pub async fn look(&self) -> Result<Arc<Pipeline>, Error> {
        let mut last = self.last.lock().await;
        if let Some((at, pipeline)) = &*last
            && at.elapsed() < FRESH_FOR
        {
            return Ok(Arc::clone(pipeline));
        }
        let pipeline = Arc::new(self.look_now().await?);
        self.meters.show(&pipeline);
        *last = Some((Instant::now(), Arc::clone(&pipeline)));
        Ok(pipeline)
    }

    /// Keeps the metrics up to date. A failure is no news: readiness and the routes tell of it.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            if let Err(error) = self.look().await {
                tracing::debug!(error = &error as &dyn std::error::Error, "the pipeline can't be seen");
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    /// While the database is away the sink stands still: where it was seen last is where it is.
    async fn ask_sink(&self) {
        match timeout(SINK_LIMIT, self.waits.stored.refresh(FRESH_FOR)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the database does not say how far the sink is"),
            Err(_) => tracing::debug!("the database does not say in time how far the sink is"),
        }
    }

    async fn look_now(&self) -> Result<Pipeline, Error> {
        let ends = self.waits.positions.ends();
        let partitions = i32::try_from(ends.len()).unwrap_or(0);
        if partitions == 0 {
            return Err(Error::NoTopic);
        }
        let groups = Arc::clone(&self.groups);
        let asked = spawn_blocking(move || -> Result<(Committed, Committed), KafkaError> {
            Ok((groups.combine.committed(partitions)?, groups.archive.committed(partitions)?))
        });
        let (combine, archive) = asked.await??;
        self.ask_sink().await;
        Ok(Pipeline::of(&Parts {
            topic: self.waits.brokers.topic(),
            ends: &ends,
            reach: &self.waits.reach,
            combine: &combine,
            archive: &archive,
            now: Utc::now().into(),
        }))
    }
}
