//! Which roles run, and their settings: one command each, and `up` for all of them.

use super::Error;
use millrace_log::LogSettings;
use millrace_query::ArchiveLocation;
use millrace_tenancy::StoreSettings;

const LISTEN: &str = "127.0.0.1:3000";
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

#[derive(clap::Args)]
pub struct Up {
    /// Where HTTP requests are taken, `host:port`; port 0 takes a free one
    #[arg(long, env = "LISTEN_ADDR", default_value = LISTEN, value_name = "HOST:PORT")]
    pub listen: String,
    #[command(flatten)]
    pub installation: Installation,
    #[command(flatten, next_help_heading = "Ingest edge")]
    ingest: millrace_ingest::Settings,
    #[command(flatten, next_help_heading = "Query service")]
    query: millrace_query::Settings,
    #[command(flatten, next_help_heading = "Processor")]
    processor: millrace_processor::Settings,
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

    fn try_from(up: Up) -> Result<Self, Error> {
        let archive = ArchiveLocation::parse(&up.processor.archive.archive_url).map_err(Error::ArchiveUrl)?;
        Ok(Self {
            listen: up.listen,
            installation: up.installation,
            ingest: Some(up.ingest),
            query: Some((up.query, archive)),
            processor: Some(up.processor),
        })
    }
}

impl From<Ingest> for Plan {
    fn from(Ingest { listen, installation, ingest }: Ingest) -> Self {
        Self { listen, installation, ingest: Some(ingest), query: None, processor: None }
    }
}

impl From<Processor> for Plan {
    fn from(Processor { listen, installation, processor }: Processor) -> Self {
        Self { listen, installation, ingest: None, query: None, processor: Some(processor) }
    }
}

impl From<Query> for Plan {
    fn from(Query { listen, installation, query, archive }: Query) -> Self {
        Self { listen, installation, ingest: None, query: Some((query, archive)), processor: None }
    }
}
