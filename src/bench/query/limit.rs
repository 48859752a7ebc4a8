//! The limits of queries: the statement on the store without Millrace, and others' readers on the archive's files.

use super::load::{Timed, gather};
use crate::bench::{load::latency::Latencies, site::Site};
use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use millrace_schemas::{ServiceId, WorkspaceId};
use serde::Deserialize;
use sqlx::{AssertSqlSafe, PgPool};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{process::Command, task::JoinSet};

/// Prints the microseconds that each reading took.
const DUCKDB: &str = "
import duckdb, sys, time
connection = duckdb.connect(config={'threads': 1})
taken, end = [], time.perf_counter() + float(sys.argv[2])
while time.perf_counter() < end:
    start = time.perf_counter()
    rows = connection.execute(sys.argv[1]).fetchall()
    taken.append(int((time.perf_counter() - start) * 1e6))
    assert rows
print(taken)
";

/// Rows of a window between two times.
#[derive(Clone, Copy)]
pub struct Statement {
    pub window: &'static str,
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    pub service: Option<ServiceId>,
}

/// Records that the stored windows hold so far.
pub async fn stored(pool: &PgPool, workspace: WorkspaceId) -> anyhow::Result<i64> {
    let sql = "SELECT coalesce(sum(query_count), 0)::bigint FROM aggregates_5m WHERE workspace_id = $1";
    sqlx::query_scalar(sql).bind(workspace.0).fetch_one(pool).await.context("asking what is stored")
}

/// The statement from as many tasks as there would be connections.
pub async fn store(
    site: &Site,
    statement: &Statement,
    tasks: u32,
    duration: Duration,
) -> anyhow::Result<Timed> {
    let sql = format!(
        "SELECT * FROM aggregates_{} WHERE workspace_id = $1 AND window_start >= $2 AND window_start < $3
         AND ($4::uuid IS NULL OR service_id = $4) ORDER BY window_start, service_id",
        statement.window
    );
    let (mut asking, started) = (JoinSet::new(), Instant::now());
    for _ in 0..tasks {
        let (pool, workspace, statement, sql) = (site.pool.clone(), site.workspace, *statement, sql.clone());
        asking.spawn(async move {
            let mut timed = Timed::default();
            while started.elapsed() < duration {
                let asked = Instant::now();
                let rows = sqlx::query(AssertSqlSafe(sql.as_str()))
                    .bind(workspace.0)
                    .bind(statement.from)
                    .bind(statement.to)
                    .bind(statement.service.map(|service| service.0))
                    .fetch_all(&pool)
                    .await?;
                ensure!(!rows.is_empty(), "there are no rows");
                timed.latencies.add_one(asked.elapsed());
            }
            Ok(timed)
        });
    }
    gather(asking, started).await
}

/// Reads the newest records from the archive's files, as the query service must.
pub struct Reader {
    pub folder: PathBuf,
    pub workspace: WorkspaceId,
}

#[derive(Deserialize)]
struct Taken(Vec<u64>);

impl Reader {
    fn sql(&self, from: &str) -> String {
        let order = "ingest_time DESC, source_partition DESC, source_offset DESC";
        format!("SELECT * FROM {from} WHERE workspace_id = '{}' ORDER BY {order} LIMIT 1000", self.workspace)
    }

    pub async fn duckdb(&self, python: &Path, duration: Duration) -> anyhow::Result<Timed> {
        // As text, which an answer is in the end too.
        let newest = self.sql(&format!("'{}/**/*.parquet'", self.folder.display()));
        let sql = format!("SELECT COLUMNS(*)::VARCHAR FROM ({newest})");
        let mut command = Command::new(python);
        command.args(["-c", DUCKDB, &sql, &duration.as_secs().to_string()]);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
        let output = output.with_context(|| format!("running {}", python.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "DuckDB ended with {}: {said}", output.status);
        let Taken(taken) = serde_json::from_slice(&output.stdout)?;
        let elapsed = Duration::from_micros(taken.iter().sum());
        let mut latencies = Latencies::default();
        taken.into_iter().map(Duration::from_micros).for_each(|taken| latencies.add_one(taken));
        Ok(Timed { latencies, elapsed, bytes: 0 })
    }

    pub async fn datafusion(&self, duration: Duration) -> anyhow::Result<Timed> {
        let config = SessionConfig::new().with_target_partitions(1);
        let context = SessionContext::new_with_config(config);
        let path = format!("{}/", self.folder.display());
        context.register_parquet("archive", path, ParquetReadOptions::default()).await?;
        let (mut timed, started) = (Timed::default(), Instant::now());
        while started.elapsed() < duration {
            let asked = Instant::now();
            let batches = context.sql(&self.sql("archive")).await?.collect().await?;
            ensure!(batches.iter().any(|batch| batch.num_rows() > 0), "the archive has no rows");
            timed.latencies.add_one(asked.elapsed());
        }
        timed.elapsed = started.elapsed();
        Ok(timed)
    }
}
