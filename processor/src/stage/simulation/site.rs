//! What all stages share: the log, the clock, chance, the rules, and the trace.

use super::{
    fault::Fault,
    log::{Log, Transaction},
    producer::FIRST_WORKSPACE,
    random::Random,
    sink::Store,
};
use crate::{
    plan::Plan,
    settings::{AdmissionSettings, Span, WindowSettings},
};
use hashbrown::HashMap;
use millrace_schemas::{EventTime, WorkspaceId};
use std::{fmt::Write as _, time::Duration};
use tokio::runtime::Runtime;

/// Made once for all schedules of a thread.
pub struct Engine {
    pub plan: Plan,
    pub runtime: Runtime,
}

impl Engine {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let plan = runtime.block_on(Plan::declare()).expect("it can be planned");
        Self { plan, runtime }
    }
}

pub fn span(seconds: u64) -> Span {
    format!("{seconds}s").parse().expect("within its limits")
}

/// How a stage's transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Committed,
    /// The log aborts it: the worker begins again.
    Aborted,
    /// The worker dies with nothing sent.
    DiesBefore,
    /// The worker dies when it is committed.
    DiesAfter,
    /// The worker stalls with all prepared; the others go on.
    Stalls,
}

pub struct Site<'a> {
    pub engine: &'a Engine,
    pub fault: Option<Fault>,
    pub random: Random,
    pub log: Log,
    pub now: EventTime,
    pub created: HashMap<WorkspaceId, EventTime>,
    pub windows: WindowSettings,
    /// Of a transaction of windows.
    pub rows_max: usize,
    pub dedupe_records: u32,
    pub future_skew: Duration,
    /// All comes in order, and no raw partition falls idle: nothing may be late.
    pub orderly: bool,
    /// Ids given so far.
    pub ids: u64,
    /// What the committed rows come to.
    pub emitted: Store,
    pub trace: String,
    /// The first law that was broken.
    pub broken: Option<String>,
}

impl<'a> Site<'a> {
    pub fn new(engine: &'a Engine, seed: u64, fault: Option<Fault>) -> Self {
        let mut random = Random::new(seed);
        let orderly = random.one_in(5);
        let (raw, partials, workers) = (1 + random.below(3), 1 + random.below(2), 1 + random.below(3));
        let now = EventTime(1_700_000_000_000_000);
        let windows = WindowSettings {
            watermark_delay: span(*random.pick(&[1, 2, 5])),
            idle_after: span(if orderly { 86_400 } else { 1 }),
            late_horizon: span(*random.pick(&[1, 20, 60])),
            early_rows: *random.pick(&[1, 3, 2_000]),
            ..WindowSettings::default()
        };
        Self {
            engine,
            fault,
            log: Log::new(raw, partials, workers),
            now,
            created: [(FIRST_WORKSPACE, now)].into_iter().collect(),
            windows,
            rows_max: *random.pick(&[1, 2, 5, 5_000]),
            dedupe_records: if orderly { 1_000 } else { *random.pick(&[2, 5, 1_000]) },
            future_skew: Duration::from_secs(10),
            random,
            orderly,
            ids: 0,
            emitted: Store::default(),
            trace: String::new(),
            broken: None,
        }
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub fn admission(&self) -> AdmissionSettings {
        AdmissionSettings {
            dedupe_records: self.dedupe_records,
            future_skew: span(self.future_skew.as_secs()),
        }
    }

    /// The log's clock has milliseconds.
    pub fn append_time(&self) -> EventTime {
        EventTime::from_millis(self.now.as_millis())
    }

    pub fn pass(&mut self, milliseconds: i64) {
        self.now = EventTime(self.now.as_micros() + milliseconds * 1000);
    }

    pub fn tell(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.trace, "{} {line}", self.now).expect("a string takes all");
    }

    pub fn breaks(&mut self, law: String) {
        self.broken.get_or_insert(law);
    }

    /// Whether the transaction is committed; whether its worker goes on is another matter.
    pub fn end(&mut self, transaction: Transaction, ending: Ending) -> bool {
        let fenced = self.log.fences(&transaction) && !self.has(Fault::MemberNotNamed);
        let commit = !fenced && matches!(ending, Ending::Committed | Ending::DiesAfter);
        if ending != Ending::DiesBefore {
            self.log.end(transaction, commit);
        }
        self.tell(format_args!("  {ending:?}{}", if fenced { ", fenced" } else { "" }));
        commit
    }
}
