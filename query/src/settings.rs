//! Settings of the query service. Each is a limit of something that would otherwise grow with its clients or its data.

use clap::builder::RangedU64ValueParser;
use std::path::{Path, absolute};
use url::Url;

const MEBIBYTE: usize = 1024 * 1024;

/// What the query service holds and sends at most.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Query service")]
pub struct Settings {
    /// Records read back from the end of each partition of the `metrics` topic at start
    #[arg(long, env = "TAIL_RECORDS", default_value_t = 10_000, value_parser = clap::value_parser!(i64).range(0..=10_000_000))]
    pub tail_records: i64,
    /// Recent records held of each workspace
    #[arg(long, env = "RECENT_RECORDS", default_value_t = 1_000, value_parser = count(1, 100_000))]
    pub recent_records: usize,
    /// Recent records held of all workspaces, in MiB; the workspaces that hold most give way first
    #[arg(long, env = "RECENT_MIB", default_value_t = 256, value_parser = count(1, 65_536))]
    pub recent_mib: usize,
    /// Rows in one answer of aggregations; a longer one ends with a whole bucket and says where to go on
    #[arg(long, env = "AGGREGATION_ROWS", default_value_t = 10_000, value_parser = count(1, 1_000_000))]
    pub aggregation_rows: usize,
    /// Requests that wait for the records of a commit token; a further one is answered 503
    #[arg(long, env = "TOKEN_WAITS", default_value_t = 1_024, value_parser = count(1, 1_000_000))]
    pub token_waits: usize,
    /// Archive files opened for one answer of recent records
    #[arg(long, env = "ARCHIVE_FILES", default_value_t = 64, value_parser = count(1, 10_000))]
    pub archive_files: usize,
    /// Open WebSockets; a further one is answered 503
    #[arg(long, env = "SOCKETS", default_value_t = 1_024, value_parser = count(1, 1_000_000))]
    pub sockets: usize,
    /// Events waiting for one WebSocket; when there are more, the oldest are dropped and reported as a gap
    #[arg(long, env = "SOCKET_QUEUE_EVENTS", default_value_t = 4_096, value_parser = count(1, 1_000_000))]
    pub socket_queue_events: usize,
    /// The same limit in KiB
    #[arg(long, env = "SOCKET_QUEUE_KIB", default_value_t = 8_192, value_parser = count(1, 1_048_576))]
    pub socket_queue_kib: usize,
}

impl Settings {
    pub(crate) fn recent_bytes(&self) -> usize {
        self.recent_mib.saturating_mul(MEBIBYTE)
    }

    pub(crate) fn socket_queue_bytes(&self) -> usize {
        self.socket_queue_kib.saturating_mul(1024)
    }
}

fn count(least: u64, most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..=most)
}

/// Where the processor archives raw records. A binary that also runs the processor takes the URL from its settings.
#[derive(Clone, Debug, clap::Args)]
pub struct ArchiveLocation {
    /// The archive's folder: `file:///path`, `s3://bucket/prefix`, or a path
    #[arg(id = "archive_location", long = "archive-url", env = "ARCHIVE_URL", default_value = "file://./millrace-data/archive", value_parser = absolute_url)]
    pub url: String,
}

impl ArchiveLocation {
    /// Takes a URL, a path, or `file://` with a relative path.
    pub fn parse(text: &str) -> Result<Self, String> {
        absolute_url(text).map(|url| Self { url })
    }
}

fn absolute_url(text: &str) -> Result<String, String> {
    let path = match text.split_once("://") {
        None => text,
        Some(("file", path)) => path,
        Some(_) => {
            return Url::parse(text).map(|url| url.to_string()).map_err(|error| format!("{text}: {error}"));
        }
    };
    let path = absolute(Path::new(path)).map_err(|error| format!("{text}: {error}"))?;
    let url = Url::from_file_path(&path).map_err(|()| format!("{text}: not a path that a URL can hold"))?;
    Ok(url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        settings: Settings,
        #[command(flatten)]
        archive: ArchiveLocation,
    }

    #[test]
    fn defaults_are_within_their_own_bounds() {
        let cli = Cli::try_parse_from(["query"]).expect("the defaults parse");
        assert_eq!(cli.settings.recent_bytes(), 256 * MEBIBYTE);
        assert!(cli.archive.url.starts_with("file:///"), "{}", cli.archive.url);
        assert!(Cli::try_parse_from(["query", "--sockets", "0"]).is_err());
    }

    #[test]
    fn archive_urls_become_absolute() {
        let url = |text| ArchiveLocation::parse(text).map(|location| location.url);
        assert_eq!(url("/data/archive").as_deref(), Ok("file:///data/archive"));
        assert_eq!(url("file:///data/archive").as_deref(), Ok("file:///data/archive"));
        assert_eq!(url("s3://bucket/prefix").as_deref(), Ok("s3://bucket/prefix"));
        assert!(url("file://./here").is_ok_and(|url| url.starts_with("file:///") && url.ends_with("/here")));
    }
}
