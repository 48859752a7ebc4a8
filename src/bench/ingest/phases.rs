//! Where the time of an acknowledged request went, from the edge's own histograms.

use crate::bench::{
    site::role::{Role, metric},
    table::{Table, maybe},
};
use serde::Serialize;

const METRIC: &str = "millrace_ingest_phase_seconds";
const NAMES: [&str; 5] = ["authenticate", "read", "parse", "append", "acknowledge"];

/// The sums of all phases so far, in seconds, and how many requests they are of.
pub struct Sums {
    seconds: [f64; NAMES.len()],
    requests: f64,
}

/// Microseconds of a request, on average.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Phases {
    pub authenticate: f64,
    pub read: f64,
    pub parse: f64,
    pub append: f64,
    pub acknowledge: f64,
    /// What the client waited beyond these: HTTP, sockets and turns on the processor. Unknown at a rate, where the client
    /// counts from when it should have sent.
    pub outside: Option<f64>,
}

impl Sums {
    pub async fn of(edge: &Role) -> anyhow::Result<Self> {
        let text = edge.metrics().await?;
        let of = |what: &str, phase: &str| {
            metric(&text, &format!("{METRIC}_{what}"), &format!("phase=\"{phase}\""))
        };
        Ok(Self { seconds: NAMES.map(|phase| of("sum", phase)), requests: of("count", NAMES[0]) })
    }

    /// Between then and now; `waited_us` is what a client waited on average.
    pub fn until(&self, now: &Self, waited_us: Option<f64>) -> Phases {
        let requests = (now.requests - self.requests).max(1.0);
        let us = |phase: usize| (now.seconds[phase] - self.seconds[phase]) / requests * 1e6;
        let all: f64 = (0..NAMES.len()).map(us).sum();
        Phases {
            authenticate: us(0),
            read: us(1),
            parse: us(2),
            append: us(3),
            acknowledge: us(4),
            outside: waited_us.map(|waited| (waited - all).max(0.0)),
        }
    }
}

/// A row for each run, by its name.
pub fn table<'a>(runs: impl Iterator<Item = (String, &'a Phases)>) -> Table {
    let mut table = Table::new(&[
        "microseconds of a request",
        "authenticate",
        "read the body",
        "parse, validate, encode",
        "hand to the client",
        "wait for the log",
        "HTTP, sockets, turns",
    ]);
    let show = |us: f64| format!("{us:.0}");
    for (name, phases) in runs {
        let Phases { authenticate, read, parse, append, acknowledge, outside } = *phases;
        let mut cells = vec![name];
        cells.extend([authenticate, read, parse, append, acknowledge].map(show));
        cells.push(maybe(outside, show));
        table.row(cells);
    }
    table
}
