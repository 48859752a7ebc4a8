//! What the operating system says of a process, from Linux's `/proc`; elsewhere nothing.

use std::fs;

/// Ticks a second of the times in `/proc` (USER_HZ): 100 on every Linux that Rust has a standard library for.
const TICKS_PER_S: f64 = 100.0;
const BYTES_PER_KIB: f64 = 1024.0;

/// Each value is absent where the system doesn't tell it.
#[derive(Debug, Default, PartialEq)]
pub struct Usage {
    pub cpu_s: Option<f64>,
    pub resident_bytes: Option<f64>,
    pub started_s: Option<f64>,
    pub threads: Option<f64>,
}

impl Usage {
    pub fn now() -> Self {
        Self::of("self")
    }

    /// Of the process with this id.
    pub fn of(process: &str) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let own = |file| read(&format!("/proc/{process}/{file}"));
        parse(&own("stat"), &own("status"), &read("/proc/stat"))
    }
}

fn parse(stat: &str, status: &str, system: &str) -> Usage {
    // The second field is the name in parentheses, which may hold anything; those after it are numbered from 3.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<f64>().ok());
    let (user, kernel, threads, started) = (number(14), number(15), number(20), number(22));
    let booted_s = line(system, "btime ");
    Usage {
        cpu_s: user.zip(kernel).map(|(user, kernel)| (user + kernel) / TICKS_PER_S),
        resident_bytes: line(status, "VmRSS:").map(|kib| kib * BYTES_PER_KIB),
        started_s: started.zip(booted_s).map(|(started, booted_s)| booted_s + started / TICKS_PER_S),
        threads,
    }
}

/// The number in the line that begins with `name`.
fn line(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_writes() {
        let stat =
            "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 9 0 12345 1000 25 18446744073709551615";
        let status = "Name:\tmillrace\nVmRSS:\t    2048 kB\nThreads:\t9\n";
        let usage = parse(stat, status, "cpu 1 2\nbtime 1700000000\n");
        let expected = Usage {
            cpu_s: Some(2.0),
            resident_bytes: Some(2_097_152.0),
            started_s: Some(1_700_000_123.45),
            threads: Some(9.0),
        };
        assert_eq!(usage, expected);
        assert_eq!(parse("", "", ""), Usage::default());
    }
}
