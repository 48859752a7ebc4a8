//! The processor on a log and tables in memory, with a manual clock, under schedules of every kind: batches of any size,
//! repeats, any order of arrival, garbage, workers that die, stall, are put out and begin again at any point, partitions
//! that change hands, rules that change. A schedule is a function of its seed.
//!
//! What is tested is the stages' own core ([`super::chunk`], [`super::frame`], [`crate::window`], [`crate::sink::batch`],
//! [`crate::archive::partition`]); only the shells around it are the simulation's. One law: a record that was accepted is
//! counted, a duplicate or a dead letter, and the tables say what a brute-force count of the log says.

mod archive;
mod combine;
mod fault;
mod log;
mod producer;
mod random;
mod sink;
mod site;
mod truth;
mod windows;

use archive::Archiver;
use fault::Fault;
use log::Group;
use millrace_schemas::dead_letter::Reason;
use producer::{Kind, LATER_WORKSPACE, produce};
use sink::{Store, Tables};
use site::{Ending, Engine, Site, span};
use std::time::Duration;

/// What happens next, and how likely.
#[derive(Clone, Copy)]
enum Step {
    Produce,
    Wait,
    Silence,
    Combine,
    Windows,
    Sink,
    Archive,
    Move,
    Die,
    Garbage,
    CreateWorkspace,
    Replay,
    ChangeRules,
}

const STEPS: [(usize, Step); 13] = [
    (34, Step::Produce),
    (12, Step::Wait),
    (3, Step::Silence),
    (20, Step::Combine),
    (14, Step::Windows),
    (12, Step::Sink),
    (5, Step::Archive),
    (8, Step::Move),
    (4, Step::Die),
    (2, Step::Garbage),
    (2, Step::CreateWorkspace),
    (3, Step::Replay),
    (1, Step::ChangeRules),
];
const ENDINGS: [(usize, Ending); 5] = [
    (16, Ending::Committed),
    (2, Ending::Aborted),
    (1, Ending::DiesBefore),
    (2, Ending::DiesAfter),
    (3, Ending::Stalls),
];
const KINDS: [(usize, Kind); 5] =
    [(20, Kind::Fresh), (6, Kind::Repeat), (1, Kind::Garbage), (2, Kind::Future), (1, Kind::Stranger)];
/// Of a schedule.
const STEPS_MIN: usize = 10;
const STEPS_MORE: usize = 35;
/// More than enough to read all of a log.
const ALL: usize = 1_000;

struct World<'a> {
    site: Site<'a>,
    combine: Vec<combine::Worker>,
    windows: Vec<windows::Worker>,
    sinks: Vec<sink::Worker>,
    archive: Vec<Archiver>,
    tables: Tables,
    /// The raw partition that most records come to.
    hot: usize,
}

impl<'a> World<'a> {
    fn new(engine: &'a Engine, seed: u64, fault: Option<Fault>) -> Self {
        let mut site = Site::new(engine, seed, fault);
        let (raw, partials) = (site.log.raw.len(), site.log.partials.len());
        let workers = 1 + site.random.below(3);
        let group = Group::new(partials, workers);
        if site.orderly {
            (0..raw).for_each(|partition| produce(&mut site, partition, Kind::Fresh));
        }
        // A group may have more members than partitions.
        Self {
            combine: (0..3).map(combine::Worker::new).collect(),
            windows: (0..3).map(windows::Worker::new).collect(),
            sinks: (0..3).map(sink::Worker::new).collect(),
            archive: (0..).take(raw).map(Archiver::new).collect(),
            tables: Tables { store: Store::default(), group },
            hot: site.random.below(raw),
            site,
        }
    }

