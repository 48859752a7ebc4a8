//! Settings of the edge: its limits and how long it waits for the log.

use clap::builder::RangedU64ValueParser;
use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// How much the edge takes at once; beyond each limit it answers 413, 429 or 503.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Settings {
    /// The most bytes of one request's body, decompressed; a larger one is answered with 413
    #[arg(
        id = "ingest_body_bytes_max", long = "ingest-body-bytes-max", env = "INGEST_BODY_BYTES_MAX", default_value = "8388608",
        value_parser = RangedU64ValueParser::<usize>::new().range(KIB..=256 * MIB)
    )]
    pub body_bytes_max: usize,
    /// The most events of one request; more are answered with 413
    #[arg(
        id = "ingest_events_max", long = "ingest-events-max", env = "INGEST_EVENTS_MAX", default_value = "10000",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000)
    )]
    pub events_max: usize,
    /// The most requests being read or waiting for the log; further ones are answered with 503
    #[arg(
        id = "ingest_requests_max", long = "ingest-requests-max", env = "INGEST_REQUESTS_MAX", default_value = "1024",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000)
    )]
    pub requests_max: usize,
    /// The most bytes of bodies being read or waiting for the log, all requests together; beyond them the answer is
    /// 503. Memory in use is up to three times as much
    #[arg(
        id = "ingest_in_flight_bytes_max", long = "ingest-in-flight-bytes-max", env = "INGEST_IN_FLIGHT_BYTES_MAX",
        default_value = "67108864", value_parser = RangedU64ValueParser::<usize>::new().range(MIB..=16 * KIB * MIB)
    )]
    pub in_flight_bytes_max: usize,
    /// The most events a second that one key may send, on average; beyond it the answer is 429. 0 is no limit
    #[arg(
        id = "ingest_key_events_per_s", long = "ingest-key-events-per-s", env = "INGEST_KEY_EVENTS_PER_S", default_value_t = 0,
        value_parser = clap::value_parser!(u32).range(0..=100_000_000)
    )]
    pub key_events_per_s: u32,
    /// Milliseconds until a request that the log has not acknowledged is answered with 503
    #[arg(
        id = "ingest_delivery_timeout_ms", long = "ingest-delivery-timeout-ms", env = "INGEST_DELIVERY_TIMEOUT_MS",
        default_value_t = 1500, value_parser = clap::value_parser!(u64).range(100..=60_000)
    )]
    pub delivery_timeout_ms: u64,
    /// Seconds until a body that is still not whole is answered with 408
    #[arg(
        id = "ingest_body_timeout_s", long = "ingest-body-timeout-s", env = "INGEST_BODY_TIMEOUT_S",
        default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600)
    )]
    pub body_timeout_s: u64,
    /// Seconds that an event's `completed_at` may lie ahead of this machine's clock; the processor's `--future-skew` is
    /// what counts in the end
    #[arg(
        id = "ingest_future_skew_s", long = "ingest-future-skew-s", env = "INGEST_FUTURE_SKEW_S", default_value_t = 300,
        value_parser = clap::value_parser!(u64).range(0..=315_360_000)
    )]
    pub future_skew_s: u64,
}

/// Settings that can't be used together.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error(
        "--ingest-in-flight-bytes-max is {in_flight_bytes_max}: it must be at least twice --ingest-body-bytes-max, which is \
         {body_bytes_max}, or a compressed body of that size is never taken"
    )]
    InFlight { in_flight_bytes_max: usize, body_bytes_max: usize },
}

impl Settings {
    pub fn validate(&self) -> Result<(), SettingsError> {
        let Self { in_flight_bytes_max, body_bytes_max, .. } = *self;
        if in_flight_bytes_max < 2 * body_bytes_max {
            return Err(SettingsError::InFlight { in_flight_bytes_max, body_bytes_max });
        }
        Ok(())
    }

    pub fn delivery_timeout(&self) -> Duration {
        Duration::from_millis(self.delivery_timeout_ms)
    }

    pub fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.body_timeout_s)
    }

    pub fn future_skew(&self) -> Duration {
        Duration::from_secs(self.future_skew_s)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            body_bytes_max: 8 << 20,
            events_max: 10_000,
            requests_max: 1024,
            in_flight_bytes_max: 64 << 20,
            key_events_per_s: 0,
            delivery_timeout_ms: 1500,
            body_timeout_s: 30,
            future_skew_s: 300,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn the_defaults_are_those_of_the_command_line() {
        let parsed = Command::try_parse_from(["test"]).expect("no argument is required").settings;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Settings::default()));
        assert!(parsed.validate().is_ok());
    }

    #[test]
    fn a_body_that_never_fits_is_refused_at_start() {
        let settings = Settings { body_bytes_max: 64 << 20, ..Settings::default() };
        assert!(settings.validate().is_err());
        assert!(Command::try_parse_from(["test", "--ingest-events-max", "0"]).is_err());
    }
}
