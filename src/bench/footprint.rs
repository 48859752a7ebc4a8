//! `millrace bench footprint`: what each role takes when nothing is to be done, and how soon it is ready.

use super::{
    say,
    site::{self, Site, role::Role},
    table::{Table, whole},
};
use crate::ops::process;
use anyhow::Context;
use clap::Args;
use serde::Serialize;
use std::time::Duration;
use tokio::time::sleep;

#[derive(Debug, Args)]
pub struct FootprintBench {
    #[command(flatten)]
    site: site::Settings,
    /// How long each is idle before its memory is read
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Print the result as one line of JSON too, last
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    binary_mb: f64,
    runs: Vec<Run>,
}

#[derive(Debug, Serialize)]
struct Run {
    name: &'static str,
    ready_s: f64,
    idle_rss_mb: f64,
    /// Percent of one core.
    idle_cpu_percent: f64,
}

pub async fn run(bench: FootprintBench) -> anyhow::Result<()> {
    let report = site::on(&bench.site, async |site| bench.measure(site).await).await?;
    let mut table = Table::new(&["", "ready after s", "idle RSS MB", "idle % of a core"]);
    for run in &report.runs {
        let numbers =
            [format!("{:.2}", run.ready_s), whole(run.idle_rss_mb), format!("{:.1}", run.idle_cpu_percent)];
        table.row([vec![run.name.to_owned()], numbers.to_vec()].concat());
    }
    say(&format!("the binary has {:.1} MB; idle for {} s\n\n{table}", report.binary_mb, bench.seconds));
    if bench.json {
        say(&serde_json::to_string(&report)?);
    }
    Ok(())
}

impl FootprintBench {
    async fn measure(&self, site: &Site) -> anyhow::Result<Report> {
        let binary = std::env::current_exe().and_then(std::fs::metadata).context("looking at this binary")?;
        let archive = site.archive_url();
        let mut runs = vec![
            self.idle("ingest", Role::start(site, "ingest", &[]).await?).await?,
            self.idle("processor", Role::start(site, "processor", &["--archive-url", &archive]).await?)
                .await?,
            self.idle("query", Role::start(site, "query", &["--archive-url", &archive]).await?).await?,
        ];
        for name in ["up, embedded, first start", "up, embedded, after a kill"] {
            runs.push(self.idle(name, Role::start_up(site).await?).await?);
        }
        #[expect(clippy::cast_precision_loss, reason = "a size for a person to read")]
        let binary_mb = binary.len() as f64 / f64::from(1 << 20);
        Ok(Report { bench: "footprint", binary_mb, runs })
    }

    async fn idle(&self, name: &'static str, role: Role) -> anyhow::Result<Run> {
        let settle = Duration::from_secs(self.seconds);
        sleep(settle).await;
        let usage = role.usage()?;
        sleep(settle).await;
        let spent = usage.spent()?;
        let rss = process::Usage::of(role.process()).resident_bytes.context("reading its memory")?;
        let run = Run {
            name,
            ready_s: role.ready_after.as_secs_f64(),
            idle_rss_mb: rss / f64::from(1 << 20),
            idle_cpu_percent: 100.0 * spent.cores(),
        };
        role.kill().await?;
        Ok(run)
    }
}