    fn step(&mut self) {
        let milliseconds = self.site.random.between(1, 400);
        self.site.pass(milliseconds);
        match self.site.random.weighted(&STEPS) {
            Step::Produce => self.produce(),
            Step::Wait => self.wait(),
            Step::Silence => self.silence(),
            Step::Combine => {
                let (worker, records) = (self.site.random.below(3), 1 + self.site.random.below(6));
                let ending = if self.site.orderly { Ending::Committed } else { self.ending() };
                self.combine[worker].step(&mut self.site, records, ending);
            }
            Step::Windows => {
                let (worker, frames, ending) =
                    (self.site.random.below(3), 1 + self.site.random.below(6), self.ending());
                let early = self.site.random.one_in(4);
                self.windows[worker].step(&mut self.site, frames, early, ending);
            }
            Step::Sink => {
                let (worker, records, ending) =
                    (self.site.random.below(3), 1 + self.site.random.below(20), self.ending());
                self.sinks[worker].step(&mut self.site, &mut self.tables, records, ending);
            }
            Step::Archive => {
                let (at, records) =
                    (self.site.random.below(self.archive.len()), 1 + self.site.random.below(6));
                let write = self.site.random.one_in(2).then(|| self.ending());
                self.archive[at].step(&mut self.site, records, write);
            }
            Step::Move => self.hand_over(),
            Step::Die => self.die(),
            Step::Garbage => self.garbage(),
            Step::CreateWorkspace => self.create_workspace(),
            Step::Replay => self.replay(),
            Step::ChangeRules => self.change_rules(),
        }
    }

    fn ending(&mut self) -> Ending {
        self.site.random.weighted(&ENDINGS)
    }

    fn produce(&mut self) {
        let partitions = self.site.log.raw.len();
        let partition =
            if self.site.random.one_in(3) { self.site.random.below(partitions) } else { self.hot };
        for _ in 0..=self.site.random.below(3) {
            let kind = match self.site.random.weighted(&KINDS) {
                // What was a dead letter could count now, out of its order.
                Kind::Repeat if self.site.orderly => Kind::Fresh,
                kind => kind,
            };
            produce(&mut self.site, partition, kind);
        }
    }

    fn wait(&mut self) {
        let seconds = if self.site.random.one_in(6) {
            self.site.random.between(30, 400)
        } else {
            self.site.random.between(0, 8)
        };
        self.site.pass(seconds * 1000);
    }

    /// No producer sends anything for a while, and all workers see that.
    fn silence(&mut self) {
        self.combine_all();
        let seconds = self.site.random.between(10, 400);
        self.site.pass(seconds * 1000);
        self.combine_all();
        for worker in &mut self.windows {
            worker.step(&mut self.site, ALL, false, Ending::Committed);
        }
    }

    fn hand_over(&mut self) {
        let to = self.site.random.below(3);
        let group = match self.site.random.below(3) {
            0 if self.site.orderly => return,
            0 => &mut self.site.log.combine,
            1 => &mut self.site.log.windows,
            _ => &mut self.tables.group,
        };
        let partition = self.site.random.below(group.partitions());
        group.hand_over(partition, to);
        self.site.tell(format_args!("partition {partition} goes to worker {to}"));
    }

    fn die(&mut self) {
        let worker = self.site.random.below(3);
        let stage = self.site.random.below(4);
        self.site.tell(format_args!("worker {worker} of stage {stage} dies"));
        match stage {
            0 if self.site.orderly => {}
            0 => self.combine[worker].die(),
            1 => self.windows[worker].die(),
            2 => self.sinks[worker].die(),
            _ => self.archive.iter_mut().for_each(Archiver::die),
        }
    }

    /// Anyone can write to a topic.
    fn garbage(&mut self) {
        let partition = self.site.random.below(self.site.log.partials.len());
        let topics =
            [&mut self.site.log.partials, &mut self.site.log.aggregates, &mut self.site.log.progress];
        let garbage =
            self.site.random.pick(&[&b""[..], b"garbage", b"M\x01\xff\xff\xff\xff", b"{}"]).to_vec();
        let topic = self.site.random.below(topics.len());
        topics.into_iter().nth(topic).expect("one of three")[partition].append(garbage);
    }

