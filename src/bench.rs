//! `millrace bench`: measures a part of Millrace beside its limit, in the same run, and prints a table. The part runs as a
//! process of its own, or is alone in this one, so that its CPU time and memory are not those of its load.

mod archive;
mod aside;
mod copy;
mod drain;
mod fill;
mod footprint;
mod ingest;
mod live;
mod load;
mod processor;
mod progress;
mod query;
mod recovery;
mod scale;
mod site;
mod stall;
mod table;

use clap::Subcommand;
use serde::Serialize;
use site::Site;
use tokio_util::sync::CancellationToken;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Drains a pre-filled topic of JSON records through combine and windows, beside a plain librdkafka drain
    Processor(Box<processor::ProcessorBench>),
    /// Sends events to an edge by HTTP, each request acknowledged by the log, beside librdkafka with the same records
    Ingest(Box<ingest::IngestBench>),
    /// Sends events at a rate and measures how soon they are in the live feed and in final rows, beside a bare consumer
    Live(Box<live::LiveBench>),
    /// Asks for windows and for records of the archive, beside the bare statement and a bare reader of the same files
    Query(Box<query::QueryBench>),
    /// Archives a pre-filled topic as Parquet, beside a plain drain and a plain Parquet writer
    Archive(Box<archive::ArchiveBench>),
    /// Kills a processor at full load, and measures how soon the next one has caught up
    Recovery(Box<recovery::RecoveryBench>),
    /// What the processor costs with more keys, partitions and workspaces
    Scale(Box<scale::ScaleBench>),
    /// What each role takes when it has nothing to do, and how soon it is ready
    Footprint(Box<footprint::FootprintBench>),
    /// The embedded log and store of the other benchmarks
    #[command(hide = true)]
    Host(Box<site::host::Settings>),
    /// What the other benchmarks do beside what they measure
    #[command(hide = true)]
    Aside(aside::Settings),
}

/// Ends early, leaving what it made in a log or database that was given, when `shutdown` comes.
pub async fn run(bench: Bench, shutdown: CancellationToken) -> anyhow::Result<()> {
    let measured = async {
        match bench {
            Bench::Processor(bench) => processor::run(*bench).await,
            Bench::Ingest(bench) => ingest::run(*bench).await,
            Bench::Live(bench) => live::run(*bench).await,
            Bench::Query(bench) => query::run(*bench).await,
            Bench::Archive(bench) => archive::run(*bench).await,
            Bench::Recovery(bench) => recovery::run(*bench).await,
            Bench::Scale(bench) => scale::run(*bench).await,
            Bench::Footprint(bench) => footprint::run(*bench).await,
            Bench::Host(settings) => site::host::run(*settings).await,
            Bench::Aside(settings) => aside::run(settings).await,
        }
    };
    tokio::select! {
        measured = measured => measured,
        () = shutdown.cancelled() => anyhow::bail!("it was interrupted"),
    }
}

/// What a benchmark came to.
trait Report: Serialize {
    /// Prints it as a table.
    fn show(&self);
}

/// Measures on a site, and prints the report, with `json` as a last line of JSON too.
async fn report<R: Report>(
    settings: &site::Settings,
    json: bool,
    measure: impl AsyncFnOnce(&mut Site) -> anyhow::Result<R>,
) -> anyhow::Result<()> {
    let report = site::on(settings, measure).await?;
    report.show();
    if json {
        say(&serde_json::to_string(&report)?);
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result is what the command is for")]
fn say(text: &str) {
    println!("{text}");
}
