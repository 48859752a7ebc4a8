//! The same random requests to the embedded broker and to a real Kafka, and their answers compared field by field.
//!
//! Each round has topics of its own, and its requests follow from a seed: the same ones in every run, or with
//! `MILLRACE_TEST_SEED` and `MILLRACE_TEST_ROUNDS` others and more. What is known to differ is in `allowed`, with the reason.

mod allowed;
mod groups;
mod members;
mod normal;
mod records;
mod side;
mod stored;
mod topics;
mod transactions;

use crate::harness::{Backend, Random, kafka, on_embedded_syncing, rounds, seed_or};
use anyhow::{Context as _, Result, ensure};
use side::Side;

const ROUNDS: u32 = 6;
const FIRST_SEED: u64 = 1;
const OPERATIONS: usize = 250;
/// More than this say nothing new.
const SHOWN: usize = 12;

/// One request, or a few that belong together, to be sent to either side.
pub struct Operation {
    /// As a failing run shows it.
    pub text: String,
    /// Sends it and tells the answer, normalised.
    pub run: Run,
}

type Run = Box<dyn Fn(&mut Side) -> Result<String>>;

impl Operation {
    pub fn new(text: String, run: impl Fn(&mut Side) -> Result<String> + 'static) -> Self {
        Self { text, run: Box::new(run) }
    }
}

/// The names that a round uses.
pub struct Names {
    pub topics: Vec<String>,
    pub groups: Vec<String>,
    pub transactions: Vec<String>,
    /// Milliseconds; what is produced is of about this time.
    pub base_time: i64,
}

impl Names {
    fn new(backend: &Backend) -> Self {
        let prefix = backend.unique("d");
        let named = |what: &str, count| (0..count).map(|n| format!("{prefix}-{what}{n}")).collect();
        let base_time = millrace_broker::clock::now_ms() - 3_600_000;
        Self { topics: named("t", 4), groups: named("g", 2), transactions: named("x", 2), base_time }
    }
}

#[test]
fn same_answers() -> Result<()> {
    if kafka().is_none() {
        return Ok(());
    }
    let first = seed_or(FIRST_SEED);
    for round in 0..u64::from(rounds(ROUNDS)) {
        let seed = first.wrapping_add(round);
        eprintln!("MILLRACE_TEST_SEED={seed}");
        // What is written is shown at once, as by Kafka.
        on_embedded_syncing("os", "differential", move |ours| compare(ours, seed))
            .with_context(|| format!("with MILLRACE_TEST_SEED={seed} MILLRACE_TEST_ROUNDS=1"))?;
    }
    Ok(())
}

fn compare(ours: &Backend, seed: u64) -> Result<()> {
    let kafka = kafka().context("it was there a moment ago")?;
    let names = Names::new(ours);
    let mut random = Random::new(seed);
    let mut sides = [Side::new(&ours.bootstrap)?, Side::new(&kafka)?];
    let mut differences = Vec::new();
    for number in 0..OPERATIONS {
        let operation = choose(&mut random, &names);
        let [mine, theirs] = sides.each_mut().map(|side| {
            let answer = (operation.run)(side);
            answer.unwrap_or_else(|error| side.after_failure(&error))
        });
        if mine != theirs && !allowed::known(&operation.text, &mine, &theirs) {
            differences.push(format!("{number}: {}\n  ours:  {mine}\n  Kafka: {theirs}", operation.text));
        }
        if differences.len() >= SHOWN {
            break;
        }
    }
    sides.iter_mut().try_for_each(|side| side.clear(&names))?;
    ensure!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    Ok(())
}

fn choose(random: &mut Random, names: &Names) -> Operation {
    match random.below(20) {
        0..=3 => topics::choose(random, names),
        4..=10 => records::choose(random, names),
        11..=15 => groups::choose(random, names),
        _ => transactions::choose(random, names),
    }
}