    fn create_workspace(&mut self) {
        let now = self.site.now;
        self.site.created.entry(LATER_WORKSPACE).or_insert(now);
    }

    /// A dead letter goes back to where it came from.
    fn replay(&mut self) {
        if self.site.orderly {
            return;
        }
        let letters: Vec<_> = self.site.log.letters.from(0).map(|(_, letter)| *letter).collect();
        let worth = letters.into_iter().filter(|(_, reason)| *reason != Reason::Invalid);
        let worth: Vec<_> = worth.collect();
        if !worth.is_empty() {
            let (letter, _) = *self.site.random.pick(&worth);
            let partition = log::index(letter.partition);
            let found = self.site.log.raw[partition].from(letter.offset).next();
            let (_, raw) = found.expect("it was read there");
            let (payload, truth) = (raw.payload.clone(), raw.truth.clone());
            producer::append(&mut self.site, partition, payload, truth);
        }
    }

    /// All that came is judged and archived by the old rules; then everything begins again with the new ones.
    fn change_rules(&mut self) {
        if self.site.orderly {
            return;
        }
        self.combine_all();
        self.archive_all();
        self.site.future_skew =
            Duration::from_secs(if self.site.future_skew.as_secs() == 10 { 60 } else { 10 });
        self.site.tell(format_args!("the rules change"));
        self.combine.iter_mut().for_each(combine::Worker::die);
        self.archive.iter_mut().for_each(Archiver::die);
    }

    fn combine_all(&mut self) {
        for worker in &mut self.combine {
            // More than once: the first may be the end of a stall, or find itself put out.
            for _ in 0..3 {
                worker.step(&mut self.site, ALL, Ending::Committed);
            }
        }
    }

    fn archive_all(&mut self) {
        for archiver in &mut self.archive {
            // A chunk that failed before, and what came after it.
            (0..2).for_each(|_| archiver.step(&mut self.site, ALL, Some(Ending::Committed)));
        }
    }

    /// Producers are silent, nothing fails any more, and time goes by.
    fn settle(&mut self) {
        self.site.tell(format_args!("settles"));
        self.site.windows.idle_after = span(1);
        self.site.rows_max = usize::MAX;
        self.combine_all();
        self.site.pass(3_600_000);
        self.combine_all();
        for worker in &mut self.windows {
            for _ in 0..4 {
                worker.step(&mut self.site, ALL, true, Ending::Committed);
            }
        }
        for worker in &mut self.sinks {
            for _ in 0..4 {
                worker.step(&mut self.site, &mut self.tables, ALL, Ending::Committed);
            }
        }
        self.archive_all();
    }

    fn check(&mut self) -> Result<(), String> {
        let places = truth::places(&self.site);
        truth::check_places(&self.site, &places)?;
        truth::check_ledger(&self.site, &places)?;
        self.site.broken.take().map_or(Ok(()), Err)?;
        truth::check_rows(&self.site, &places, &self.tables.store)?;
        truth::check_archive(&self.site, &places, &self.archive)?;
        truth::check_all_told(&self.site)
    }
}

/// What became of a schedule.
struct Outcome {
    trace: String,
    records: usize,
    result: Result<(), String>,
}

fn run(engine: &Engine, seed: u64, fault: Option<Fault>) -> Outcome {
    let mut world = World::new(engine, seed, fault);
    for _ in 0..STEPS_MIN + world.site.random.below(STEPS_MORE) {
        world.step();
    }
    world.settle();
    let result = world.check();
    let records = world.site.log.raw.iter().map(|topic| topic.from(0).count()).sum();
    world.site.trace.push_str(&serde_json::to_string(&world.tables.rows()).expect("plain data"));
    Outcome { trace: world.site.trace, records, result }
}

mod tests;
