//! `millrace bench query`: REST on windows and on the archive, beside the bare statement and a bare reader of its files.

mod limit;
mod load;

use super::{
    aside, fill,
    load::latency::Percentiles,
    say,
    site::{self, Site, role::Role},
    stall::Watch,
    table::{Table, maybe, whole},
};
use anyhow::Context;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use clap::Args;
use limit::Reader;
use load::Timed;
use millrace_schemas::ServiceId;
use serde::Serialize;
use std::{path::PathBuf, time::Duration};
use tokio::time::sleep;

const POLL: Duration = Duration::from_millis(100);
/// Nothing of the log's end is held in memory but one record: the archive must be asked.
const FROM_ARCHIVE: [&str; 4] = ["--tail-records", "0", "--recent-records", "1"];

#[derive(Debug, Args)]
pub struct QueryBench {
    #[command(flatten)]
    site: site::Settings,
    /// Records that the windows and the archive are made of
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    records: u32,
    /// Services that the records are of
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: u32,
    /// Connections that ask, each when it has its answer
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,
    /// How long each question is asked
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// A Python that has DuckDB, to read the archive beside; without it DataFusion does
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Print the result as one line of JSON too, last
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    bench: &'static str,
    /// Those of the first run.
    #[serde(flatten)]
    first: &'a Run,
    runs: &'a [Run],
}

#[derive(Debug, Serialize)]
struct Run {
    question: &'static str,
    queries_per_s: f64,
    #[serde(flatten)]
    latency: Percentiles,
    bytes_per_answer: f64,
    /// Of the query service; an embedded store's own is not in it.
    cpu_ms_per_query: f64,
    peak_rss_mb: f64,
    limit: Option<Limit>,
}

#[derive(Debug, Serialize)]
struct Limit {
    what: &'static str,
    queries_per_s: f64,
    #[serde(flatten)]
    latency: Percentiles,
}

pub async fn run(bench: QueryBench) -> anyhow::Result<()> {
    let runs = site::on(&bench.site, async |site| bench.measure(site).await).await?;
    bench.show(&runs);
    if bench.json {
        let first = runs.first().context("there was a run")?;
        say(&serde_json::to_string(&Report { bench: "query", first, runs: &runs })?);
    }
    Ok(())
}

impl QueryBench {
    async fn measure(&self, site: &Site) -> anyhow::Result<Vec<Run>> {
        let began = Utc::now();
        self.process(site).await?;
        let archive = site.archive_url();
        let query = Role::start(site, "query", &["--archive-url", &archive]).await?;
        let [from, to] = [began - TimeDelta::hours(1), Utc::now() + TimeDelta::minutes(5)];
        let all = limit::Statement { window: "1m", from, to, service: None };
        let one = limit::Statement { window: "5s", from, to, service: Some(fill::service(self.keys, 0)) };
        let mut runs = vec![
            self.windows(site, &query, "aggregations: 1 min, all services", all).await?,
            self.windows(site, &query, "aggregations: 5 s, one service", one).await?,
        ];
        runs.push(self.ask(site, &query, "newest 100 records, from memory", "metrics?limit=100").await?);
        drop(query);
        let arguments = [&["--archive-url", archive.as_str()], &FROM_ARCHIVE[..]].concat();
        let query = Role::start(site, "query", &arguments).await?;
        let mut run =
            self.ask(site, &query, "newest 1,000 records, from the archive", "metrics?limit=1000").await?;
        run.limit = Some(self.read_bare(site).await?);
        runs.push(run);
        Ok(runs)
    }

