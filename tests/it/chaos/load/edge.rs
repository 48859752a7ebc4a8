//! A producer over HTTP: a request whose outcome is not known is sent again with the same ids, or now and then given up.

use super::{
    BATCH_INTERVAL, TAKEN_AGAIN_WITHIN,
    journal::Journal,
    records::{Made, Records},
};
use crate::harness::Api;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::sync::Arc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// A request with an unknown outcome is given up in so many of 100 cases.
const GIVEN_UP_PERCENT: u64 = 5;
/// A request has an event that the edge must refuse in so many of 100 cases.
const REFUSED_PERCENT: u64 = 5;

pub struct Producer {
    pub api: Api,
    pub records: Records,
    pub journal: Arc<Journal>,
}

/// Valid records as the edge takes them.
pub fn events<'m>(batch: impl IntoIterator<Item = &'m Made>) -> Result<Vec<Value>> {
    let value = |made: &'m Made| {
        let payload = made.payload.as_ref().context("a valid record has a value")?;
        Ok(serde_json::from_slice(payload)?)
    };
    batch.into_iter().map(value).collect()
}

impl Producer {
    pub async fn run(mut self, stop: CancellationToken) -> Result<()> {
        let mut ticks = interval(BATCH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            let batch = self.records.valid();
            let refused = self.records.random().chance(REFUSED_PERCENT).then(|| self.records.refused());
            let mut stopped_at = None;
            while !self.send(&batch, refused.as_ref()).await? {
                self.journal.unknown(batch.len());
                let stopping = stop.is_cancelled();
                if !stopping && self.records.random().chance(GIVEN_UP_PERCENT) {
                    self.journal.abandoned(batch.len());
                    break;
                }
                if stopping {
                    let since: &mut Instant = stopped_at.get_or_insert_with(Instant::now);
                    ensure!(
                        since.elapsed() < TAKEN_AGAIN_WITHIN,
                        "the edge takes no records though all is well again"
                    );
                }
                ticks.tick().await;
            }
            ticks.tick().await;
        }
        Ok(())
    }

    /// Whether the edge has acknowledged them.
    async fn send(&self, batch: &[Made], refused: Option<&Made>) -> Result<bool> {
        let events = events(batch.iter().chain(refused))?;
        let Ok(response) = self.api.ingest(&events).await else { return Ok(false) };
        let status = response.status().as_u16();
        let Ok(answer) = response.text().await else { return Ok(false) };
        match status {
            202 => {
                let answer: Value = serde_json::from_str(&answer)?;
                let dropped = usize::from(refused.is_some());
                ensure!(
                    answer["ingested"] == batch.len() && answer["dropped"] == dropped,
                    "of {} good events and {dropped} bad ones: {answer}",
                    batch.len()
                );
                self.journal.acknowledge(batch.iter().map(|made| made.acknowledged(None, true)));
                if let Some((identity, token)) = batch[0].identity.zip(answer["token"].as_str()) {
                    self.journal.keep_some(identity.workspace_id, token);
                }
                Ok(true)
            }
            429 | 500..=599 => Ok(false),
            _ => bail!("the edge answers {status}: {answer}"),
        }
    }
}
