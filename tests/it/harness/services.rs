//! Where the services of a test run are.

use std::{io::Write as _, path::PathBuf};

/// The services that the environment names.
pub struct Services {
    /// `host:port`
    pub kafka: String,
    /// Of a role that may create databases.
    pub database_url: String,
}

impl Services {
    /// None, and a word on standard error, where one of them is not named.
    pub fn find(test: &str) -> Option<Self> {
        let services = variable("MILLRACE_TEST_KAFKA").zip(variable("MILLRACE_TEST_DATABASE_URL"));
        if services.is_none() {
            say_skipped(test, "set MILLRACE_TEST_KAFKA and MILLRACE_TEST_DATABASE_URL to run it");
        }
        services.map(|(kafka, database_url)| Self { kafka, database_url })
    }
}

/// A Python that has `tests/it/requirements.txt` installed.
pub fn python(test: &str) -> Option<PathBuf> {
    let python = variable("MILLRACE_TEST_PYTHON");
    if python.is_none() {
        say_skipped(test, "set MILLRACE_TEST_PYTHON to check with other people's clients too");
    }
    python.map(PathBuf::from)
}

/// Straight to standard error, which the test runner does not swallow.
pub fn say_skipped(test: &str, why: &str) {
    writeln!(std::io::stderr(), "skipped: {test}: {why}").expect("standard error is open");
}

#[expect(clippy::disallowed_methods, reason = "the test runner has no command line to take settings from")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
