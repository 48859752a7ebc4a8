//! The two-way pipe between the relay, which is asynchronous, and the backend's own thread, which blocks on it. It
//! carries bytes and knows nothing of messages. A dropped future on the relay's side harms nothing.

use bytes::BytesMut;
use std::{
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Bytes of requests that may wait for the backend before the relay holds back.
const INPUT_MAX: usize = 1 << 20;
/// Bytes of answers that may wait for the relay before the backend's thread waits.
const OUTPUT_MAX: usize = 1 << 20;
/// The relay is woken for this much, or when the backend waits for more input: PostgreSQL's own send buffer.
const OUTPUT_WAKES: usize = 8 << 10;

#[derive(Debug, Default)]
struct State {
    input: BytesMut,
    output: BytesMut,
    /// The backend has read everything and waits.
    idle: bool,
    /// What happens to the backend at its next read or write.
    fate: Fate,
    /// The backend reads and writes no more.
    dead: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Fate {
    #[default]
    Live,
    /// No more input: it ends in order.
    End,
    /// Its input and output fail: it ends at once.
    Cut,
}

#[derive(Debug, Default)]
pub struct Pipe {
    state: Mutex<State>,
    backend: Condvar,
    relay: Notify,
}

/// What the relay finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    Bytes(BytesMut),
    Nothing,
    /// The backend is gone, and all it said was taken.
    Dead,
}

/// The relay's side.
impl Pipe {
    /// Takes over the bytes, unless too many wait already.
    pub fn offer(&self, bytes: &mut BytesMut) {
        let mut state = self.state();
        if bytes.is_empty() || state.input.len() >= INPUT_MAX {
            return;
        }
        state.idle = false;
        if state.input.is_empty() {
            std::mem::swap(&mut state.input, bytes);
        } else {
            state.input.extend_from_slice(&bytes.split());
        }
        self.backend.notify_one();
    }

    pub fn take(&self) -> Output {
        let mut state = self.state();
        if state.output.is_empty() {
            return if state.dead { Output::Dead } else { Output::Nothing };
        }
        let bytes = std::mem::take(&mut state.output);
        self.backend.notify_one();
        Output::Bytes(bytes)
    }

    /// Waits until there may be something new to offer or to take.
    pub async fn changed(&self) {
        self.relay.notified().await;
    }

    /// The backend has done all it was asked, and its answers were taken.
    pub fn is_idle(&self) -> bool {
        let state = self.state();
        state.idle && state.output.is_empty()
    }

    /// The backend is gone.
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// Lets the backend end once it has read everything.
    pub fn end(&self) {
        self.set_fate(Fate::End);
    }

    /// Ends the backend at its next read or write, whatever it is doing.
    pub fn cut(&self) {
        self.set_fate(Fate::Cut);
    }

    fn set_fate(&self, fate: Fate) {
        let mut state = self.state();
        if state.fate != Fate::Cut {
            state.fate = fate;
        }
        drop(state);
        self.backend.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The backend's side: it blocks.
impl Pipe {
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state();
        loop {
            if state.fate == Fate::Cut {
                return Err(cut());
            }
            if !state.input.is_empty() {
                return Ok(self.pass(&mut state, buffer));
            }
            state.idle = true;
            self.relay.notify_one();
            if state.fate == Fate::End {
                return Ok(0);
            }
            state = self.backend.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn pass(&self, state: &mut State, buffer: &mut [u8]) -> usize {
        let length = state.input.len().min(buffer.len());
        let was_full = state.input.len() >= INPUT_MAX;
        buffer[..length].copy_from_slice(&state.input.split_to(length));
        if was_full && state.input.len() < INPUT_MAX {
            self.relay.notify_one();
        }
        length
    }

    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        while state.output.len() >= OUTPUT_MAX && state.fate != Fate::Cut {
            state = self.backend.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.fate == Fate::Cut {
            return Err(cut());
        }
        state.output.extend_from_slice(bytes);
        if state.output.len() >= OUTPUT_WAKES {
            self.relay.notify_one();
        }
        Ok(bytes.len())
    }

    /// Its end is not a crash.
    pub fn was_asked_to_end(&self) -> bool {
        self.state().fate == Fate::End
    }

    /// The backend is gone.
    pub fn died(&self) {
        self.state().dead = true;
        self.relay.notify_one();
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the store ends this backend")
}
