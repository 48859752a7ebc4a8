//! An outage of something that is retried for ever: growing pauses between the tries, and one message at its begin and
//! one at its end. Pure: time is an argument.

use std::{
    error::Error,
    fmt,
    time::{Duration, Instant},
};

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Nothing is out at first.
#[derive(Debug, Default)]
pub struct Outage {
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    since: Instant,
    retry_at: Instant,
    pause: Duration,
}

impl Outage {
    /// A try has failed at `now`; true when this begins the outage.
    pub fn failed(&mut self, now: Instant) -> bool {
        let begins = self.current.is_none();
        let current = self.current.get_or_insert(Current { since: now, retry_at: now, pause: PAUSE_MIN });
        current.retry_at = now + current.pause;
        current.pause = (current.pause * 2).min(PAUSE_MAX);
        begins
    }

    /// A try has succeeded at `now`; how long the outage was, when this ends one.
    pub fn ended(&mut self, now: Instant) -> Option<Duration> {
        self.current.take().map(|current| now.saturating_duration_since(current.since))
    }

    /// How long the next try has to wait; `None` when it need not.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        let wait = self.current.as_ref()?.retry_at.saturating_duration_since(now);
        (!wait.is_zero()).then_some(wait)
    }
}

/// An error with its causes, on one line; a cause that its error has told already is not told again.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let told = error.to_string();
            if !text.contains(&told) {
                text.push_str(": ");
                text.push_str(&told);
            }
            cause = error.source();
        }
        f.write_str(&text.replace('\n', " "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_once_pauses_longer_each_time_and_ends_once() {
        let start = Instant::now();
        let mut outage = Outage::default();
        assert_eq!((outage.wait(start), outage.ended(start)), (None, None));
        assert!(outage.failed(start));
        assert_eq!(outage.wait(start), Some(PAUSE_MIN));
        assert_eq!(outage.wait(start + PAUSE_MIN), None);
        assert!(!outage.failed(start + PAUSE_MIN));
        assert_eq!(outage.wait(start + PAUSE_MIN), Some(PAUSE_MIN * 2));
        for _ in 0..20 {
            outage.failed(start);
        }
        assert_eq!(outage.wait(start), Some(PAUSE_MAX));
        assert_eq!(outage.ended(start + PAUSE_MAX), Some(PAUSE_MAX));
        assert_eq!((outage.wait(start), outage.ended(start)), (None, None));
    }

    #[test]
    fn a_chain_is_one_line_without_repeats() {
        #[derive(Debug, thiserror::Error)]
        #[error("{text}")]
        struct Link {
            text: &'static str,
            source: Option<Box<Link>>,
        }
        let link = |text, source: Option<Link>| Link { text, source: source.map(Box::new) };
        let error = link("writing x", Some(link("generic: no\nbucket", Some(link("no\nbucket", None)))));
        assert_eq!(Chain(&error).to_string(), "writing x: generic: no bucket");
    }
}
