//! How far each partition of a followed topic is read. The reader writes; requests and sockets look.

use crate::feed::Floors;
use millrace_schemas::EventTime;
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::watch;

/// A partition when its reading begins.
#[derive(Clone, Copy, Debug)]
pub struct Assigned {
    /// The first offset that is read.
    pub start: i64,
    /// Where the partition ends now (exclusive).
    pub end: i64,
    /// Records from here on are news.
    pub live_from: i64,
    /// Older records exist that are not read.
    pub is_cut: bool,
}

/// What is known of a record by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub live: bool,
    /// It is the first that was read of a partition that has older ones.
    pub is_cut: bool,
}

/// All partitions of one topic.
#[derive(Default)]
pub struct Positions {
    partitions: Mutex<Vec<Position>>,
    caught_up: AtomicBool,
    followed: watch::Sender<bool>,
}

struct Position {
    next: i64,
    end: i64,
    live_from: i64,
    is_cut: bool,
    /// Where the partition ended at start, until that is reached.
    target: Option<i64>,
    /// Nothing below is left, says the client. `next` alone can't tell: transactions end with a marker that is no record.
    read_up_to: i64,
    /// The log's append time of the newest record that was read.
    newest: Option<EventTime>,
}

/// What others see of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// One past its last record, as far as is known: the client is told every second.
    pub offset: i64,
    /// When its newest record came, by the log's clock; `None` if none was read.
    pub newest: Option<EventTime>,
}

impl Positions {
    pub fn count(&self) -> usize {
        self.partitions().len()
    }

    /// Further partitions, in their order.
    pub fn assigned(&self, new: &[Assigned]) {
        let mut partitions = self.partitions();
        partitions.extend(new.iter().map(|partition| Position {
            next: partition.start,
            end: partition.end,
            live_from: partition.live_from,
            is_cut: partition.is_cut,
            target: (partition.start < partition.end).then_some(partition.end),
            read_up_to: partition.start,
            newest: None,
        }));
        self.note_caught_up(&partitions);
        self.followed.send_replace(true);
    }

    /// Waits until the topic's end is known: a listener that came before could not be told what is new to it.
    pub async fn followed(&self) {
        let mut followed = self.followed.subscribe();
        followed.wait_for(|followed| *followed).await.expect("the sender is part of this");
    }

    /// The record at `offset` was read; `log_time` is when the log got it.
    pub fn read(&self, partition: i32, offset: i64, log_time: EventTime) -> Place {
        let mut partitions = self.partitions();
        let Some(position) = at(&mut partitions, partition) else {
            return Place { live: true, is_cut: false };
        };
        if offset < position.next {
            // The topic was made anew.
            position.end = offset;
        }
        position.newest = Some(log_time);
        position.next = offset + 1;
        position.read_up_to = position.next;
        position.end = position.end.max(position.next);
        let place =
            Place { live: offset >= position.live_from, is_cut: std::mem::take(&mut position.is_cut) };
        if position.target.is_some_and(|target| position.next >= target) {
            position.target = None;
            self.note_caught_up(&partitions);
        }
        place
    }

    /// Nothing is left to read for now.
    pub fn reached_end(&self, partition: i32) {
        let mut partitions = self.partitions();
        if let Some(position) = at(&mut partitions, partition) {
            position.target = None;
            self.note_caught_up(&partitions);
        }
    }

    /// The client said that the partition ends at `end`, and that nothing is left below `read_up_to` (both exclusive;
    /// negative where they are not known).
    pub fn ends_at(&self, partition: i32, end: i64, read_up_to: i64) {
        if let Some(position) = at(&mut self.partitions(), partition) {
            position.end = position.end.max(end);
            position.read_up_to = position.read_up_to.max(read_up_to);
        }
    }

    /// For a listener that comes now: what is in the log already, as far as is known, is not for it.
    pub fn floors(&self) -> Floors {
        self.partitions().iter().map(|position| position.end.max(position.next)).collect()
    }

    /// Where each partition ends, and when its newest record came.
    pub fn ends(&self) -> Vec<End> {
        let end =
            |position: &Position| End { offset: position.end.max(position.next), newest: position.newest };
        self.partitions().iter().map(end).collect()
    }

    /// Of each partition: one past the newest record, and up to where there is no other one that can be read.
    pub fn readable(&self) -> Vec<(i64, i64)> {
        self.partitions().iter().map(|position| (position.next, position.read_up_to)).collect()
    }

    /// Offsets that are not read yet.
    pub fn lag(&self) -> i64 {
        self.partitions().iter().map(|position| (position.end - position.read_up_to).max(0)).sum()
    }

    /// All that was there at start is read.
    pub fn caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    fn note_caught_up(&self, partitions: &[Position]) {
        if partitions.iter().all(|position| position.target.is_none()) {
            self.caught_up.store(true, Ordering::Release);
        }
    }

    fn partitions(&self) -> MutexGuard<'_, Vec<Position>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn at(partitions: &mut [Position], partition: i32) -> Option<&mut Position> {
    partitions.get_mut(usize::try_from(partition).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const OLD: Assigned = Assigned { start: 5, end: 8, live_from: 8, is_cut: true };
    const EMPTY: Assigned = Assigned { start: 0, end: 0, live_from: 0, is_cut: false };

    #[test]
    fn catches_up_when_each_partition_has_been_read_to_its_old_end() {
        let positions = Positions::default();
        assert!(!positions.caught_up(), "nothing is known yet");
        assert!(positions.followed().now_or_never().is_none());
        positions.assigned(&[OLD, EMPTY, OLD]);
        assert!(positions.followed().now_or_never().is_some());
        assert_eq!((positions.lag(), positions.floors()), (6, vec![8, 0, 8]));
        assert_eq!(positions.read(0, 5, EventTime(5)), Place { live: false, is_cut: true });
        assert_eq!(positions.read(0, 6, EventTime(6)), Place { live: false, is_cut: false });
        positions.ends_at(0, 8, 8); // offset 7 is a marker
        positions.reached_end(0);
        assert!(!positions.caught_up());
        positions.read(2, 7, EventTime(7));
        assert!(positions.caught_up());
        assert_eq!(positions.lag(), 0);
        positions.assigned(&[OLD]);
        assert!(positions.caught_up(), "it was once");
    }

    #[test]
    fn an_empty_topic_is_caught_up_with_at_once() {
        let positions = Positions::default();
        positions.assigned(&[EMPTY, EMPTY]);
        assert!(positions.caught_up());
    }

    #[test]
    fn a_listener_gets_nothing_that_was_there_before_it() {
        let positions = Positions::default();
        positions.assigned(&[OLD]);
        positions.reached_end(0);
        assert_eq!(positions.read(0, 8, EventTime(8)), Place { live: true, is_cut: true });
        positions.ends_at(0, 20, 8);
        assert_eq!((positions.floors(), positions.lag()), (vec![20], 11));
        positions.ends_at(0, -1001, -1001);
        positions.ends_at(7, 3, 3);
        positions.ends_at(0, 20, 20);
        assert_eq!((positions.floors(), positions.lag()), (vec![20], 0));
    }

    #[test]
    fn a_topic_made_anew_begins_anew() {
        let positions = Positions::default();
        positions.assigned(&[OLD]);
        positions.read(0, 7, EventTime(7));
        positions.read(0, 0, EventTime(0));
        assert_eq!((positions.floors(), positions.lag()), (vec![1], 0));
    }
}
