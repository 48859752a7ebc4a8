//! `millrace bench scale`: what the processor costs with more keys, partitions and workspaces. Each point is a run of
//! `millrace bench processor` in a process of its own, so that memory is not that of the point before.

use super::{
    say, site,
    table::{Table, whole},
};
use anyhow::{Context, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::process::Stdio;
use tokio::process::Command;

#[derive(Debug, Args)]
pub struct ScaleBench {
    #[command(flatten)]
    site: site::Settings,
    /// Records to fill the topic with, for each point
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    records: u32,
    /// Services, with 4 partitions and one workspace: a point for each number
    #[arg(long, value_delimiter = ',', default_values_t = [100, 10_000, 1_000_000], value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: Vec<u32>,
    /// Partitions, with 100 services in one workspace: a point for each number
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16, 64], value_parser = clap::value_parser!(u32).range(1..=300))]
    partitions: Vec<u32>,
    /// Workspaces, which share 10,000 services on 4 partitions: a point for each number
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1_000], value_parser = clap::value_parser!(u32).range(1..=10_000))]
    workspaces: Vec<u32>,
    /// Print the result as one line of JSON too, last
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    keys: u32,
    partitions: u32,
    workspaces: u32,
}

#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    records: u32,
    points: Vec<Measured>,
}

/// Of the JSON of `millrace bench processor`.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    keys: u32,
    partitions: u32,
    workspaces: u32,
    records_per_s: f64,
    limit_records_per_s: f64,
    cpu_s_per_million: f64,
    peak_rss_mb: f64,
    final_rows: u64,
    windows_final_s: f64,
}

pub async fn run(bench: ScaleBench) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        "keys; partitions; workspaces",
        "records/s",
        "limit records/s",
        "CPU s per million",
        "peak RSS MB",
        "final rows",
        "until all are final, s",
    ]);
    let mut points = Vec::new();
    for point in bench.points() {
        let measured = bench.measure(point).await?;
        table.row(measured.cells());
        points.push(measured);
    }
    say(&format!("{} records each\n\n{table}", whole(bench.records.into())));
    if bench.json {
        say(&serde_json::to_string(&Report { bench: "scale", records: bench.records, points })?);
    }
    Ok(())
}

impl ScaleBench {
    fn points(&self) -> Vec<Point> {
        let base = Point { keys: 100, partitions: 4, workspaces: 1 };
        let keys = self.keys.iter().map(|keys| Point { keys: *keys, ..base });
        let partitions = self.partitions.iter().map(|partitions| Point { partitions: *partitions, ..base });
        let workspaces =
            self.workspaces.iter().map(|workspaces| Point { workspaces: *workspaces, keys: 10_000, ..base });
        keys.chain(partitions).chain(workspaces).collect()
    }

    async fn measure(&self, point: Point) -> anyhow::Result<Measured> {
        let Point { keys, partitions, workspaces } = point;
        let mut command = Command::new(std::env::current_exe().context("finding this binary")?);
        command.args(["bench", "processor", "--json"]).args(self.site.arguments());
        let sizes = [
            ("--records", self.records),
            ("--keys", keys),
            ("--workspaces", workspaces),
            ("--topic-partitions", partitions),
        ];
        for (name, value) in sizes {
            command.args([name, &value.to_string()]);
        }
        command.env("DATABASE_URL", &self.site.store.database_url);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let output = command.spawn()?.wait_with_output().await?;
        ensure!(output.status.success(), "{point:?} ended with {}", output.status);
        let printed = String::from_utf8(output.stdout)?;
        serde_json::from_str(printed.lines().last().unwrap_or_default()).context("reading a point's result")
    }
}

impl Measured {
    fn cells(&self) -> Vec<String> {
        let [keys, partitions, workspaces] =
            [self.keys, self.partitions, self.workspaces].map(|number| whole(number.into()));
        vec![
            format!("{keys}; {partitions}; {workspaces}"),
            whole(self.records_per_s),
            whole(self.limit_records_per_s),
            format!("{:.2}", self.cpu_s_per_million),
            whole(self.peak_rss_mb),
            whole(site::usage::count(self.final_rows)),
            format!("{:.1}", self.windows_final_s),
        ]
    }
}
