//! Batches to an edge, several requests at once.

use super::{Counts, SinkError};
use crate::replay::edge::{Edge, EdgeError, Ingested, Rejection};
use millrace_schemas::QueryMetric;
use tokio::task::JoinSet;

pub struct EdgeSink {
    edge: Edge,
    requests_max: usize,
    requests: JoinSet<Result<Ingested, EdgeError>>,
    counts: Counts,
}

impl EdgeSink {
    pub fn new(edge: Edge, requests_max: usize) -> Self {
        Self { edge, requests_max, requests: JoinSet::new(), counts: Counts::default() }
    }

    pub async fn send(&mut self, batch: Vec<QueryMetric>) -> Result<(), SinkError> {
        while self.requests.len() >= self.requests_max {
            self.collect_one().await?;
        }
        let edge = self.edge.clone();
        self.requests.spawn(async move { edge.ingest(&batch).await });
        Ok(())
    }

    pub async fn finish(&mut self) -> Result<(), SinkError> {
        let mut result = Ok(());
        while !self.requests.is_empty() {
            result = result.and(self.collect_one().await);
        }
        result
    }

    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }

    async fn collect_one(&mut self) -> Result<(), SinkError> {
        let Some(finished) = self.requests.join_next().await else { return Ok(()) };
        let answer = finished??;
        self.counts.accepted += answer.ingested;
        self.counts.rejected += answer.dropped;
        if let Some(Rejection { field, message }) = answer.errors.first() {
            self.counts.first_rejection.get_or_insert_with(|| format!("{field}: {message}"));
        }
        Ok(())
    }
}
