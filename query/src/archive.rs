//! Reads the newest records of a workspace from the Parquet archive, for what the log's tail in memory does not reach.
//! It only lists and reads; the processor writes.

mod files;
mod rows;

use crate::record::Record;
use datafusion::{
    error::DataFusionError,
    execution::runtime_env::RuntimeEnvBuilder,
    prelude::{DataFrame, ParquetReadOptions, SessionConfig, SessionContext, col, lit},
};
use files::{Newest, Place};
use millrace_schemas::{EventTime, WorkspaceId};
use object_store::{ObjectStore, parse_url_opts};
use std::{cmp::Reverse, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};
use url::Url;

/// Memory that all readings together may take for their rows.
const MEMORY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Readings at once.
const READERS_MAX: usize = 2;
/// How long one reading may take, its wait for a turn included.
const LIMIT: Duration = Duration::from_secs(5);
/// How far the clocks of the log and of the store may differ.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(5);
/// Files read with one plan.
const FILES_PER_PLAN: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the archive's URL {url} can't be used")]
    Location {
        url: String,
        #[source]
        source: object_store::Error,
    },
    #[error("the archive's URL {0} is not a URL")]
    Url(String),
    #[error("listing {folder} in the archive")]
    List {
        folder: String,
        #[source]
        source: object_store::Error,
    },
    #[error("reading {0} files of the archive")]
    Read(usize, #[source] DataFusionError),
    #[error("preparing to read the archive")]
    Prepare(#[source] DataFusionError),
    #[error("the archive's column {column} is missing or of another type")]
    Column {
        column: &'static str,
        #[source]
        source: Option<DataFusionError>,
    },
    #[error("the archive did not answer within {} s", LIMIT.as_secs())]
    TimedOut,
}

/// The archive at one URL.
pub struct Archive {
    place: Place,
    context: SessionContext,
    files_max: usize,
    turns: Semaphore,
}

/// What was found, newest arrival first.
#[derive(Debug, Default)]
pub struct Found {
    pub records: Vec<Record>,
    /// False where files that were not opened may hold newer ones.
    pub complete: bool,
}

/// Which records are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub workspace: WorkspaceId,
    pub count: usize,
    /// None that arrived after this.
    pub until: Option<EventTime>,
}

impl Archive {
    /// Does not touch the store yet: it may be away, or still empty.
    pub fn open(url: &str, files_max: usize) -> Result<Self, Error> {
        let root = Url::parse(url).map_err(|_| Error::Url(url.to_owned()))?;
        let environment = std::env::vars().filter(|(name, _)| name.starts_with("AWS_"));
        let (store, folder) = parse_url_opts(&root, environment)
            .map_err(|source| Error::Location { url: url.to_owned(), source })?;
        let store: Arc<dyn ObjectStore> = Arc::from(store);
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(MEMORY_BYTES_MAX, 1.0).build_arc();
        let config = SessionConfig::new()
            .with_target_partitions(1)
            .set_bool("datafusion.execution.parquet.schema_force_view_types", false)
            // What is not among the newest so far is not even decoded.
            .set_bool("datafusion.execution.parquet.pushdown_filters", true);
        let context = SessionContext::new_with_config_rt(config, runtime.map_err(Error::Prepare)?);
        context.register_object_store(&root, Arc::clone(&store));
        let turns = Semaphore::new(READERS_MAX);
        Ok(Self { place: Place { store, root, folder }, context, files_max, turns })
    }

    /// The newest records of a workspace by arrival, from the newest hours (in which the queries completed) that have
    /// enough: a backfill of old queries is found where it belongs in time, not where it arrived.
    pub async fn newest(&self, wanted: Wanted) -> Result<Found, Error> {
        let reading = async {
            let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
            self.read(wanted).await
        };
        timeout(LIMIT, reading).await.unwrap_or(Err(Error::TimedOut))
    }

    async fn read(&self, wanted: Wanted) -> Result<Found, Error> {
        let mut newest = Newest::of(&self.place, wanted.workspace);
        let mut found = Found { records: Vec::new(), complete: true };
        let mut left = self.files_max;
        while !found.is_enough(wanted, &newest) {
            let files = newest.next(FILES_PER_PLAN.min(left)).await?;
            if files.is_empty() {
                found.complete = left > 0 || newest.next(1).await?.is_empty();
                break;
            }
            left -= files.len();
            let records = self.read_files(files, wanted).await?;
            found.add(records, wanted);
        }
        Ok(found)
    }

    async fn read_files(&self, files: Vec<String>, wanted: Wanted) -> Result<Vec<Record>, Error> {
        let count = files.len();
        let failed = |source| Error::Read(count, source);
        let rows = self.context.read_parquet(files, ParquetReadOptions::default()).await.map_err(failed)?;
        let batches = select(rows, wanted).map_err(failed)?.collect().await.map_err(failed)?;
        let records = batches.iter().map(rows::records).collect::<Result<Vec<_>, _>>()?;
        Ok(records.into_iter().flatten().collect())
    }
}

impl Found {
    fn add(&mut self, records: Vec<Record>, wanted: Wanted) {
        self.records.extend(records);
        self.records.sort_unstable_by_key(|record| Reverse(record.arrival));
        // After a crash the writer may have left the same records in two files.
        self.records.dedup_by_key(|record| record.arrival);
        self.records.truncate(wanted.count);
    }

    /// All wanted are there, and no file that waits can hold newer ones.
    fn is_enough(&self, wanted: Wanted, waiting: &Newest<'_>) -> bool {
        let Some(oldest) = self.records.last().filter(|_| self.records.len() >= wanted.count) else {
            return false;
        };
        !waiting.any_written_since(oldest.arrival.log_time.saturating_sub(CLOCK_SKEW_MAX))
    }
}

/// The workspace is in the path already; the predicate is the second wall.
fn select(rows: DataFrame, wanted: Wanted) -> Result<DataFrame, DataFusionError> {
    let mut rows = rows.filter(col("workspace_id").eq(lit(wanted.workspace.to_string())))?;
    if let Some(until) = wanted.until {
        rows = rows.filter(col("ingest_time").lt_eq(rows::time(until)))?;
    }
    let newest_first = ["ingest_time", "source_partition", "source_offset"];
    rows.sort(newest_first.map(|column| col(column).sort(false, false)).to_vec())?
        .limit(0, Some(wanted.count))
}

#[cfg(test)]
mod tests;
