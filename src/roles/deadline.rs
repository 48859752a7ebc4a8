//! How long an end may take, all together: whoever sent the signal kills what is not gone in time.

use std::{sync::OnceLock, time::Duration};
use tokio::time::{Instant, timeout_at};

/// The part of it that requests in flight may take.
pub const REQUESTS: Duration = Duration::from_millis(3_000);
/// And with them what the edge has in flight.
pub const EDGE: Duration = Duration::from_millis(3_500);
/// And with them what the processor has begun. Cut off there it loses nothing: what it has not committed is in the log, and
/// its next start begins from there.
pub const PROCESSOR: Duration = Duration::from_millis(7_000);
/// From the first step to the last.
pub const ALL: Duration = Duration::from_secs(8);

/// Begins when it is first asked for.
#[derive(Default)]
pub struct Deadline(OnceLock<Instant>);

impl Deadline {
    /// Waits for `step`, until the end has taken as long as `part`; `None` if that was not enough.
    pub async fn within<T>(&self, part: Duration, step: impl Future<Output = T>) -> Option<T> {
        let began = *self.0.get_or_init(Instant::now);
        timeout_at(began + part, step).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test]
    async fn what_one_step_takes_the_next_ones_have_not() {
        let (deadline, part) = (Deadline::default(), Duration::from_secs(1));
        let began = Instant::now();
        assert_eq!(deadline.within(part, pending::<()>()).await, None);
        assert_eq!(deadline.within(part, async { "at once" }).await, Some("at once"));
        assert_eq!(deadline.within(part, pending::<()>()).await, None);
        let took = began.elapsed();
        assert!(took >= part && took < 2 * part, "{took:?}");
    }

    #[test]
    fn each_step_has_some_of_it_and_all_end_within_ten_seconds() {
        assert!(REQUESTS < EDGE && EDGE < PROCESSOR && PROCESSOR < ALL);
        assert!(ALL < Duration::from_secs(10));
    }
}
