//! What `millrace rebuild` can be told.

use millrace_log::LogSettings;
use millrace_processor::{
    archive::{Location, LocationError},
    rebuild::{Fewer, Settings as Plan, Span, SpanError},
    settings::{AdmissionSettings, Span as Duration},
};
use millrace_schemas::{EventTime, WorkspaceId};
use millrace_tenancy::StoreSettings;

/// Where `millrace up` has its own log.
const EMBEDDED_LOG: &str = "127.0.0.1:9092";

#[derive(Clone, Debug, clap::Args)]
#[command(mut_args(embedded_log))]
pub struct Settings {
    /// The first event time of the range, RFC 3339: a multiple of 5 min
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub from: EventTime,
    /// The end of the range, exclusive: a multiple of 5 min, so long ago that its windows have left the processor's memory
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub to: EventTime,
    /// Only this workspace
    #[arg(long, value_name = "ID")]
    pub workspace: Option<WorkspaceId>,
    /// Replace the rows that differ, all in one transaction, once you have answered `y`
    #[arg(long)]
    pub apply: bool,
    /// Don't ask
    #[arg(long, requires = "apply")]
    pub yes: bool,
    /// Also rows that would have fewer records than are stored, or none: what archive and log have lost looks so
    #[arg(long, requires = "apply")]
    pub allow_fewer: bool,
    /// The most rows replaced in the one transaction, during which an embedded store serves nobody else
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub rows_max: u32,
    /// Print each difference as a line of JSON, and the report as the last line
    #[arg(long)]
    pub json: bool,
    /// The most differences shown without --json
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    pub examples: u16,
    /// How long the processor may take to store what the log has
    #[arg(long, default_value = "1m")]
    pub wait: Duration,
    /// How long windows stay in the processor's memory; what it tells of that itself counts, if it is more
    #[arg(long, env = "LATE_HORIZON")]
    pub late_horizon: Option<Duration>,
    #[command(flatten)]
    pub admission: AdmissionSettings,
    #[command(flatten, next_help_heading = "Archive")]
    pub archive: Archive,
    #[command(flatten, next_help_heading = "Log")]
    pub log: LogSettings,
    #[command(flatten, next_help_heading = "Database")]
    pub store: StoreSettings,
}

/// Where the Parquet files are.
#[derive(Clone, Debug, clap::Args)]
pub struct Archive {
    /// Where the processor archives: a folder (`file://…`, absolute or not) or a bucket (`s3://bucket/prefix`)
    #[arg(long, env = "ARCHIVE_URL", value_name = "URL", default_value = "file://./millrace-data/archive")]
    pub archive_url: String,
    /// No archive is kept: the log has everything
    #[arg(long, env = "NO_ARCHIVE")]
    pub no_archive: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("--archive-url")]
pub struct ArchiveError(#[source] LocationError);

impl Settings {
    pub fn fewer(&self) -> Fewer {
        if self.allow_fewer { Fewer::Allowed } else { Fewer::Refused }
    }
}

impl Archive {
    pub fn location(&self) -> Result<Option<Location>, ArchiveError> {
        if self.no_archive {
            Ok(None)
        } else {
            Location::open(&self.archive_url).map(Some).map_err(ArchiveError)
        }
    }
}

/// The embedded store's address is in what `millrace up` says at its start; its log's is always the same.
pub fn embedded_log(argument: clap::Arg) -> clap::Arg {
    match argument.get_id().as_str() {
        "brokers" => argument.required(false).default_value(EMBEDDED_LOG),
        _ => argument,
    }
}

pub fn parse_time(text: &str) -> Result<EventTime, String> {
    EventTime::parse(text).ok_or_else(|| "write it as 2026-11-21T10:05:00Z".to_owned())
}

impl Settings {
    pub fn plan(&self) -> Result<Plan, SpanError> {
        Ok(Plan {
            span: Span::new(self.from, self.to)?,
            workspace: self.workspace,
            admission: self.admission.clone(),
            late_horizon: self.late_horizon.map(Into::into),
            wait: self.wait.into(),
            rows_max: self.rows_max,
        })
    }
}
