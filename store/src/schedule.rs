//! Who is served next: the decision alone, as a state machine of tickets. First come, first served; housekeeping waits
//! for a moment in which nobody else does. It doesn't know what is handed out.

use std::collections::VecDeque;

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// In order of arrival, within the limit.
    Client,
    /// What the store itself must do: as a client, but never refused.
    Own,
    /// Only when nobody else waits.
    Idle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{limit} clients wait for the backend already")]
pub struct QueueFull {
    pub limit: usize,
}

#[derive(Debug)]
pub struct Schedule {
    limit: usize,
    next: u64,
    free: bool,
    waiting: VecDeque<Ticket>,
    idle: VecDeque<Ticket>,
}

impl Schedule {
    /// Nothing to hand out yet; at most `limit` clients wait.
    pub fn new(limit: usize) -> Self {
        Self { limit, next: 0, free: false, waiting: VecDeque::new(), idle: VecDeque::new() }
    }

    /// Queues up; [`Self::next`] says whose turn it is.
    pub fn join(&mut self, priority: Priority) -> Result<Ticket, QueueFull> {
        if priority == Priority::Client && self.waiting.len() >= self.limit {
            return Err(QueueFull { limit: self.limit });
        }
        self.next += 1;
        let ticket = Ticket(self.next);
        match priority {
            Priority::Client | Priority::Own => self.waiting.push_back(ticket),
            Priority::Idle => self.idle.push_back(ticket),
        }
        Ok(ticket)
    }

    /// Gives up waiting; false where the turn was given to it already.
    pub fn leave(&mut self, ticket: Ticket) -> bool {
        let before = self.waiting.len() + self.idle.len();
        self.waiting.retain(|other| *other != ticket);
        self.idle.retain(|other| *other != ticket);
        self.waiting.len() + self.idle.len() < before
    }

    /// The backend is free.
    pub fn freed(&mut self) {
        self.free = true;
    }

    /// The free backend is gone: nobody is served until there is another one.
    pub fn lost(&mut self) {
        self.free = false;
    }

    /// Hands the free backend to the next in line.
    pub fn next(&mut self) -> Option<Ticket> {
        if !self.free {
            return None;
        }
        let ticket = self.waiting.pop_front().or_else(|| self.idle.pop_front())?;
        self.free = false;
        Some(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule() -> Schedule {
        let mut schedule = Schedule::new(2);
        schedule.freed();
        schedule
    }

    #[test]
    fn the_first_comes_first_and_housekeeping_last() {
        let mut schedule = schedule();
        let idle = schedule.join(Priority::Idle).unwrap();
        let first = schedule.join(Priority::Client).unwrap();
        let second = schedule.join(Priority::Client).unwrap();
        for expected in [first, second, idle] {
            assert_eq!(schedule.next(), Some(expected));
            assert_eq!(schedule.next(), None, "it is handed out once");
            schedule.freed();
        }
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn the_queue_is_limited_for_clients_only() {
        let mut schedule = schedule();
        schedule.join(Priority::Client).unwrap();
        schedule.join(Priority::Client).unwrap();
        assert_eq!(schedule.join(Priority::Client), Err(QueueFull { limit: 2 }));
        schedule.join(Priority::Own).unwrap();
    }

    #[test]
    fn who_leaves_is_skipped() {
        let mut schedule = schedule();
        let first = schedule.join(Priority::Client).unwrap();
        let second = schedule.join(Priority::Client).unwrap();
        assert!(schedule.leave(first));
        assert_eq!(schedule.next(), Some(second));
        assert!(!schedule.leave(second), "it has its turn");
    }

    proptest! {
        /// Whatever happens, at most one holds the backend and nobody in the queue is forgotten.
        #[test]
        fn one_holder_and_none_forgotten(steps in prop::collection::vec(0u8..4, 0..200)) {
            let mut schedule = Schedule::new(usize::MAX);
            schedule.freed();
            let (mut queued, mut holder) = (Vec::new(), None);
            for step in steps {
                match step {
                    0 => queued.push(schedule.join(Priority::Client).unwrap()),
                    1 if !queued.is_empty() => { schedule.leave(queued.remove(0)); }
                    2 if holder.take().is_some() => schedule.freed(),
                    _ => {}
                }
                if let Some(ticket) = schedule.next() {
                    prop_assert!(holder.replace(ticket).is_none());
                    prop_assert_eq!(queued.remove(0), ticket);
                }
                prop_assert!(holder.is_some() || queued.is_empty());
            }
        }
    }
}
