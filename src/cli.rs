//! The command line. `--help` is the reference of all settings.

use crate::{bench::Bench, logging, replay, roles};
use clap::{Parser, Subcommand};

/// Stream processing for query telemetry on a Kafka-compatible log
#[derive(Parser)]
#[command(name = "millrace", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub logging: logging::Settings,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Runs all roles in one process
    Up(Box<roles::Up>),
    /// Runs the ingest edge: HTTP requests become records of the log
    Ingest(Box<roles::Ingest>),
    /// Runs the processor: records become windows, and the archive
    Processor(Box<roles::Processor>),
    /// Runs the query service: REST and the live feed
    Query(Box<roles::Query>),
    /// Sends what a log of the past says as records
    #[command(subcommand)]
    Replay(Replay),
    /// Measures a part of Millrace beside its limit, in the same run
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Subcommand)]
pub enum Replay {
    /// Replays PostgreSQL's jsonlog or csvlog: each statement that a client ran is a record
    ///
    /// The workspace is the database and the service the application, both looked up or created by name. The server
    /// must log statements with their durations (log_min_duration_statement, log_min_duration_sample) and times in UTC
    /// (log_timezone = 'UTC').
    PostgresLog(Box<replay::Settings>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_log_and_a_database_are_all_that_up_needs() {
        let arguments =
            ["millrace", "up", "--kafka-brokers", "k:9092", "--database-url", "postgresql://u:p@h/d"];
        let cli = Cli::try_parse_from(arguments).expect("these are enough");
        let Command::Up(up) = cli.command else { panic!("it is `up`") };
        assert_eq!(up.listen, "127.0.0.1:3000");
        assert!(!up.installation.dev);
    }

    #[test]
    fn a_replay_names_its_files() {
        let parse = |files: &[&str]| {
            Cli::try_parse_from(["millrace", "replay", "postgres-log"].iter().chain(files)).is_ok()
        };
        assert!(parse(&["-", "--to", "-"]));
        assert!(parse(&["a.json", "b.csv.gz", "--to", "kafka://h:9092", "--speed", "10"]));
        assert!(!parse(&[]));
    }
}
