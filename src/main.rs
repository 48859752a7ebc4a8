//! The `millrace` binary: reads the command line, starts what it asks for and says how it ended.
//! It composes the services, which don't know each other; it decides nothing itself.

mod audit;
mod bench;
mod cli;
mod demo;
mod logging;
mod ops;
mod rebuild;
mod replay;
mod roles;
mod shutdown;

use clap::Parser;
use cli::{Cli, Command, Replay};
use replay::Ending;
use shutdown::Signals;
use std::process::ExitCode;
use tokio::runtime::Runtime;

/// Its pages go back to the system, and many threads that allocate don't wait for each other.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("millrace: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> Result<ExitCode, anyhow::Error> {
    cli.logging.start()?;
    let runtime = Runtime::new()?;
    let result = runtime.block_on(run(cli.command));
    // What is left of it ends with the process: a thread that was cut off, or is blocked in a read of a terminal, keeps it
    // from nothing, and finds its timers as they were. In a runtime that is shut down it would panic.
    std::mem::forget(runtime);
    result
}

async fn run(command: Command) -> Result<ExitCode, anyhow::Error> {
    let signals = Signals::listen()?;
    let shutdown = signals.token();
    match command {
        Command::Up(up) => roles::run((*up).try_into()?, shutdown).await?,
        Command::Ingest(ingest) => roles::run((*ingest).into(), shutdown).await?,
        Command::Processor(processor) => roles::run((*processor).into(), shutdown).await?,
        Command::Query(query) => roles::run((*query).into(), shutdown).await?,
        Command::Replay(Replay::PostgresLog(settings)) => {
            return Ok(exit_code(replay::run(*settings, shutdown).await?));
        }
        Command::Rebuild(settings) => rebuild::run(*settings, shutdown).await?,
        Command::Audit(settings) => {
            let agrees = audit::run(*settings, shutdown).await?;
            return Ok(if agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Bench(bench) => bench::run(bench).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn exit_code(ending: Ending) -> ExitCode {
    match ending {
        Ending::Done => ExitCode::SUCCESS,
        Ending::Failed => ExitCode::FAILURE,
        Ending::Interrupted => ExitCode::from(shutdown::INTERRUPTED),
    }
}
