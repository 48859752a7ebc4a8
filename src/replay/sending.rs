//! Turns statements into records, batches them, keeps the pace and hands them to the sink.

use crate::replay::{
    Error, entry::Statement, input::InputError, names::Names, pace::Pacer, progress::Progress,
    reading::Chunk, sink::Sink, summary::Tally,
};
use millrace_schemas::{QueryMetric, ServiceId, WorkspaceId};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A batch is sent before its JSON can grow past this (an escaped byte takes up to six), far below an edge's limit.
const BATCH_TEXT_BYTES_MAX: usize = 512 * 1024;
/// Of a record, without its texts.
const RECORD_BYTES: usize = 400;
/// How long what is on its way may take after an interruption.
const FINISH_LIMIT: Duration = Duration::from_secs(10);
/// While records wait for their time, a batch is sent at the latest after this.
const BATCH_AGE_MAX: Duration = Duration::from_millis(100);

pub struct Sender {
    pub names: Names,
    pub sink: Sink,
    pub pacer: Pacer,
    pub batch: Batch,
    pub tally: Tally,
    pub progress: Progress,
    pub shutdown: CancellationToken,
}

/// Records that are sent together.
pub struct Batch {
    records: Vec<QueryMetric>,
    records_max: usize,
    bytes: usize,
    started: Instant,
}

impl Batch {
    pub fn new(records_max: usize) -> Self {
        Self { records: Vec::new(), records_max, bytes: 0, started: Instant::now() }
    }

    fn push(&mut self, record: QueryMetric) {
        if self.records.is_empty() {
            self.started = Instant::now();
        }
        self.bytes += size(&record);
        self.records.push(record);
    }

    fn has_room_for(&self, record: &QueryMetric) -> bool {
        let fits = self.bytes + size(record) <= BATCH_TEXT_BYTES_MAX;
        self.records.is_empty() || (fits && self.records.len() < self.records_max)
    }

    fn take(&mut self) -> Vec<QueryMetric> {
        self.bytes = 0;
        std::mem::take(&mut self.records)
    }
}

impl Sender {
    /// Sends all that comes, until the end, an error or the shutdown; then waits for what is on its way.
    pub async fn run(&mut self, chunks: &mut mpsc::Receiver<Result<Chunk, InputError>>) -> Result<(), Error> {
        let mut sent = self.send_all(chunks).await;
        if matches!(sent, Ok(()) | Err(Error::Input(_))) {
            sent = sent.and(self.flush().await);
        }
        sent.and(self.finish().await)
    }

    async fn finish(&mut self) -> Result<(), Error> {
        let shutdown = self.shutdown.clone();
        let patience = async {
            shutdown.cancelled().await;
            tokio::time::sleep(FINISH_LIMIT).await;
        };
        tokio::select! {
            finished = self.sink.finish() => finished.map_err(Error::from),
            () = patience => Err(Error::Unacknowledged(FINISH_LIMIT.as_secs())),
        }
    }

    async fn send_all(
        &mut self,
        chunks: &mut mpsc::Receiver<Result<Chunk, InputError>>,
    ) -> Result<(), Error> {
        while let Some(chunk) = self.next(chunks).await {
            let mut chunk = chunk?;
            self.tally.add(&mut chunk);
            for statement in chunk.statements {
                self.wait_for(&statement).await?;
                if self.shutdown.is_cancelled() {
                    return Ok(());
                }
                self.send(statement).await?;
            }
            self.progress.update(self.sink.counts().accepted);
        }
        Ok(())
    }

    async fn next(
        &self,
        chunks: &mut mpsc::Receiver<Result<Chunk, InputError>>,
    ) -> Option<Result<Chunk, InputError>> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => None,
            chunk = chunks.recv() => chunk,
        }
    }

    /// Until the statement is due; what waits to be sent does not wait with it for long.
    async fn wait_for(&mut self, statement: &Statement) -> Result<(), Error> {
        let wait = self.pacer.wait(statement.completed_at, Instant::now());
        if wait.is_zero() {
            return Ok(());
        }
        if self.batch.started.elapsed() + wait > BATCH_AGE_MAX {
            self.flush().await?;
            self.progress.update(self.sink.counts().accepted);
        }
        let wait = self.pacer.wait(statement.completed_at, Instant::now());
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
        Ok(())
    }

    async fn send(&mut self, statement: Statement) -> Result<(), Error> {
        let ids = self.names.ids(&statement.database, &statement.application).await?;
        let record = record(statement, ids);
        if !self.batch.has_room_for(&record) {
            self.flush().await?;
        }
        self.batch.push(record);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        if self.batch.records.is_empty() {
            return Ok(());
        }
        self.sink.send(self.batch.take()).await.map_err(Error::from)
    }
}

fn size(record: &QueryMetric) -> usize {
    RECORD_BYTES + record.query_text.len() + record.error_message.as_ref().map_or(0, String::len)
}

fn record(statement: Statement, (workspace_id, service_id): (WorkspaceId, ServiceId)) -> QueryMetric {
    QueryMetric {
        id: statement.id,
        workspace_id,
        service_id,
        status: statement.status,
        duration_ms: statement.duration_ms,
        rows_affected: None,
        started_at: statement.started_at(),
        completed_at: statement.completed_at,
        query_text: statement.query_text,
        error_message: statement.error_message,
        tags: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_schemas::{EventTime, RecordId, Status};
    use uuid::Uuid;

    fn sample(query_text: String) -> QueryMetric {
        let statement = Statement {
            id: RecordId(Uuid::nil()),
            database: "shop".to_owned(),
            application: "pgbench".to_owned(),
            completed_at: EventTime(2_000_000),
            duration_ms: Some(0.5),
            status: Status::Success,
            query_text,
            error_message: None,
        };
        record(statement, (WorkspaceId(Uuid::nil()), ServiceId(Uuid::nil())))
    }

    #[test]
    fn a_record_starts_before_it_completes() {
        let record = sample("select 1".to_owned());
        assert_eq!(record.started_at, EventTime(1_999_500));
        assert_eq!(record.validate(), Ok(()));
    }

    #[test]
    fn a_batch_is_full_by_records_or_by_bytes() {
        let mut batch = Batch::new(2);
        let small = sample(String::new());
        batch.push(small.clone());
        assert!(batch.has_room_for(&small));
        assert!(!batch.has_room_for(&sample("x".repeat(BATCH_TEXT_BYTES_MAX))));
        batch.push(small.clone());
        assert!(!batch.has_room_for(&small));
        assert_eq!(batch.take().len(), 2);
        assert!(batch.has_room_for(&sample("x".repeat(BATCH_TEXT_BYTES_MAX))), "one always fits");
    }
}
