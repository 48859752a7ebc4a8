//! What is seen while a rebuild works: a bar on a terminal, and the differences as they are found.

use indicatif::{ProgressBar, ProgressStyle};
use millrace_processor::rebuild::{Difference, Observer, Phase};
use std::{
    io::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

const COUNTED: &str = "{msg} {bar:30} {human_pos}/{human_len} {per_sec}, {eta} left";
const UNCOUNTED: &str = "{msg} {spinner} {elapsed}";

/// The first of them are kept, or all are printed as lines of JSON.
#[derive(Clone)]
pub struct Differences(Arc<Mutex<Found>>);

struct Found {
    json: bool,
    examples_max: usize,
    examples: Vec<Difference>,
    written: io::Result<()>,
}

impl Differences {
    pub fn new(json: bool, examples_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Found { json, examples_max, examples: Vec::new(), written: Ok(()) })))
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn examples(&self) -> Vec<Difference> {
        self.found().examples.clone()
    }

    /// Whether all could be printed.
    pub fn written(&self) -> io::Result<()> {
        std::mem::replace(&mut self.found().written, Ok(()))
    }

    fn add(&self, difference: &Difference) {
        let mut found = self.found();
        if found.json && found.written.is_ok() {
            let line = serde_json::to_string(difference).expect("a difference is plain data");
            found.written = writeln!(io::stdout(), "{line}");
        } else if found.examples.len() < found.examples_max {
            found.examples.push(difference.clone());
        }
    }
}

pub struct Watch {
    bar: ProgressBar,
    differences: Differences,
}

impl Watch {
    pub fn new(differences: Differences) -> Self {
        Self { bar: ProgressBar::hidden(), differences }
    }
}

impl Observer for Watch {
    fn begin(&mut self, phase: Phase, total: u64) {
        self.end();
        let (bar, template) = match total {
            0 => (ProgressBar::new_spinner(), UNCOUNTED),
            total => (ProgressBar::new(total), COUNTED),
        };
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        self.bar = bar.with_style(style).with_message(name(phase));
        self.bar.enable_steady_tick(std::time::Duration::from_millis(200));
    }

    fn advance(&mut self, done: u64) {
        self.bar.inc(done);
    }

    fn difference(&mut self, difference: &Difference) {
        self.differences.add(difference);
    }

    fn end(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Archive => "records of the archive",
        Phase::Log => "records of the log",
        Phase::Waiting => "waits until all of it is stored",
        Phase::Compare => "compares, by 5 min",
    }
}
