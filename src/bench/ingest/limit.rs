//! The limit of the edge: the same records sent by librdkafka alone, acknowledged by all replicas, as many at once.

use crate::bench::{
    load::{
        Shape,
        batch::{Batch, Target},
    },
    site::usage::{Spent, Usage, count},
};
use anyhow::Context;
use futures::future::try_join_all;
use millrace_log::LogSettings;
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::sleep};

const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Limit {
    pub records_per_s: f64,
    pub cpu_s_per_million: f64,
}

/// Each of the shape's connections is a task here, which waits until its records are acknowledged.
pub async fn measure(
    log: &LogSettings,
    target: &Target,
    shape: Shape,
    [warm_up, duration]: [Duration; 2],
) -> anyhow::Result<Limit> {
    let producer: FutureProducer = log.producer(DELIVERY_TIMEOUT).create()?;
    let (ended, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut senders = JoinSet::new();
    for number in 0..shape.connections {
        let sender = Sender {
            producer: producer.clone(),
            topic: log.topics().metrics,
            batch: Batch::new(target, number.wrapping_mul(shape.events), shape.events)?,
            key: number.to_string(),
            ended: Arc::clone(&ended),
            acknowledged: Arc::clone(&acknowledged),
        };
        senders.spawn(sender.run());
    }
    sleep(warm_up).await;
    let (usage, before) = (Usage::start()?, acknowledged.load(Ordering::Relaxed));
    sleep(duration).await;
    let records = acknowledged.load(Ordering::Relaxed) - before;
    let spent: Spent = usage.spent()?;
    ended.store(true, Ordering::Relaxed);
    while let Some(sender) = senders.join_next().await {
        sender??;
    }
    Ok(Limit {
        records_per_s: count(records) / spent.elapsed.as_secs_f64(),
        cpu_s_per_million: spent.cpu_s_per_million(records),
    })
}

struct Sender {
    producer: FutureProducer,
    topic: String,
    batch: Batch,
    key: String,
    ended: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Sender {
    async fn run(mut self) -> anyhow::Result<()> {
        let mut number = 0;
        while !self.ended.load(Ordering::Relaxed) {
            self.batch.stamp(number, None);
            number += 1;
            let sent = self.batch.records().map(|record| {
                let record = FutureRecord::to(&self.topic).key(&self.key).payload(record);
                self.producer.send_result(record).map_err(|(error, _)| error)
            });
            let sent = sent.collect::<Result<Vec<_>, _>>().context("sending to the log")?;
            let delivered = try_join_all(sent).await?;
            for delivery in &delivered {
                delivery.as_ref().map_err(|(error, _)| error.clone()).context("waiting for the log")?;
            }
            self.acknowledged.fetch_add(delivered.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}
