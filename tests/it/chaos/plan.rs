//! What goes wrong, and when: a function of the seed alone.

use super::random::Random;
use std::{fmt, time::Duration};

/// Of the processors' consumers, and what their pauses must be longer than.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// A long run settles and is checked after each phase of at most so many kills.
const PHASE_KILLS_MAX: usize = 40;
/// Shorter than this a phase would not contain each kind of fault.
const PHASE_KILLS_MIN: usize = 8;
/// Between the beginnings of two faults.
const GAP_MS: (u64, u64) = (1_500, 6_500);

/// A process that can be killed, paused and started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    Edge,
    ProcessorA,
    ProcessorB,
    Query,
    Broker,
    Database,
}

impl Target {
    pub const ALL: [Self; 6] =
        [Self::Edge, Self::ProcessorA, Self::ProcessorB, Self::Query, Self::Broker, Self::Database];
    /// Those of Millrace's own.
    pub const ROLES: [Self; 4] = [Self::Edge, Self::ProcessorA, Self::ProcessorB, Self::Query];

    pub fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::ProcessorA => "processor-a",
            Self::ProcessorB => "processor-b",
            Self::Query => "query",
            Self::Broker => "broker",
            Self::Database => "database",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9, and started again after `down`.
    Kill { target: Target, down: Duration },
    /// SIGTERM, and started again when it has ended.
    Restart { target: Target },
    /// SIGSTOP, and SIGCONT after `length`.
    Pause { target: Target, length: Duration },
    /// Nothing more fits into the archive's file system for `length`.
    DiskFull { length: Duration },
    /// The archive's object store answers nothing but errors for `length`, beside every third request that always fails.
    BucketAway { length: Duration },
    /// A workspace that has been written to before it existed is created.
    LateWorkspace,
}

/// Where the archive lies: one processor can't have two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveKind {
    /// A small tmpfs.
    Disk,
    /// An S3 that fails every third request.
    Bucket,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Since the phase began.
    pub at: Duration,
    pub fault: Fault,
}

/// One installation's life: faults under load, then it settles and is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    pub seed: u64,
    pub archive: ArchiveKind,
    /// How far back repeats are seen, `--dedupe-records`.
    pub dedupe_records: u32,
    pub steps: Vec<Step>,
    /// When the load ends.
    pub length: Duration,
}

/// Phases with the archive on disk and in a bucket in turn; `kills` in all of them together, or a few more.
pub fn plan(seed: u64, kills: usize) -> Vec<Phase> {
    let phases = kills.div_ceil(PHASE_KILLS_MAX).max(2);
    let kills = kills.div_ceil(phases).max(PHASE_KILLS_MIN);
    let random = Random::new(seed);
    let kinds = [ArchiveKind::Disk, ArchiveKind::Bucket].into_iter().cycle().take(phases);
    kinds.zip(1..).map(|(archive, number)| phase(random.fork(number), archive, kills)).collect()
}

fn phase(mut random: Random, archive: ArchiveKind, kills: usize) -> Phase {
    let seed = random.next();
    let mut faults = certain(archive, &mut random);
    let certain_kills = faults.iter().filter(|fault| fault.is_kill()).count();
    faults.extend((certain_kills..kills).map(|_| kill(any(&mut random), &mut random)));
    faults.extend((0..kills / 5).map(|_| other(archive, &mut random)));
    random.shuffle(&mut faults);
    let mut at = Duration::ZERO;
    let steps: Vec<Step> = faults
        .into_iter()
        .map(|fault| {
            at += ms(&mut random, GAP_MS);
            Step { at, fault }
        })
        .collect();
    let length = steps.iter().map(|step| step.at + step.fault.length()).max().unwrap_or_default();
    let dedupe_records = *random.pick(&[1_000_000, 5_000, 1_500]);
    Phase { seed, archive, dedupe_records, steps, length: length + ms(&mut random, GAP_MS) }
}

/// What each phase has, whatever the seed.
fn certain(archive: ArchiveKind, random: &mut Random) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Target::ALL.map(|target| kill(target, random)).into();
    faults.push(Fault::LateWorkspace);
    for target in [Target::ProcessorA, Target::ProcessorB] {
        faults.push(Fault::Restart { target });
    }
    faults.push(pause(*random.pick(&[Target::ProcessorA, Target::ProcessorB]), random));
    faults
        .push(pause(*random.pick(&[Target::Edge, Target::Query, Target::Broker, Target::Database]), random));
    faults.push(archive_fault(archive, random));
    faults
}

