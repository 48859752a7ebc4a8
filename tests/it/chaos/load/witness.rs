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
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Between two questions.
const INTERVAL: Duration = Duration::from_millis(400);

pub struct Witness {
    pub workspace: Uuid,
    pub edge: Api,
    pub query: Api,
    pub records: Records,
    pub journal: Arc<Journal>,
}

impl Witness {
    pub async fn run(mut self, stop: CancellationToken) -> Result<()> {
        let (began, mut acknowledged) = (Utc::now(), 0);
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            let batch = self.records.witnessed(self.workspace);
            let mut stopped_at = None;
            let token = loop {
                if let Some(token) = self.send(&batch).await? {
                    break token;
                }
                self.journal.unknown(batch.len());
                if stop.is_cancelled() {
                    let since: &mut Instant = stopped_at.get_or_insert_with(Instant::now);
                    ensure!(since.elapsed() < TAKEN_AGAIN_WITHIN, "the edge takes no records of the witness");
                }
                ticks.tick().await;
            };
            acknowledged += i64::try_from(batch.len())?;
            match self.counted(&token, began).await? {
                Some(counted) => {
                    ensure!(
                        counted >= acknowledged,
                        "an answer after a token has {counted} records of {acknowledged} acknowledged before"
                    );
                    self.journal.saw_contained();
                }
                None => self.journal.saw_not_yet(),
            }
            self.journal.keep(self.workspace, token);
            ticks.tick().await;
        }
        Ok(())
    }

    /// The token, if all are acknowledged.
    async fn send(&self, batch: &[Made]) -> Result<Option<String>> {
        let Ok(response) = self.edge.ingest(&super::edge::events(batch)?).await else { return Ok(None) };
        let status = response.status().as_u16();
        let Ok(answer) = response.text().await else { return Ok(None) };
        if matches!(status, 429 | 500..=599) {
            return Ok(None);
        }
        let answer: Value = serde_json::from_str(&answer)?;
        ensure!(status == 202 && answer["ingested"] == batch.len(), "the edge answers {status}: {answer}");
        self.journal.acknowledge(batch.iter().map(|made| made.acknowledged(None, true)));
        // In the rare case that the log did not say where they are it is asked for once more.
        Ok(answer["token"].as_str().map(str::to_owned))
    }

    /// How many records the windows have, if they have those of the token by now.
    async fn counted(&self, token: &str, began: DateTime<Utc>) -> Result<Option<i64>> {
        let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let (from, to) = (text(began - TimeDelta::minutes(6)), text(Utc::now() + TimeDelta::minutes(6)));
        let path = format!(
            "/api/v1/workspaces/{}/aggregations?window=5m&from={from}&to={to}&after={token}&wait=3s",
            self.workspace
        );
        // Who is away, or does not know yet, promises nothing.
        let Ok((200, answer)) = self.query.get_answer(&path).await else { return Ok(None) };
        let answer: Value = serde_json::from_str(&answer)?;
        let buckets = answer["buckets"].as_array().with_context(|| format!("no buckets in {answer}"))?;
        Ok(Some(buckets.iter().filter_map(|bucket| bucket["query_count"].as_i64()).sum()))
    }
}
