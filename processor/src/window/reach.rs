//! Which raw offsets are taken in, and which are in emitted rows: what the frames told, remembered until everything that
//! came with it and before it has been emitted.

use millrace_schemas::{partial::Header, progress::Source};
use std::collections::VecDeque;

/// The most frames remembered one by one. Further ones count as one with the last: known to be emitted a little later.
const FRAMES_MAX: usize = 1_000;

/// By raw partition, next offsets.
#[derive(Clone, Debug, Default)]
pub(super) struct Reach {
    taken: Vec<Option<i64>>,
    emitted: Vec<Option<i64>>,
    waiting: VecDeque<Frame>,
}

#[derive(Clone, Debug)]
struct Frame {
    /// The partials offset after it.
    end: i64,
    /// Raw partition and next offset; the later of a partition counts.
    told: Vec<(usize, i64)>,
}

impl Reach {
    /// At `position` of the partials partition, with what was told there or before.
    pub(super) fn resume(&mut self, position: i64, sources: &[Option<Source>]) {
        let each = |of: fn(&Source) -> Option<i64>| {
            sources.iter().map(|source| source.as_ref().and_then(of)).collect::<Vec<_>>()
        };
        self.taken = each(|source| source.taken);
        self.emitted = each(|source| source.emitted);
        let told = self.taken.iter().enumerate().filter_map(|(number, next)| Some((number, (*next)?)));
        self.waiting = VecDeque::from([Frame { end: position, told: told.collect() }]);
    }

    /// `end` is the partials offset after the frame.
    pub(super) fn observe(&mut self, end: i64, header: &Header) {
        let sources = usize::try_from(header.sources).unwrap_or(0);
        if sources > self.taken.len() {
            self.taken.resize(sources, None);
            self.emitted.resize(sources, None);
        }
        let told: Vec<(usize, i64)> = header
            .progress
            .iter()
            .filter_map(|progress| Some((usize::try_from(progress.partition).ok()?, progress.next_offset)))
            .filter(|(number, _)| *number < self.taken.len())
            .collect();
        for (number, next) in &told {
            self.taken[*number] = Some(*next);
        }
        let is_full = self.waiting.len() >= FRAMES_MAX;
        match self.waiting.back_mut() {
            Some(last) if is_full => {
                last.end = end;
                for (number, next) in told {
                    last.told.retain(|(known, _)| *known != number);
                    last.told.push((number, next));
                }
            }
            _ if told.is_empty() => {}
            _ => self.waiting.push_back(Frame { end, told }),
        }
    }

    /// All states before this partials offset are in rows.
    pub(super) fn emitted(&mut self, to: i64) {
        while let Some(frame) = self.waiting.pop_front_if(|frame| frame.end <= to) {
            for (number, next) in frame.told {
                self.emitted[number] = Some(next);
            }
        }
    }

    pub(super) fn taken(&self, source: usize) -> Option<i64> {
        self.taken.get(source).copied().flatten()
    }

    pub(super) fn emitted_of(&self, source: usize) -> Option<i64> {
        self.emitted.get(source).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_schemas::partial::Progress;

    fn header(told: &[(i32, i64)]) -> Header {
        let progress = told.iter().map(|(partition, next_offset)| Progress {
            partition: *partition,
            next_offset: *next_offset,
            max_event_time: None,
            idle: false,
        });
        Header { sources: 2, progress: progress.collect(), oldest_arrival: None }
    }

    fn emitted(reach: &Reach) -> [Option<i64>; 2] {
        [reach.emitted_of(0), reach.emitted_of(1)]
    }

    #[test]
    fn a_frame_is_emitted_when_all_before_its_end_is() {
        let mut reach = Reach::default();
        reach.observe(1, &header(&[(0, 10)]));
        reach.observe(2, &header(&[(0, 20), (1, 5)]));
        assert_eq!((reach.taken(0), emitted(&reach)), (Some(20), [None, None]));
        reach.emitted(0);
        assert_eq!(emitted(&reach), [None, None]);
        reach.emitted(1);
        assert_eq!(emitted(&reach), [Some(10), None]);
        reach.emitted(9);
        assert_eq!(emitted(&reach), [Some(20), Some(5)]);
    }

    #[test]
    fn what_was_taken_before_a_restart_is_emitted_with_all_before_its_position() {
        let mut reach = Reach::default();
        let source = Source { taken: Some(20), emitted: Some(10), max_event_time: None, idle: false };
        reach.resume(7, &[Some(source), None]);
        reach.observe(8, &header(&[(1, 3)]));
        reach.emitted(6);
        assert_eq!(emitted(&reach), [Some(10), None]);
        reach.emitted(7);
        assert_eq!(emitted(&reach), [Some(20), None]);
        reach.emitted(8);
        assert_eq!(emitted(&reach), [Some(20), Some(3)]);
    }

    #[test]
    fn holds_a_bounded_number_of_frames_and_is_late_rather_than_early() {
        let mut reach = Reach::default();
        let frames = i64::try_from(FRAMES_MAX).expect("small") + 10;
        for end in 1..=frames {
            reach.observe(end, &header(&[(0, end * 10)]));
        }
        assert_eq!(reach.waiting.len(), FRAMES_MAX);
        reach.emitted(frames - 1);
        assert_eq!(emitted(&reach)[0], Some((frames - 11) * 10));
        reach.emitted(frames);
        assert_eq!(emitted(&reach)[0], Some(frames * 10));
    }
}
