//! A producer that goes on until it is told to stop.

use super::{Log, kafka::send, metric_at};
use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use rdkafka::producer::FutureRecord;
use std::time::Duration;
use tokio::{sync::watch, task::JoinSet, time::interval};

/// Between two rounds: then each partition gets records.
const PACE: Duration = Duration::from_millis(50);

pub struct Load {
    running: JoinSet<Result<Sent>>,
    stop: watch::Sender<bool>,
}

/// What the log has acknowledged: `completed_at` of each record.
pub struct Sent {
    pub times: Vec<DateTime<Utc>>,
    pub began: DateTime<Utc>,
    pub ended: DateTime<Utc>,
}

impl Load {
    /// So many records for each partition of the metrics topic every 50 ms, all of the development service.
    pub fn start(log: &Log, records: usize) -> Result<Self> {
        let partitions = log.partitions()?;
        Self::on(log, (0..partitions).collect(), records)
    }

    /// The same for some partitions.
    pub fn on(log: &Log, partitions: Vec<i32>, records: usize) -> Result<Self> {
        let (producer, topic) = (log.producer()?, log.metrics().to_owned());
        let (stop, stopped) = watch::channel(false);
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut sent = Sent { times: Vec::new(), began: Utc::now(), ended: Utc::now() };
            let mut pace = interval(PACE);
            while !*stopped.borrow() {
                pace.tick().await;
                let now = Utc::now();
                let round = partitions.iter().flat_map(|partition| std::iter::repeat_n(*partition, records));
                let round = round.map(async |partition| {
                    let payload = metric_at("select 'load'", now).to_string();
                    let record = FutureRecord::<str, [u8]>::to(&topic).partition(partition);
                    send(&producer, record.payload(payload.as_bytes())).await
                });
                let acknowledged = futures::future::try_join_all(round).await?.len();
                sent.times.extend(std::iter::repeat_n(now, acknowledged));
            }
            sent.ended = Utc::now();
            Ok(sent)
        });
        Ok(Self { running, stop })
    }

    pub async fn stop(mut self) -> Result<Sent> {
        self.stop.send(true).context("it runs")?;
        self.running.join_next().await.context("it was started")??
    }
}