    /// Fills the log, and lets a processor store and archive all of it.
    async fn process(&self, site: &Site) -> anyhow::Result<()> {
        let fill = fill::Fill { workspaces: vec![site.workspace], records: self.records, keys: self.keys };
        aside::fill(&site.log, &fill).await?;
        let archive = site.archive_url();
        let arguments = ["--archive-url", archive.as_str(), "--archive-interval", "2s"];
        let processor = Role::start(site, "processor", &arguments).await?;
        let mut watch = Watch::new();
        loop {
            let stored = limit::stored(&site.pool, site.workspace).await?;
            #[expect(clippy::cast_possible_truncation, reason = "a counter of whole numbers")]
            let archived = processor.metric("millrace_archive_records_total", "").await? as i64;
            let wanted = i64::from(self.records);
            if stored == wanted && archived == wanted {
                return processor.kill().await;
            }
            let stuck = || format!("stuck at {stored} stored and {archived} archived records");
            watch.look((stored, archived), stuck)?;
            sleep(POLL).await;
        }
    }

    async fn windows(
        &self,
        site: &Site,
        query: &Role,
        question: &'static str,
        statement: limit::Statement,
    ) -> anyhow::Result<Run> {
        let [from, to] = [statement.from, statement.to].map(text);
        let service = statement.service.map(|service: ServiceId| format!("&service_id={service}"));
        let path = format!(
            "aggregations?window={}&from={from}&to={to}{}",
            statement.window,
            service.unwrap_or_default()
        );
        let mut run = self.ask(site, query, question, &path).await?;
        let timed = limit::store(site, &statement, self.connections, self.duration()).await?;
        run.limit = Some(Limit::of("the bare statement", timed)?);
        Ok(run)
    }

    async fn ask(
        &self,
        site: &Site,
        query: &Role,
        question: &'static str,
        path: &str,
    ) -> anyhow::Result<Run> {
        let request = format!(
            "GET /api/v1/workspaces/{}/{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
            site.workspace, query.address, site.key
        );
        let usage = query.usage()?;
        let timed = load::ask(query.address, &request, self.connections, self.duration()).await?;
        let spent = usage.spent()?;
        let queries = timed.queries();
        Ok(Run {
            question,
            queries_per_s: timed.per_s(),
            bytes_per_answer: timed.bytes_per_answer(),
            latency: timed.latencies.percentiles().context("there were answers")?,
            cpu_ms_per_query: spent.cpu_s_per_million(queries) / 1000.0,
            peak_rss_mb: spent.peak_rss_mb,
            limit: None,
        })
    }

    async fn read_bare(&self, site: &Site) -> anyhow::Result<Limit> {
        let reader = Reader { folder: site.folder().join("archive"), workspace: site.workspace };
        match &self.python {
            Some(python) => {
                Limit::of("DuckDB, one thread, same files", reader.duckdb(python, self.duration()).await?)
            }
            None => Limit::of("DataFusion, same files", reader.datafusion(self.duration()).await?),
        }
    }

    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn show(&self, runs: &[Run]) {
        let mut table = Table::new(&[
            "",
            "queries/s",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "bytes an answer",
            "CPU ms a query",
            "peak RSS MB",
            "limit queries/s",
            "limit p99 ms",
            "limit",
        ]);
        let ms = |ms: f64| format!("{ms:.2}");
        for run in runs {
            let limit = run.limit.as_ref();
            table.row(vec![
                run.question.to_owned(),
                whole(run.queries_per_s),
                ms(run.latency.p50_ms),
                ms(run.latency.p95_ms),
                ms(run.latency.p99_ms),
                whole(run.bytes_per_answer),
                ms(run.cpu_ms_per_query),
                whole(run.peak_rss_mb),
                maybe(limit.map(|limit| limit.queries_per_s), whole),
                maybe(limit.map(|limit| limit.latency.p99_ms), ms),
                limit.map_or_else(|| "–".to_owned(), |limit| limit.what.to_owned()),
            ]);
        }
        say(&format!(
            "{} connections, {} s each, on {} records of {} services\n\n{table}",
            self.connections,
            self.seconds,
            whole(self.records.into()),
            self.keys
        ));
    }
}

impl Limit {
    fn of(what: &'static str, timed: Timed) -> anyhow::Result<Self> {
        let queries_per_s = timed.per_s();
        Ok(Self {
            what,
            queries_per_s,
            latency: timed.latencies.percentiles().context("there were answers")?,
        })
    }
}

fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
