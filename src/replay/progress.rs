//! The bar that shows how far a replay is; without a terminal, a line every few seconds instead.

use crate::replay::input::BytesRead;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

const LINE_INTERVAL: Duration = Duration::from_secs(5);
const WITH_TOTAL: &str = "{bar:30} {percent:>3}% {bytes}/{total_bytes} {msg}, {eta} left";
const WITHOUT_TOTAL: &str = "{spinner} {bytes} {msg}";

pub struct Progress {
    bar: ProgressBar,
    bytes_read: BytesRead,
    bytes_total: Option<u64>,
    started: Instant,
    is_terminal: bool,
    line_due: Instant,
}

impl Progress {
    /// `bytes_total` is the size of the input before decompression, where it is known.
    pub fn start(bytes_read: BytesRead, bytes_total: Option<u64>) -> Self {
        let template = if bytes_total.is_some() { WITH_TOTAL } else { WITHOUT_TOTAL };
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        let bar = bytes_total.map_or_else(ProgressBar::new_spinner, ProgressBar::new).with_style(style);
        let started = Instant::now();
        let is_terminal = std::io::stderr().is_terminal();
        Self { bar, bytes_read, bytes_total, started, is_terminal, line_due: started + LINE_INTERVAL }
    }

    pub fn update(&mut self, records: u64) {
        if self.is_terminal {
            self.bar.set_message(self.message(records));
            self.bar.set_position(self.bytes_read.get());
        } else if Instant::now() >= self.line_due {
            self.line_due = Instant::now() + LINE_INTERVAL;
            eprintln!("{}{}", self.percent(), self.message(records));
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn message(&self, records: u64) -> String {
        let rate = rate_per_s(records, self.elapsed());
        format!("{} records, {}/s", HumanCount(records), HumanCount(rate))
    }

    fn percent(&self) -> String {
        let percent =
            |total: u64| format!("{:3}% ", self.bytes_read.get().saturating_mul(100) / total.max(1));
        self.bytes_total.map(percent).unwrap_or_default()
    }
}

/// Rounded down; over less than a millisecond, as if it were one.
pub fn rate_per_s(records: u64, elapsed: Duration) -> u64 {
    let elapsed_ms = elapsed.as_millis().max(1);
    u64::try_from(u128::from(records) * 1000 / elapsed_ms).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second() {
        assert_eq!(rate_per_s(3_000, Duration::from_millis(1_500)), 2_000);
        assert_eq!(rate_per_s(0, Duration::ZERO), 0);
    }
}
