//! Waiting on conditions.

use anyhow::{Result, bail};
use std::{
    thread,
    time::{Duration, Instant},
};

/// For what should take a second or so but shares two cores with a compiler.
pub const PATIENCE: Duration = Duration::from_secs(60);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Tries until `attempt` succeeds; at the deadline fails with what it said last.
pub fn until<T>(what: &str, patience: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        let error = match attempt() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if Instant::now() + POLL_INTERVAL > deadline {
            bail!("not within {patience:?}: {what}; at last: {error:#}");
        }
        thread::sleep(POLL_INTERVAL);
    }
}
