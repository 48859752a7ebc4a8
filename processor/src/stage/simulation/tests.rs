//! Many seeds, on as many threads as there are cores. `MILLRACE_SIMULATIONS=100000` runs more of them, and
//! `MILLRACE_SIMULATION_SEED=17` that one alone, and shows its trace.

use super::{Engine, Fault, Outcome, run};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

const SCHEDULES: u64 = 2_000;
/// A planted bug must be found within as many.
const SCHEDULES_TO_FIND: u64 = 2_000;
const ALONE: &str = "MILLRACE_SIMULATION_SEED";

#[expect(clippy::disallowed_methods, reason = "the test runner has no command line to take settings from")]
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// Runs one schedule; a panic of what is tested is a failure like any other.
fn attempt(engine: &Engine, seed: u64, fault: Option<Fault>) -> Outcome {
    let failed = |panic: Box<dyn Any + Send>| Outcome {
        trace: String::new(),
        records: 0,
        result: Err(format!("panic: {:?}", panic.downcast_ref::<String>())),
    };
    catch_unwind(AssertUnwindSafe(|| run(engine, seed, fault))).unwrap_or_else(failed)
}

/// The first seed below `count` that breaks a law, of those tried until then, and how many records there were.
fn search(count: u64, fault: Option<Fault>) -> (Option<(u64, String)>, usize) {
    let (next, records) = (AtomicU64::new(0), Mutex::new(0));
    let found = Mutex::new(None::<(u64, String)>);
    let work = || {
        let engine = Engine::start();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count {
                break;
            }
            let outcome = attempt(&engine, seed, fault);
            *records.lock().expect("no panic holds it") += outcome.records;
            if let Err(law) = outcome.result {
                next.store(count, Ordering::Relaxed);
                let mut found = found.lock().expect("no panic holds it");
                if found.as_ref().is_none_or(|(before, _)| seed < *before) {
                    *found = Some((seed, law));
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let records = *records.lock().expect("all have ended");
    (found.into_inner().expect("all have ended"), records)
}

#[test]
fn any_schedule_counts_every_record_once() {
    if let Some(seed) = setting(ALONE) {
        let outcome = run(&Engine::start(), seed, None);
        println!("{}", outcome.trace);
        outcome.result.unwrap_or_else(|law| panic!("seed {seed}: {law}"));
        return;
    }
    let count = setting("MILLRACE_SIMULATIONS").unwrap_or(SCHEDULES);
    let (found, records) = search(count, None);
    println!("{count} schedules with {records} records");
    if let Some((seed, law)) = found {
        panic!(
            "seed {seed}: {law}\nAlone, with its trace: {ALONE}={seed} cargo test --workspace --lib -- --nocapture any_schedule"
        );
    }
    assert!(records > 0, "nothing was simulated");
}

#[test]
fn a_seed_run_twice_prints_the_same_bytes() {
    let (one, other) = (Engine::start(), Engine::start());
    for seed in 0..20 {
        let (first, second) = (run(&one, seed, None), run(&other, seed, None));
        assert!(first.trace.len() > 1_000, "seed {seed} tells too little");
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}

#[test]
fn planted_bugs_are_found() {
    for fault in Fault::ALL {
        let (found, _) = search(SCHEDULES_TO_FIND, Some(fault));
        let Some((seed, law)) = found else {
            panic!("{fault:?} is not found within {SCHEDULES_TO_FIND} schedules")
        };
        println!("{fault:?} is found by seed {seed}: {}", law.chars().take(120).collect::<String>());
    }
}
