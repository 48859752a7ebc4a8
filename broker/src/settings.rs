//! Settings of the embedded log.

use std::{fmt, str::FromStr, time::Duration};

/// The embedded, single-node, Kafka-compatible log.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Settings {
    /// Where the embedded log takes Kafka clients, `host:port`; port 0 takes a free one. It has no access control
    #[arg(long, env = "MILLRACE_LOG_LISTEN", default_value = "127.0.0.1:9092", value_name = "HOST:PORT")]
    pub log_listen: String,
    /// What clients are told to connect to; without it the address that they have reached
    #[arg(long, env = "MILLRACE_LOG_ADVERTISE", value_name = "HOST:PORT")]
    pub log_advertise: Option<String>,
    /// When acknowledged records are forced to the disk: `always` before the acknowledgement, `5ms` (any interval) at most
    /// so long after it and what the disk takes, `os` when the system pleases. A killed process loses none in any case
    #[arg(long, env = "MILLRACE_LOG_FSYNC", default_value = "5ms", value_name = "WHEN")]
    pub log_fsync: Fsync,
    /// The most connections at once; one more is closed at once
    #[arg(long, env = "MILLRACE_LOG_CONNECTIONS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub log_connections: u32,
    /// The largest request in bytes; a larger one closes its connection
    #[arg(long, env = "MILLRACE_LOG_REQUEST_BYTES", default_value_t = 100 << 20, value_parser = clap::value_parser!(u32).range(1 << 20..=1 << 30))]
    pub log_request_bytes: u32,
    /// The most bytes of requests being worked on, of all connections together; more wait unread
    #[arg(long, env = "MILLRACE_LOG_INFLIGHT_BYTES", default_value_t = 256 << 20, value_parser = clap::value_parser!(u32).range(1 << 20..=u32::MAX as i64))]
    pub log_inflight_bytes: u32,
    /// How many partitions a topic gets that a client only names
    #[arg(long, env = "MILLRACE_LOG_PARTITIONS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub log_partitions: u32,
}

/// When acknowledged records are forced to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before the acknowledgement.
    Always,
    /// At most this long after it.
    Within(Duration),
    /// When the operating system pleases.
    Os,
}

#[derive(Debug, thiserror::Error)]
#[error("it is `always`, `os`, or an interval of 1 to 60000 ms such as `5ms`")]
pub struct BadFsync;

impl FromStr for Fsync {
    type Err = BadFsync;

    fn from_str(text: &str) -> Result<Self, BadFsync> {
        match text {
            "always" => Ok(Self::Always),
            "os" => Ok(Self::Os),
            interval => {
                let number = interval.strip_suffix("ms").ok_or(BadFsync)?;
                let interval_ms: u64 = number.parse().map_err(|_| BadFsync)?;
                let interval =
                    (1..=60_000).contains(&interval_ms).then(|| Duration::from_millis(interval_ms));
                interval.map(Self::Within).ok_or(BadFsync)
            }
        }
    }
}

impl fmt::Display for Fsync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Os => f.write_str("os"),
            Self::Within(interval) => write!(f, "{}ms", interval.as_millis()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_read_as_it_is_shown() {
        for text in ["always", "os", "5ms", "60000ms"] {
            assert_eq!(text.parse::<Fsync>().expect("it is allowed").to_string(), text);
        }
        for text in ["", "5", "0ms", "60001ms", "-1ms", "5s", "never"] {
            assert!(text.parse::<Fsync>().is_err(), "{text}");
        }
    }
}
