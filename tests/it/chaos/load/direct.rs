//! A producer straight to the log, with librdkafka: it knows partition and offset of what was acknowledged.

use super::{
    BATCH_INTERVAL, Places, TAKEN_AGAIN_WITHIN,
    journal::Journal,
    records::{Made, Records},
};
use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use rdkafka::{
    ClientConfig,
    producer::{FutureProducer, FutureRecord, Producer as _},
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Shorter than the broker is away now and then.
const DELIVERY_LIMIT_MS: &str = "6000";
/// Attempts that fail in a row before there is a new client.
const STUCK_AFTER: u32 = 5;
/// Records with an unknown outcome are given up in so many of 100 cases.
const GIVEN_UP_PERCENT: u64 = 10;

pub struct Producer {
    config: ClientConfig,
    topic: String,
    client: FutureProducer,
    records: Records,
    journal: Arc<Journal>,
    /// By workspace and service, as the edge does; or each record as it comes.
    keyed: bool,
    failed_in_a_row: u32,
}

impl Producer {
    pub fn new(places: &Places, records: Records, journal: Arc<Journal>, keyed: bool) -> Result<Self> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &places.brokers)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "5")
            .set("message.timeout.ms", DELIVERY_LIMIT_MS);
        let client = config.create().context("create a producer")?;
        Ok(Self { config, topic: places.topic.clone(), client, records, journal, keyed, failed_in_a_row: 0 })
    }

    pub async fn run(mut self, stop: CancellationToken) -> Result<()> {
        let mut ticks = interval(BATCH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            let mut unsent = self.records.any();
            let mut stopped_at = None;
            loop {
                unsent = self.send(unsent).await?;
                if unsent.is_empty() {
                    break;
                }
                self.journal.unknown(unsent.len());
                let stopping = stop.is_cancelled();
                if !stopping && self.records.random().chance(GIVEN_UP_PERCENT) {
                    self.journal.abandoned(unsent.len());
                    break;
                }
                if stopping {
                    let since: &mut Instant = stopped_at.get_or_insert_with(Instant::now);
                    ensure!(
                        since.elapsed() < TAKEN_AGAIN_WITHIN,
                        "the log takes no records though all is well again"
                    );
                }
                ticks.tick().await;
            }
            ticks.tick().await;
        }
        Ok(())
    }

    /// Those that were not acknowledged.
    async fn send(&mut self, batch: Vec<Made>) -> Result<Vec<Made>> {
        let producer = &*self;
        let sending = batch.into_iter().map(|made| async move {
            let key = if producer.keyed { made.key.clone() } else { Uuid::new_v4().to_string() };
            let record = FutureRecord::to(&producer.topic).key(&key);
            let record = made.payload.iter().fold(record, |record, payload| record.payload(payload));
            let sent = producer.client.send(record, Duration::ZERO).await;
            (made, sent)
        });
        let mut unsent = Vec::new();
        for (made, sent) in join_all(sending).await {
            match sent {
                Ok(delivery) => {
                    let place = (delivery.partition, delivery.offset);
                    // After a retry that the log had taken before it does not say where.
                    let place = (place.1 >= 0).then_some(place);
                    self.journal.acknowledge([made.acknowledged(place, self.keyed)]);
                }
                Err(_) => unsent.push(made),
            }
        }
        // One that is stuck, as librdkafka's can be after brokers were away, does not say so.
        self.failed_in_a_row = if unsent.is_empty() { 0 } else { self.failed_in_a_row + 1 };
        let is_stuck = self.failed_in_a_row > 0 && self.failed_in_a_row.is_multiple_of(STUCK_AFTER);
        if is_stuck || self.client.client().fatal_error().is_some() {
            self.client = self.config.create().context("create a producer anew")?;
        }
        Ok(unsent)
    }
}
