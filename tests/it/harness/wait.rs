//! Waiting on conditions.

use anyhow::{Context as _, Result};
use std::{fmt::Write as _, time::Duration};
use tokio::time::{Instant, sleep, timeout_at};

/// For what should take a second or so but shares two cores with a compiler.
pub const PATIENCE: Duration = Duration::from_secs(60);

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Tries until `attempt` succeeds; at the deadline fails with what it said last.
pub async fn until<T>(
    what: &str,
    patience: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    let mut last = None;
    loop {
        match timeout_at(deadline, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = Some(error),
            Err(_) => break,
        }
        if Instant::now() + POLL_INTERVAL > deadline {
            break;
        }
        sleep(POLL_INTERVAL).await;
    }
    let mut said = format!("not within {patience:?}: {what}");
    if let Some(error) = last {
        write!(said, "; at last: {error:#}").context("formatting")?;
    }
    anyhow::bail!(said)
}
