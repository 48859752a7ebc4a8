//! The embedded log alone, as a process: for tests, and for whoever wants only the log. It owns no logic.

use clap::Parser;
use millrace_broker::{Broker, Settings};
use std::{io::Write, path::PathBuf, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};

/// A single-node, Kafka-compatible log with durable data in a folder.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Where the data is kept
    #[arg(long, alias = "data-dir", default_value = "./millrace-log", value_name = "FOLDER")]
    folder: PathBuf,
    #[command(flatten)]
    settings: Settings,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &*error, "the log ends");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

async fn run(options: Options) -> Result<(), Failure> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut broker = Broker::start(&options.folder, options.settings).await?;
    writeln!(std::io::stdout(), "listening on {}", broker.address())?;
    let failure = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        failure = broker.ended() => Some(failure),
    };
    let closed = broker.close().await;
    failure.map_or(Ok(()), Err)?;
    Ok(closed?)
}
