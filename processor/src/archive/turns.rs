//! Which chunk is written next, and when the next records must wait for it. Pure.

use super::{chunk::Limits, partition::Partition};
use std::collections::BTreeMap;

/// Chunks written at once, while others are filled.
pub const WRITERS: usize = 2;

/// What is to be done, with the chunk of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Begin to write it.
    Begin(i32),
    /// Write it once more, and do nothing else before it is there.
    Again(i32),
    /// Take no more records before it is written.
    Await(i32),
    Nothing,
}

/// A chunk that is closed waits for a writer, the oldest first. Where none is, but all together have taken half of their
/// memory, the largest is begun, so that it is there before the other half is taken.
pub fn next(partitions: &BTreeMap<i32, Partition>, limits: &Limits) -> Turn {
    let all = || partitions.iter().map(|(number, partition)| (*number, partition));
    if let Some((failed, _)) = all().find(|(_, partition)| partition.has_failed()) {
        return Turn::Again(failed);
    }
    let out: Vec<i32> = all().filter(|(_, partition)| partition.is_out()).map(|(number, _)| number).collect();
    if out.len() < WRITERS {
        let closed = all().filter_map(|(number, partition)| Some((partition.closed_since()?, number)));
        let filled: usize = all().map(|(_, partition)| partition.chunk.bytes()).sum();
        let largest = || {
            let open = all().filter(|(_, partition)| !partition.chunk.is_empty() && !partition.is_out());
            let largest = open.max_by_key(|(_, partition)| partition.chunk.bytes())?;
            (filled * 2 >= limits.all_bytes).then_some(largest.0)
        };
        if let Some(number) = closed.min().map(|(_, number)| number).or_else(largest) {
            return Turn::Begin(number);
        }
    }
    let held_up = all().filter(|(_, partition)| partition.is_held_up(limits)).map(|(number, _)| number);
    let held_up: Vec<i32> = held_up.collect();
    let held: usize = all().map(|(_, partition)| partition.bytes()).sum();
    if held_up.is_empty() && held < limits.all_bytes {
        return Turn::Nothing;
    }
    let own = held_up.iter().find(|number| out.contains(number));
    own.or_else(|| out.first()).map_or(Turn::Nothing, |number| Turn::Await(*number))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            chunk::{Chunk, tests::add},
            partition::Judged,
        },
        *,
    };
    use crate::settings::AdmissionSettings;
    use millrace_log::NextOffset;
    use std::time::{Duration, Instant};

    fn limits() -> Limits {
        Limits { records: 4, bytes: 1_000_000, files: 9, age: Duration::from_secs(30), all_bytes: 1_000_000 }
    }

    /// Partitions with so many records each, which came one second after one another.
    fn partitions(records: &[i64]) -> (BTreeMap<i32, Partition>, Instant) {
        let start = Instant::now();
        let mut at = start;
        let mut partitions = BTreeMap::new();
        for (number, count) in (0..).zip(records) {
            let settings = AdmissionSettings::default();
            let partition = Partition::archived_to(NextOffset::START, None, &settings, Judged::default());
            partitions.insert(number, partition);
            for _ in 0..*count {
                at += Duration::from_secs(1);
                fill(&mut partitions, number, 1, at);
            }
        }
        (partitions, at)
    }

    fn fill(partitions: &mut BTreeMap<i32, Partition>, number: i32, count: i64, at: Instant) {
        let chunk = &mut partitions.get_mut(&number).expect("there").chunk;
        (0..count).for_each(|_| add(chunk, (1, 1, chunk.to().get()), at));
    }

    fn close(partitions: &mut BTreeMap<i32, Partition>, now: Instant) {
        partitions.values_mut().for_each(|partition| partition.close_if_due(&limits(), now));
    }

    /// Does what is to be done, as far as it is begun.
    fn begin(partitions: &mut BTreeMap<i32, Partition>) -> Vec<(i32, Chunk)> {
        let mut begun = Vec::new();
        while let Turn::Begin(number) = next(partitions, &limits()) {
            begun.push((number, partitions.get_mut(&number).expect("there").hand_out()));
        }
        begun
    }

    fn numbers(begun: &[(i32, Chunk)]) -> Vec<i32> {
        begun.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn what_is_due_is_begun_the_oldest_first_and_no_more_than_there_are_writers() {
        let (mut partitions, now) = partitions(&[1, 4, 4, 0]);
        assert_eq!(next(&partitions, &limits()), Turn::Nothing);
        close(&mut partitions, now);
        assert_eq!(numbers(&begin(&mut partitions)), [1, 2]);
        close(&mut partitions, now + limits().age);
        assert_eq!(
            next(&partitions, &limits()),
            Turn::Nothing,
            "the old one waits for a writer, and nobody for it"
        );
    }

    #[test]
    fn a_chunk_that_waited_longer_goes_before_those_of_lower_numbers() {
        let (mut partitions, now) = partitions(&[4, 4, 4]);
        close(&mut partitions, now);
        let mut begun = begin(&mut partitions);
        fill(&mut partitions, 0, 4, now);
        let (number, chunk) = begun.remove(0);
        partitions.get_mut(&number).expect("there").written(chunk);
        close(&mut partitions, now);
        assert_eq!(next(&partitions, &limits()), Turn::Begin(2));
    }

    #[test]
    fn only_size_holds_records_up() {
        let (mut partitions, now) = partitions(&[4]);
        close(&mut partitions, now);
        let begun = begin(&mut partitions);
        fill(&mut partitions, 0, 3, now);
        close(&mut partitions, now + limits().age);
        assert_eq!(next(&partitions, &limits()), Turn::Nothing);
        fill(&mut partitions, 0, 1, now);
        close(&mut partitions, now);
        assert_eq!(next(&partitions, &limits()), Turn::Await(0));
        for (number, chunk) in begun {
            partitions.get_mut(&number).expect("there").written(chunk);
        }
        close(&mut partitions, now);
        assert_eq!(next(&partitions, &limits()), Turn::Begin(0));
    }

    #[test]
    fn what_has_failed_comes_before_all_else() {
        let (mut partitions, now) = partitions(&[4, 4, 4]);
        close(&mut partitions, now);
        let mut begun = begin(&mut partitions);
        let (number, chunk) = begun.remove(1);
        partitions.get_mut(&number).expect("there").failed(chunk);
        assert_eq!(next(&partitions, &limits()), Turn::Again(number));
    }

    #[test]
    fn at_half_of_the_memory_the_largest_is_begun_and_at_all_of_it_records_wait() {
        let (mut partitions, now) = partitions(&[1, 3, 2]);
        let filled: usize = partitions.values().map(|partition| partition.chunk.bytes()).sum();
        let half = Limits { all_bytes: filled * 2, ..limits() };
        assert_eq!(next(&partitions, &Limits { all_bytes: half.all_bytes + 2, ..half }), Turn::Nothing);
        assert_eq!(next(&partitions, &half), Turn::Begin(1));
        let chunk = partitions.get_mut(&1).expect("there").hand_out();
        assert_eq!(next(&partitions, &half), Turn::Nothing, "the others have less than half");
        fill(&mut partitions, 2, 3, now);
        assert_eq!(next(&partitions, &half), Turn::Begin(2));
        partitions.get_mut(&2).expect("there").hand_out();
        fill(&mut partitions, 0, 5, now);
        assert_eq!(next(&partitions, &half), Turn::Await(1), "all of it is taken, and no writer free");
        partitions.get_mut(&1).expect("there").written(chunk);
        assert_eq!(next(&partitions, &half), Turn::Begin(0));
    }
}
