//! `millrace rebuild`: shows how the stored windows differ from what the archive and the log give, and replaces them when
//! told to. The work is [`millrace_processor::rebuild`]; this asks and shows.

mod progress;
mod settings;
mod show;

pub use settings::{Archive, ArchiveError, Settings, embedded_log, parse_time};

use millrace_processor::rebuild::{self, Applied, Components, Rebuilt, SpanError, rebuild as recompute};
use progress::{Differences, Watch};
use serde_json::json;
use std::io::{self, BufRead as _, Write};
use tokio_util::sync::CancellationToken;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Span(#[from] SpanError),
    #[error("the settings of the log")]
    Log(#[from] millrace_log::SettingsError),
    #[error("opening the database")]
    Database(#[source] millrace_tenancy::Error),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("nothing was changed")]
    Rebuild(#[source] Box<rebuild::Error>),
    #[error("removing the tables of the rebuild; the next one does it")]
    Discard(#[source] Box<rebuild::Error>),
    #[error("reading the answer")]
    Answer(#[source] io::Error),
    #[error("writing to standard output")]
    Stdout(#[source] io::Error),
}

pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<(), Error> {
    settings.log.validate()?;
    let plan = settings.plan()?;
    let archive = settings.archive.location()?;
    let pool = settings.store.connect().await.map_err(Error::Database)?;
    let components = Components { log: settings.log.clone(), pool, archive, shutdown: shutdown.clone() };
    let differences = Differences::new(settings.json, settings.examples.into());
    let watch = Box::new(Watch::new(differences.clone()));
    let rebuilt = recompute(plan, components, watch).await.map_err(boxed)?;
    let ended = finish(&settings, &rebuilt, &differences, &shutdown).await;
    rebuilt.discard().await.map_err(|error| Error::Discard(Box::new(error)))?;
    ended
}

fn boxed(error: rebuild::Error) -> Error {
    Error::Rebuild(Box::new(error))
}

/// Shows what was found, and applies it if that is wanted.
async fn finish(
    settings: &Settings,
    rebuilt: &Rebuilt,
    differences: &Differences,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    differences.written().map_err(Error::Stdout)?;
    if !settings.json {
        say(&show::Report { report: &rebuilt.report, examples: &differences.examples() })?;
    }
    let count = rebuilt.report.differences();
    let wanted = settings.apply && count > 0 && (settings.yes || agreed(count, shutdown).await?);
    let applied = match wanted {
        true => Some(rebuilt.apply(settings.fewer()).await.map_err(boxed)?),
        false => None,
    };
    match (settings.json, applied) {
        (true, applied) => say(&json!({ "report": &rebuilt.report, "applied": applied })),
        (false, Some(Applied { written, removed })) => {
            say(&format_args!("applied: {written} rows written, {removed} removed"))
        }
        (false, None) if settings.apply && count > 0 => say(&"not applied"),
        (false, None) => Ok(()),
    }
}

fn say(what: &impl std::fmt::Display) -> Result<(), Error> {
    writeln!(io::stdout(), "{what}").map_err(Error::Stdout)
}

/// Asks on the terminal, or whoever is there.
async fn agreed(count: u64, shutdown: &CancellationToken) -> Result<bool, Error> {
    write!(io::stderr(), "Replace these {count} rows? [y/N] ").map_err(Error::Stdout)?;
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    tokio::select! {
        () = shutdown.cancelled() => Ok(false),
        answer = answer => {
            let answer = answer.map_err(io::Error::other).flatten().map_err(Error::Answer)?;
            Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
        }
    }
}
