//! What the environment gives a test run: a real Kafka, other people's programs, how many rounds, which seed.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Once,
};

/// `host:port` of a real Kafka to run the same checks on.
pub fn kafka() -> Option<String> {
    static SAID: Once = Once::new();
    let kafka = variable("MILLRACE_TEST_KAFKA");
    if kafka.is_none() {
        SAID.call_once(|| say_skipped("the checks on a real Kafka", "set MILLRACE_TEST_KAFKA=host:port"));
    }
    kafka
}

/// A Python that has `tests/python/requirements.txt` installed.
pub fn python(test: &str) -> Option<PathBuf> {
    let python = variable("MILLRACE_TEST_PYTHON");
    if python.is_none() {
        say_skipped(test, "set MILLRACE_TEST_PYTHON to check with Python's clients");
    }
    python.map(PathBuf::from)
}

/// A program of the machine.
pub fn program(test: &str, name: &str) -> Option<PathBuf> {
    let found = path().map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        say_skipped(test, &format!("there is no {name} here"));
    }
    found
}

/// The folder of Kafka's jars: what `deploy/dev/kafka.sh install` made, or what MILLRACE_TEST_KAFKA_JARS names.
pub fn kafka_jars(test: &str) -> Option<PathBuf> {
    let jars = variable("MILLRACE_TEST_KAFKA_JARS").map(PathBuf::from).or_else(installed_jars);
    let jars = jars.filter(|_| java_runs());
    if jars.is_none() {
        say_skipped(test, "no Java or no Kafka jars: `deploy/dev/kafka.sh install` gets them");
    }
    jars
}

/// How often a test of many rounds goes round.
pub fn rounds(default: u32) -> u32 {
    number("MILLRACE_TEST_ROUNDS").map_or(default, |rounds| u32::try_from(rounds).expect("it is small"))
}

/// The seed of what is random: a new one each time, or the one that a failed run printed.
pub fn seed() -> u64 {
    let bytes = *uuid::Uuid::new_v4().as_bytes().first_chunk().expect("an id has 16 bytes");
    seed_or(u64::from_le_bytes(bytes))
}

/// The same where each run is to be as the one before.
pub fn seed_or(default: u64) -> u64 {
    number("MILLRACE_TEST_SEED").unwrap_or(default)
}

/// Straight to standard error, which the test runner does not swallow.
pub fn say_skipped(test: &str, why: &str) {
    writeln!(std::io::stderr(), "skipped: {test}: {why}").expect("standard error is open");
}

fn installed_jars() -> Option<PathBuf> {
    let cache = variable("MILLRACE_CACHE").unwrap_or_else(|| "/var/cache/millrace".to_owned());
    let folders = Path::new(&cache).join("kafka/jars").read_dir().ok()?;
    let mut found: Vec<_> = folders.filter_map(|folder| Some(folder.ok()?.path())).collect();
    found.retain(|folder| {
        folder.is_dir() && folder.file_name().is_some_and(|n| !n.to_string_lossy().contains("tmp"))
    });
    found.sort();
    found.pop()
}

fn java_runs() -> bool {
    let mut java = Command::new("java");
    java.arg("-version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    java.status().is_ok_and(|status| status.success())
}

fn path() -> impl Iterator<Item = PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

fn number(name: &str) -> Option<u64> {
    variable(name).map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

#[expect(clippy::disallowed_methods, reason = "the test runner has no command line to take settings from")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
