//! The process's own log: text or JSON lines on standard error.

use clap::ValueEnum;
use std::io::{self, IsTerminal};
use tracing_subscriber::{EnvFilter, filter::ParseError, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// `rdkafka::client` says again what librdkafka has said already.
const DEFAULT_FILTER: &str = "info,rdkafka::client=off";

/// What is logged, and how it looks.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Logging")]
pub struct Settings {
    /// What to log: a level (error, warn, info, debug, trace), or `module=level` pairs, comma separated
    #[arg(long, env = "RUST_LOG", default_value = DEFAULT_FILTER, global = true)]
    pub log_filter: String,
    /// How log lines look on standard error
    #[arg(long, env = "LOG_FORMAT", default_value = "text", global = true)]
    pub log_format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("--log-filter `{filter}`")]
    Filter { filter: String, source: ParseError },
    #[error("starting to log")]
    Start(#[source] tracing_subscriber::util::TryInitError),
}

impl Settings {
    /// Starts logging; once in a process.
    pub fn start(&self) -> Result<(), Error> {
        let filter = EnvFilter::try_new(&self.log_filter)
            .map_err(|source| Error::Filter { filter: self.log_filter.clone(), source })?;
        let registry = tracing_subscriber::registry().with(filter);
        let lines = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
        match self.log_format {
            Format::Text => registry.with(lines).try_init(),
            Format::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        }
        .map_err(Error::Start)
    }
}
