//! Tells waiting from being stuck.

use anyhow::ensure;
use std::time::{Duration, Instant};

/// How long something may stand still before it counts as stuck.
pub const STALL_MAX: Duration = Duration::from_secs(60);

/// Something that should move, as it was seen last.
pub struct Watch<T> {
    seen: Option<T>,
    moved: Instant,
}

impl<T: PartialEq> Watch<T> {
    pub fn new() -> Self {
        Self { seen: None, moved: Instant::now() }
    }

    /// To be told at each look what there is. The error is `stuck`, once nothing has changed for too long.
    pub fn look(&mut self, now: T, stuck: impl FnOnce() -> String) -> anyhow::Result<()> {
        let now = Some(now);
        if now != self.seen {
            (self.seen, self.moved) = (now, Instant::now());
        }
        ensure!(self.moved.elapsed() < STALL_MAX, stuck());
        Ok(())
    }
}
