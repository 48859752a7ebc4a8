//! What `millrace audit` can be told.

use crate::rebuild::{Archive, embedded_log, parse_time};
use millrace_log::LogSettings;
use millrace_processor::{
    audit::Settings as Plan,
    settings::{AdmissionSettings, Span},
};
use millrace_schemas::EventTime;
use millrace_tenancy::StoreSettings;

#[derive(Clone, Debug, clap::Args)]
#[command(mut_args(embedded_log))]
pub struct Settings {
    /// Only records that the log got then or later, RFC 3339; without it all that it has
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub from: Option<EventTime>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// The most rows of workspaces and minutes shown without --json: the newest
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    pub minutes: u16,
    /// How long the processor may take for what the log has by now
    #[arg(long, default_value = "2m")]
    pub wait: Span,
    #[command(flatten)]
    pub admission: AdmissionSettings,
    #[command(flatten, next_help_heading = "Archive")]
    pub archive: Archive,
    #[command(flatten, next_help_heading = "Log")]
    pub log: LogSettings,
    #[command(flatten, next_help_heading = "Database")]
    pub store: StoreSettings,
}

impl Settings {
    pub fn plan(&self) -> Plan {
        Plan { from: self.from, admission: self.admission.clone(), wait: self.wait.into() }
    }
}
