//! A tenant that reads what it writes: by commit tokens, while all else goes wrong. An answer after a token must hold every
//! record of its own that was acknowledged before; where it can't, the query service has to say so.

use super::{
    TAKEN_AGAIN_WITHIN,
    journal::Journal,
    records::{Made, Records},
};
use crate::harness::Api;
use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::Value;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Between two questions.
const INTERVAL: Duration = Duration::from_millis(400);

pub struct Witness {
    pub workspace: Uuid,
    /// None of its records is older.
    pub began: DateTime<Utc>,
    pub edge: Api,
    pub query: Api,
    pub records: Records,
    pub journal: Arc<Journal>,
}

/// So many records of the witness were acknowledged when the token came, its own among them.
struct Promise {
    token: String,
    records: i64,
}

impl Witness {
    pub async fn run(mut self, stop: CancellationToken) -> Result<()> {
        let mut acknowledged = 0;
        let mut pending: VecDeque<Promise> = VecDeque::new();
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            let batch = self.records.witnessed(self.workspace);
            let Some(token) = self.acknowledged(&batch, &mut ticks, &stop).await? else { continue };
            acknowledged += i64::try_from(batch.len())?;
            self.journal.keep(self.workspace, token.clone());
            pending.push_back(Promise { token, records: acknowledged });
            // The newest, for an answer that is early; and the oldest, as that will be contained first.
            for newest in [true, false] {
                let asked = if newest { pending.back() } else { pending.front() };
                let Some(promise) = asked else { break };
                let Some(counted) = self.counted(&promise.token, newest).await? else { continue };
                ensure!(
                    counted >= promise.records,
                    "an answer after a token has {counted} records of {} acknowledged before",
                    promise.records
                );
                self.journal.saw_contained();
                let last = if newest { pending.len() } else { 1 };
                pending.drain(..last);
            }
            ticks.tick().await;
        }
        Ok(())
    }

    /// Sends the records until they are acknowledged. No token is the rare case that the log did not say where they are.
    async fn acknowledged(
        &self,
        batch: &[Made],
        ticks: &mut Interval,
        stop: &CancellationToken,
    ) -> Result<Option<String>> {
        let mut stopped_at = None;
        loop {
            if let Some(answer) = self.send(batch).await? {
                return Ok(answer["token"].as_str().map(str::to_owned));
            }
            self.journal.unknown(batch.len());
            if stop.is_cancelled() {
                let since: &mut Instant = stopped_at.get_or_insert_with(Instant::now);
                ensure!(since.elapsed() < TAKEN_AGAIN_WITHIN, "the edge takes no records of the witness");
            }
            ticks.tick().await;
        }
    }

    /// The answer, if all are acknowledged.
    async fn send(&self, batch: &[Made]) -> Result<Option<Value>> {
        let Ok(response) = self.edge.ingest(&super::edge::events(batch)?).await else { return Ok(None) };
        let status = response.status().as_u16();
        let Ok(answer) = response.text().await else { return Ok(None) };
        if matches!(status, 429 | 500..=599) {
            return Ok(None);
        }
        let answer: Value = serde_json::from_str(&answer)?;
        ensure!(status == 202 && answer["ingested"] == batch.len(), "the edge answers {status}: {answer}");
        self.journal.acknowledge(batch.iter().map(|made| made.acknowledged(None, true)));
        Ok(Some(answer))
    }

    /// How many records the windows have, if they have those of the token by now.
    async fn counted(&self, token: &str, wait: bool) -> Result<Option<i64>> {
        let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let (from, to) = (text(self.began - TimeDelta::minutes(6)), text(Utc::now() + TimeDelta::minutes(6)));
        let wait_ms = if wait { 1_000 } else { 0 };
        let path = format!(
            "/api/v1/workspaces/{}/aggregations?window=5m&from={from}&to={to}&after={token}&wait={wait_ms}ms",
            self.workspace
        );
        // Who is away, or does not know yet, promises nothing.
        let Ok((200, answer)) = self.query.get_answer(&path).await else { return Ok(None) };
        let answer: Value = serde_json::from_str(&answer)?;
        let buckets = answer["buckets"].as_array().with_context(|| format!("no buckets in {answer}"))?;
        Ok(Some(buckets.iter().filter_map(|bucket| bucket["query_count"].as_i64()).sum()))
    }
}
