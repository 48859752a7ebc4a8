//! Settings of the processor role.

use crate::archive::ArchiveSettings;
use std::{fmt, str::FromStr, time::Duration};

/// Everything the processor role can be told.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Settings {
    #[command(flatten)]
    pub admission: AdmissionSettings,
    #[command(flatten)]
    pub windows: WindowSettings,
    #[command(flatten)]
    pub archive: ArchiveSettings,
    /// Names this processor among others on the same log; two with one name put each other out
    #[arg(long, env = "INSTANCE_ID", default_value_t = host_name(), value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub instance_id: String,
    /// Threads that combine raw records; more than the topic has partitions are idle
    #[arg(long, env = "COMBINE_WORKERS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub combine_workers: u16,
    /// Minutes of the ledger that are older, in days, are deleted
    #[arg(long, env = "LEDGER_DAYS", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=3_650))]
    pub ledger_days: u16,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Settings {
    pub(crate) fn ledger_retention(&self) -> Duration {
        DAY * u32::from(self.ledger_days)
    }
}

/// Which raw records count.
#[derive(Clone, Debug, clap::Args)]
pub struct AdmissionSettings {
    /// Repeats of an id are seen at least this many records back in a partition; up to twice as many ids are held,
    /// about 30 bytes each
    #[arg(long, env = "DEDUPE_RECORDS", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub dedupe_records: u32,
    /// A record whose `completed_at` lies further ahead of the log's clock is a dead letter
    #[arg(long, env = "FUTURE_SKEW", default_value = "5m")]
    pub future_skew: Span,
}

impl Default for AdmissionSettings {
    fn default() -> Self {
        Self { dedupe_records: 1_000_000, future_skew: Span(Duration::from_secs(300)) }
    }
}

/// When windows close.
#[derive(Clone, Debug, clap::Args)]
pub struct WindowSettings {
    /// How far the watermark stays behind the newest event: records up to this much out of order are on time
    #[arg(long, env = "WATERMARK_DELAY", default_value = "2s")]
    pub watermark_delay: Span,
    /// A partition without new records for this long does not hold the watermark back
    #[arg(long, env = "IDLE_AFTER", default_value = "1s")]
    pub idle_after: Span,
    /// Closed windows stay in memory for this long in event time; later records are merged into the stored row
    #[arg(long, env = "LATE_HORIZON", default_value = "1m")]
    pub late_horizon: Span,
    /// How often windows that are still open are emitted, when they have changed
    #[arg(long, env = "EARLY_INTERVAL", default_value = "1s")]
    pub early_interval: Span,
    /// The most rows of open windows emitted at a time for a partition; the others follow in turn
    #[arg(long, env = "EARLY_ROWS", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub early_rows: u32,
    /// The longest that records wait to be combined into one transaction; those of a backlog may wait for 300 ms, if that is
    /// longer. Without a backlog all workers commit at the same times of the clock, so that windows close at once
    #[arg(long, env = "COMMIT_INTERVAL", default_value = "100ms")]
    pub commit_interval: Span,
    /// The most records combined in one transaction
    #[arg(long, env = "CHUNK_RECORDS", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub chunk_records: u32,
}

impl Default for WindowSettings {
    fn default() -> Self {
        Self {
            watermark_delay: Span(Duration::from_secs(2)),
            idle_after: Span(Duration::from_secs(1)),
            late_horizon: Span(Duration::from_secs(60)),
            early_interval: Span(Duration::from_secs(1)),
            early_rows: 2_000,
            commit_interval: Span(Duration::from_millis(100)),
            chunk_records: 262_144,
        }
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "processor".to_owned())
}

/// A duration of 1 ms to 24 h, written as `100ms`, `2s`, `5m` or `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(Duration);

const SPAN_MAX: Duration = DAY;

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no duration: write 1ms to 24h as a whole number with ms, s, m or h")]
pub struct InvalidSpan(String);

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        let invalid = || InvalidSpan(text.to_owned());
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(invalid()),
        };
        let span = Duration::from_millis(number.saturating_mul(unit_ms));
        if span.is_zero() || span > SPAN_MAX { Err(invalid()) } else { Ok(Self(span)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units_and_limits() {
        let parse = |text: &str| text.parse::<Span>().ok().map(Duration::from);
        assert_eq!(parse("100ms"), Some(Duration::from_millis(100)));
        assert_eq!(parse("24h"), Some(SPAN_MAX));
        for bad in ["", "5", "s", "0s", "25h", "1.5s", "-1s", "99999999999999999999h"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
