//! The command line. `--help` is the reference of all settings.

use crate::{audit, bench::Bench, logging, rebuild, replay, roles};
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
    /// Recomputes windows of the past from archive and log, shows where the stored ones differ, and replaces them
    ///
    /// It may run beside the roles. Without --apply nothing is changed.
    Rebuild(Box<rebuild::Settings>),
    /// Reads log and archive once more and checks that every record is in exactly one place, as the ledger says
    ///
    /// It may run beside the roles and changes nothing. It ends with 0 only if all agree.
    Audit(Box<audit::Settings>),
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

    fn parse(arguments: &[&str]) -> Result<Command, clap::Error> {
        Cli::try_parse_from(["millrace"].iter().chain(arguments)).map(|cli| cli.command)
    }

    #[test]
    fn up_needs_nothing() {
        let Ok(Command::Up(up)) = parse(&["up"]) else { panic!("it is `up`") };
        assert_eq!(up.listen, "127.0.0.1:3000");
        assert!(!up.installation.dev);
        let plan = roles::Plan::try_from(*up).expect("the defaults are valid");
        assert!(plan.embedded.store && plan.embedded.broker.is_some());
        assert!(plan.embedded.data_dir.is_absolute() && plan.embedded.data_dir.ends_with("millrace-data"));
        let archive = plan.processor.expect("it processes").archive.archive_url;
        assert_eq!(archive, format!("file://{}/archive", plan.embedded.data_dir.display()));
    }

    #[test]
    fn up_runs_only_what_is_not_given() {
        let arguments =
            ["up", "--kafka-brokers", "k:9092", "--database-url", "postgresql://u:p@h/d", "--demo"];
        let Ok(Command::Up(up)) = parse(&arguments) else { panic!("it is `up`") };
        let plan = roles::Plan::try_from(*up).expect("valid");
        assert!(!plan.embedded.store && plan.embedded.broker.is_none());
        assert!(plan.installation.dev, "the demo needs the development workspace");
    }

    #[test]
    fn an_empty_address_is_none() {
        let Ok(Command::Up(up)) = parse(&["up", "--database-url", "", "--kafka-brokers", "k:9092"]) else {
            panic!("it is `up`")
        };
        let plan = roles::Plan::try_from(*up).expect("valid");
        assert!(plan.embedded.store && plan.embedded.broker.is_none());
    }

    #[test]
    fn other_roles_must_be_given_addresses() {
        for role in ["ingest", "processor", "query"] {
            assert!(parse(&[role]).is_err(), "{role}");
            assert!(
                parse(&[role, "--kafka-brokers", "k:9092", "--database-url", "postgresql://h/d"]).is_ok()
            );
        }
    }

    #[test]
    fn a_rebuild_names_its_range() {
        let given = ["rebuild", "--database-url", "postgresql://h/d", "--from", "2026-11-21T10:00:00Z"];
        let with = |more: &[&str]| parse(&[&given[..], more].concat());
        assert!(with(&[]).is_err());
        let Ok(Command::Rebuild(settings)) = with(&["--to", "2026-11-21T12:05:00+02:00"]) else {
            panic!("it is `rebuild`")
        };
        assert!(settings.plan().is_ok() && !settings.apply && settings.log.brokers == "127.0.0.1:9092");
        let Ok(Command::Rebuild(settings)) = with(&["--to", "2026-11-21T10:01:00Z"]) else {
            panic!("it is `rebuild`")
        };
        assert!(settings.plan().is_err(), "not a multiple of 5 min");
        assert!(with(&["--to", "2026-11-21T10:05:00Z", "--yes"]).is_err(), "--yes is of --apply");
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
