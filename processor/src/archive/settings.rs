//! Settings of the archive.

use crate::settings::Span;
use std::time::Duration;

const INTERVAL_MIN: Duration = Duration::from_secs(1);
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// Where raw records are archived, and how often.
#[derive(Clone, Debug, clap::Args)]
pub struct ArchiveSettings {
    /// Where the Parquet archive is: a folder (`file://…`, absolute or not) or a bucket (`s3://bucket/prefix`, with the
    /// usual AWS_… variables)
    #[arg(long, env = "ARCHIVE_URL", value_name = "URL", default_value = "file://./millrace-data/archive")]
    pub archive_url: String,
    /// The longest that a record waits for its file, 1s to 1h; shorter means more and smaller files
    #[arg(long, env = "ARCHIVE_INTERVAL", default_value = "30s", value_parser = parse_interval)]
    pub archive_interval: Span,
    /// The most records of one partition that are written at once; as many more are read meanwhile
    #[arg(long, env = "ARCHIVE_RECORDS", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub archive_records: u32,
    /// Keep no archive: records are only as old as the log
    #[arg(long, env = "NO_ARCHIVE")]
    pub no_archive: bool,
}

fn parse_interval(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error: crate::settings::InvalidSpan| error.to_string())?;
    if (INTERVAL_MIN..=INTERVAL_MAX).contains(&Duration::from(span)) {
        Ok(span)
    } else {
        Err(format!("{text} is not between 1s and 1h"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_bounded() {
        assert!(parse_interval("1s").is_ok() && parse_interval("1h").is_ok());
        assert!(
            parse_interval("999ms").is_err()
                && parse_interval("61m").is_err()
                && parse_interval("x").is_err()
        );
    }
}
