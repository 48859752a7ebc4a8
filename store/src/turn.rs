//! Handing the backend from one to the next, as [`Schedule`] decides: waiting for a turn, having it, giving it back.
//! Whatever future is dropped at whatever point, the backend goes on to the next.

use crate::{
    backend::Backend,
    schedule::{Priority, QueueFull, Schedule, Ticket},
};
use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

#[derive(Debug)]
pub struct Turns {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    schedule: Schedule,
    backend: Option<Backend>,
    promised: HashMap<Ticket, oneshot::Sender<Backend>>,
    /// There will be no backend any more.
    closed: bool,
}

impl Turns {
    /// No backend yet: everybody waits until [`Self::free`] brings one.
    pub fn new(waiting_max: usize) -> Arc<Self> {
        let schedule = Schedule::new(waiting_max);
        let state = State { schedule, backend: None, promised: HashMap::new(), closed: false };
        Arc::new(Self { state: Mutex::new(state) })
    }

    pub fn join(self: &Arc<Self>, priority: Priority) -> Result<Waiting, QueueFull> {
        let (promise, granted) = oneshot::channel();
        let mut state = self.state();
        let ticket = state.schedule.join(priority)?;
        if !state.closed {
            state.promised.insert(ticket, promise);
            state.hand_over();
        }
        drop(state);
        Ok(Waiting { ticket, granted, turns: Arc::clone(self) })
    }

    /// A backend for the next in line: a new one, or one whose holder is done. A dead one is dropped.
    pub fn free(&self, backend: Backend) {
        if backend.pipe.is_dead() {
            return;
        }
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.backend = Some(backend);
        state.schedule.freed();
        state.hand_over();
    }

    /// There will be no backend any more: nobody waits for one in vain.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.backend = None;
        state.schedule.lost();
        state.promised.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives the backend to whom the schedule names; one who left meanwhile is passed over.
    fn hand_over(&mut self) {
        while let Some(backend) = self.backend.take() {
            if backend.pipe.is_dead() {
                self.schedule.lost();
                return;
            }
            let Some(ticket) = self.schedule.next() else {
                self.backend = Some(backend);
                return;
            };
            let refused = match self.promised.remove(&ticket) {
                Some(promise) => promise.send(backend).err(),
                None => Some(backend),
            };
            if let Some(backend) = refused {
                self.backend = Some(backend);
                self.schedule.freed();
            }
        }
    }
}

/// A place in the queue; dropped, it is free for others.
#[derive(Debug)]
pub struct Waiting {
    ticket: Ticket,
    granted: oneshot::Receiver<Backend>,
    turns: Arc<Turns>,
}

impl Waiting {
    /// Waits for the turn; may be dropped and called again. None when there will be no backend any more.
    pub async fn turn(&mut self) -> Option<Turn> {
        let backend = (&mut self.granted).await.ok()?;
        Some(Turn { backend: Some(backend), turns: Arc::clone(&self.turns) })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        state.schedule.leave(self.ticket);
        state.promised.remove(&self.ticket);
        drop(state);
        self.granted.close();
        if let Ok(backend) = self.granted.try_recv() {
            self.turns.free(backend);
        }
    }
}

/// The backend, for as long as this is held.
#[derive(Debug)]
pub struct Turn {
    backend: Option<Backend>,
    turns: Arc<Turns>,
}

impl Deref for Turn {
    type Target = Backend;

    fn deref(&self) -> &Backend {
        self.backend.as_ref().expect("it is taken only when the turn is dropped")
    }
}

impl DerefMut for Turn {
    fn deref_mut(&mut self) -> &mut Backend {
        self.backend.as_mut().expect("it is taken only when the turn is dropped")
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(backend) = self.backend.take() {
            self.turns.free(backend);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_waits_for_a_backend_that_never_comes() {
        let turns = Turns::new(10);
        let mut before = turns.join(Priority::Client).unwrap();
        turns.close();
        assert!(before.turn().await.is_none());
        assert!(turns.join(Priority::Own).unwrap().turn().await.is_none());
    }
}