fn other(archive: ArchiveKind, random: &mut Random) -> Fault {
    match random.below(4) {
        0 => Fault::Restart { target: *random.pick(&Target::ALL) },
        1 => archive_fault(archive, random),
        _ => pause(any(random), random),
    }
}

fn kill(target: Target, random: &mut Random) -> Fault {
    // At once, as a supervisor does, or after a while in which others take over.
    let down = if random.chance(60) { (0, 500) } else { (1_000, 14_000) };
    Fault::Kill { target, down: ms(random, down) }
}

fn pause(target: Target, random: &mut Random) -> Fault {
    // One in four is longer than a transaction may be open too.
    let beyond = if random.chance(25) { (21_000, 26_000) } else { (2_000, 6_000) };
    Fault::Pause { target, length: SESSION_TIMEOUT + ms(random, beyond) }
}

fn archive_fault(archive: ArchiveKind, random: &mut Random) -> Fault {
    let length = ms(random, (4_000, 20_000));
    match archive {
        ArchiveKind::Disk => Fault::DiskFull { length },
        ArchiveKind::Bucket => Fault::BucketAway { length },
    }
}

/// Processors most often: they have the most to lose.
fn any(random: &mut Random) -> Target {
    match random.below(10) {
        0..3 => Target::ProcessorA,
        3..5 => Target::ProcessorB,
        5..7 => Target::Edge,
        7 => Target::Query,
        8 => Target::Broker,
        _ => Target::Database,
    }
}

fn ms(random: &mut Random, (first, last): (u64, u64)) -> Duration {
    Duration::from_millis(random.between(first, last))
}

impl Phase {
    pub fn kills(&self) -> usize {
        self.steps.iter().filter(|step| step.fault.is_kill()).count()
    }
}

impl Fault {
    pub fn is_kill(self) -> bool {
        matches!(self, Self::Kill { .. })
    }

    fn length(self) -> Duration {
        match self {
            Self::Kill { down: length, .. }
            | Self::Pause { length, .. }
            | Self::DiskFull { length }
            | Self::BucketAway { length } => length,
            Self::Restart { .. } | Self::LateWorkspace => Duration::ZERO,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { target, down } => write!(f, "kill -9 {}, down for {down:?}", target.name()),
            Self::Restart { target } => write!(f, "restart {}", target.name()),
            Self::Pause { target, length } => write!(f, "pause {} for {length:?}", target.name()),
            Self::DiskFull { length } => write!(f, "the archive's disk is full for {length:?}"),
            Self::BucketAway { length } => write!(f, "the archive's bucket is away for {length:?}"),
            Self::LateWorkspace => write!(f, "create the late workspace"),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { archive, dedupe_records, length, .. } = self;
        writeln!(
            f,
            "archive: {archive:?}, --dedupe-records {dedupe_records}, {} kills in {length:?}",
            self.kills()
        )?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{:>7.1} s  {}", step.at.as_secs_f64(), step.fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_one_plan() {
        assert_eq!(plan(7, 24), plan(7, 24));
        assert_ne!(plan(7, 24), plan(8, 24));
    }

    #[test]
    fn each_phase_has_each_kind_of_fault() {
        for seed in 0..50 {
            let phases = plan(seed, 24);
            assert_eq!(phases.iter().map(Phase::kills).sum::<usize>(), 24);
            assert_eq!(
                phases.iter().map(|phase| phase.archive).collect::<Vec<_>>(),
                [ArchiveKind::Disk, ArchiveKind::Bucket]
            );
            for phase in phases {
                let has = |wanted: &dyn Fn(Fault) -> bool| phase.steps.iter().any(|step| wanted(step.fault));
                for target in Target::ALL {
                    assert!(has(
                        &|fault| matches!(fault, Fault::Kill { target: killed, .. } if killed == target)
                    ));
                }
                assert!(has(
                    &|fault| matches!(fault, Fault::Pause { length, .. } if length > SESSION_TIMEOUT)
                ));
                assert!(has(&|fault| matches!(fault, Fault::DiskFull { .. } | Fault::BucketAway { .. })));
                assert!(has(&|fault| fault == Fault::LateWorkspace));
                assert!(phase.steps.iter().all(|step| step.at + step.fault.length() <= phase.length));
            }
        }
    }

    #[test]
    fn a_long_run_is_checked_now_and_then() {
        let phases = plan(1, 400);
        assert_eq!((phases.len(), phases.iter().map(Phase::kills).sum::<usize>()), (10, 400));
    }
}
