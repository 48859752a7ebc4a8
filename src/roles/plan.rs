//! Which roles run, and their settings: one command each, and `up` for all of them.

use super::{
    Error,
    embedded::{self, EMBEDDED},
};
use millrace_log::LogSettings;
use millrace_query::ArchiveLocation;
use millrace_tenancy::StoreSettings;
use std::path::PathBuf;

const LISTEN: &str = "127.0.0.1:3000";
/// Stands for `--data-dir` in `--archive-url`.
const DATA_DIR: &str = "<data-dir>";
const ARCHIVE: &str = "file://<data-dir>/archive";
/// Beside the other roles on one machine.
const PROCESSOR_LISTEN: &str = "127.0.0.1:3001";

/// What belongs to all roles of an installation.
#[derive(Clone, Debug, clap::Args)]
pub struct Installation {
    /// Add the development workspace, its service and well-known keys. Never where strangers can connect
    #[arg(long, env = "MILLRACE_DEV")]
    pub dev: bool,
    #[command(flatten, next_help_heading = "Log")]
    pub log: LogSettings,
    #[command(flatten, next_help_heading = "Database")]
    pub store: StoreSettings,
}

/// Where a role needs an address, `up` has a default: it can run the log and the store itself.
#[derive(clap::Args)]
#[command(mut_args(defaults_of_up))]
pub struct Up {
    /// Where HTTP requests are taken, `host:port`; port 0 takes a free one
    #[arg(long, env = "LISTEN_ADDR", default_value = LISTEN, value_name = "HOST:PORT")]
    pub listen: String,
    /// Where the embedded log and store, and the archive, keep their data
    #[arg(long, env = "MILLRACE_DATA_DIR", default_value = "millrace-data", value_name = "FOLDER")]
    data_dir: PathBuf,
    /// Feed the traffic of a made-up shop, with a query that gets slower, errors and a drop; takes --dev with it
    #[arg(long, env = "MILLRACE_DEMO")]
    demo: bool,
    #[command(flatten)]
    pub installation: Installation,
    #[command(flatten, next_help_heading = "Embedded log")]
    broker: millrace_broker::Settings,
    #[command(flatten, next_help_heading = "Ingest edge")]
    ingest: millrace_ingest::Settings,
    #[command(flatten, next_help_heading = "Query service")]
    query: millrace_query::Settings,
    #[command(flatten, next_help_heading = "Processor")]
    processor: millrace_processor::Settings,
}

fn defaults_of_up(argument: clap::Arg) -> clap::Arg {
    match argument.get_id().as_str() {
        "brokers" | "database_url" => {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let help = format!("{help}; `{EMBEDDED}` runs one in this process");
            argument.required(false).default_value(EMBEDDED).help(help)
        }
        "archive_url" => argument.default_value(ARCHIVE),
        _ => argument,
    }
}

#[derive(clap::Args)]
pub struct Ingest {
    /// Where HTTP requests are taken, `host:port`; port 0 takes a free one
    #[arg(long, env = "LISTEN_ADDR", default_value = LISTEN, value_name = "HOST:PORT")]
    listen: String,
    #[command(flatten)]
    installation: Installation,
    #[command(flatten, next_help_heading = "Ingest edge")]
    ingest: millrace_ingest::Settings,
}

#[derive(clap::Args)]
pub struct Processor {
    /// Where `/health`, `/ready` and `/metrics` are answered, `host:port`; port 0 takes a free one
    #[arg(long, env = "LISTEN_ADDR", default_value = PROCESSOR_LISTEN, value_name = "HOST:PORT")]
    listen: String,
    #[command(flatten)]
    installation: Installation,
    #[command(flatten, next_help_heading = "Processor")]
    processor: millrace_processor::Settings,
}

#[derive(clap::Args)]
pub struct Query {
    /// Where HTTP requests are taken, `host:port`; port 0 takes a free one
    #[arg(long, env = "LISTEN_ADDR", default_value = LISTEN, value_name = "HOST:PORT")]
    listen: String,
    #[command(flatten)]
    installation: Installation,
    #[command(flatten, next_help_heading = "Query service")]
    query: millrace_query::Settings,
    #[command(flatten, next_help_heading = "Archive")]
    archive: ArchiveLocation,
}

/// What one process runs.
#[derive(Debug)]
pub struct Plan {
    pub listen: String,
    pub installation: Installation,
    pub ingest: Option<millrace_ingest::Settings>,
    pub query: Option<(millrace_query::Settings, ArchiveLocation)>,
    pub processor: Option<millrace_processor::Settings>,
    pub embedded: embedded::Settings,
    pub demo: bool,
}

impl Plan {
    /// The names of the roles that run.
    pub fn roles(&self) -> Vec<&'static str> {
        let roles = [
            ("ingest", self.ingest.is_some()),
            ("query", self.query.is_some()),
            ("processor", self.processor.is_some()),
        ];
        roles.into_iter().filter(|(_, runs)| *runs).map(|(role, _)| role).collect()
    }
}

impl TryFrom<Up> for Plan {
    type Error = Error;

    fn try_from(mut up: Up) -> Result<Self, Error> {
        let data_dir = std::path::absolute(&up.data_dir)
            .map_err(|source| Error::DataDir { folder: up.data_dir.clone(), source })?;
        let archive_url = &mut up.processor.archive.archive_url;
        *archive_url = archive_url.replace(DATA_DIR, &data_dir.display().to_string());
        up.installation.dev |= up.demo;
        // An empty variable, as compose files have it, gives nothing.
        for address in [&mut up.installation.log.brokers, &mut up.installation.store.database_url] {
            if address.trim().is_empty() {
                EMBEDDED.clone_into(address);
            }
        }
        let embedded = embedded::Settings {
            broker: (up.installation.log.brokers == EMBEDDED).then_some(up.broker),
            store: up.installation.store.database_url == EMBEDDED,
            data_dir,
        };
        let archive = ArchiveLocation::parse(&up.processor.archive.archive_url).map_err(Error::ArchiveUrl)?;
        Ok(Self {
            listen: up.listen,
            installation: up.installation,
            ingest: Some(up.ingest),
            query: Some((up.query, archive)),
            processor: Some(up.processor),
            embedded,
            demo: up.demo,
        })
    }
}

impl From<Ingest> for Plan {
    fn from(Ingest { listen, installation, ingest }: Ingest) -> Self {
        Self {
            listen,
            installation,
            ingest: Some(ingest),
            query: None,
            processor: None,
            embedded: embedded::Settings::none(),
            demo: false,
        }
    }
}

impl From<Processor> for Plan {
    fn from(Processor { listen, installation, processor }: Processor) -> Self {
        Self {
            listen,
            installation,
            ingest: None,
            query: None,
            processor: Some(processor),
            embedded: embedded::Settings::none(),
            demo: false,
        }
    }
}

impl From<Query> for Plan {
    fn from(Query { listen, installation, query, archive }: Query) -> Self {
        Self {
            listen,
            installation,
            ingest: None,
            query: Some((query, archive)),
            processor: None,
            embedded: embedded::Settings::none(),
            demo: false,
        }
    }
}
