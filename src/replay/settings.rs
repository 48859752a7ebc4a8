//! What `millrace replay postgres-log` can be told.

use std::{fmt, path::PathBuf, str::FromStr};
use url::Url;

/// Reads PostgreSQL's jsonlog and csvlog and sends each statement that a client ran as a record.
///
/// The workspace is the database and the service the application, both looked up or created by name. Statements need
/// log_min_duration_statement or log_min_duration_sample, and log_timezone = 'UTC'.
#[derive(Clone, clap::Args)]
pub struct Settings {
    /// Logs: jsonlog or csvlog, plain, gzip or zstd; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where the records go: an edge `http(s)://host:port`, a log `kafka://host:port[,host:port][/topic]`, or `-` for
    /// one JSON record a line on standard output
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3000")]
    pub to: Target,
    /// How fast: `1` as it happened, `10` ten times as fast (any factor from 0.01 to 1000), or `max`
    #[arg(long, default_value = "max")]
    pub speed: Speed,
    /// An administrator's key, for an edge
    #[arg(long, env = "MILLRACE_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub api_key: Option<String>,
    /// The database that knows the names' ids, for a log; for `-`, without it the ids are made from the names alone
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// Put before the name of the topic `metrics`, where the URL names no topic
    #[arg(long, env = "TOPIC_PREFIX", default_value = "millrace.")]
    pub topic_prefix: String,
    /// A further librdkafka client property (may be repeated), for example `sasl.username=me`
    #[arg(
        long = "kafka-property",
        env = "KAFKA_PROPERTIES",
        hide_env_values = true,
        value_name = "NAME=VALUE",
        value_delimiter = ';'
    )]
    pub kafka_properties: Vec<String>,
    /// The most records in one request to an edge
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub batch_records: u16,
    /// Requests to an edge at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub requests: u16,
    /// Exit with 1 if a line was broken or a record was not accepted
    #[arg(long)]
    pub strict: bool,
}

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Edge(Url),
    Log { brokers: String, topic: Option<String> },
    Stdout,
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no target: write http(s)://host:port, kafka://host:port[,host:port][/topic] or -")]
pub struct InvalidTarget(String);

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let invalid = || InvalidTarget(text.to_owned());
        if text == "-" {
            return Ok(Self::Stdout);
        }
        if let Some(rest) = text.strip_prefix("kafka://") {
            let (brokers, topic) = rest.split_once('/').unwrap_or((rest, ""));
            if brokers.is_empty() {
                return Err(invalid());
            }
            let topic = (!topic.is_empty()).then(|| topic.to_owned());
            return Ok(Self::Log { brokers: brokers.to_owned(), topic });
        }
        let url = Url::parse(text).map_err(|_| invalid())?;
        if matches!(url.scheme(), "http" | "https") && url.has_host() {
            Ok(Self::Edge(url))
        } else {
            Err(invalid())
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edge(url) => write!(f, "{url}"),
            Self::Log { brokers, topic: Some(topic) } => write!(f, "kafka://{brokers}/{topic}"),
            Self::Log { brokers, topic: None } => write!(f, "kafka://{brokers}"),
            Self::Stdout => f.write_str("standard output"),
        }
    }
}

/// How many times faster than it happened; `None` does not wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed(pub Option<f64>);

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no speed: write `max` or a factor from 0.01 to 1000")]
pub struct InvalidSpeed(String);

impl FromStr for Speed {
    type Err = InvalidSpeed;

    fn from_str(text: &str) -> Result<Self, InvalidSpeed> {
        if text == "max" {
            return Ok(Self(None));
        }
        let factor = text.parse().ok().filter(|factor| (0.01..=1000.0).contains(factor));
        factor.map(|factor| Self(Some(factor))).ok_or_else(|| InvalidSpeed(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_told_by_their_scheme() {
        let shown = |text: &str| text.parse::<Target>().map(|target| target.to_string()).ok();
        assert_eq!(shown("http://127.0.0.1:3000").as_deref(), Some("http://127.0.0.1:3000/"));
        assert_eq!(shown("kafka://a:1,b:2").as_deref(), Some("kafka://a:1,b:2"));
        assert_eq!(shown("kafka://a:1/topic").as_deref(), Some("kafka://a:1/topic"));
        assert_eq!(shown("kafka://a:1/").as_deref(), Some("kafka://a:1"));
        assert_eq!(shown("-").as_deref(), Some("standard output"));
        for bad in ["", "localhost:3000", "kafka://", "ftp://host", "file:///log"] {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_speed_is_a_factor_or_max() {
        assert_eq!("max".parse::<Speed>().ok(), Some(Speed(None)));
        assert_eq!("10".parse::<Speed>().ok(), Some(Speed(Some(10.0))));
        for bad in ["0", "-1", "fast", "NaN", "1001"] {
            assert!(bad.parse::<Speed>().is_err(), "{bad}");
        }
    }
}
