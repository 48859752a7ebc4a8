//! The embedded PostgreSQL and the thread that it runs on. It reads and writes a [`Pipe`]; what it is told is not its
//! business. When it crashes it is opened again, a limited number of times.

// The same platforms as in Cargo.toml: those with ahead-of-time artifacts.
#[cfg_attr(
    not(all(
        feature = "postgres",
        any(
            all(
                target_os = "linux",
                target_env = "gnu",
                any(target_arch = "x86_64", target_arch = "aarch64")
            ),
            all(target_os = "macos", target_arch = "aarch64")
        )
    )),
    path = "engine/absent.rs"
)]
mod wasix;

pub use wasix::{SUPPORTED, start};

use crate::{Error, pipe::Pipe};
use std::sync::Arc;
use tokio::sync::mpsc;

/// What the engine's thread reports.
#[derive(Debug)]
pub enum Event {
    /// A backend reads and writes this pipe; `greeting` is what it said to the start-up message.
    Opened { pipe: Arc<Pipe>, greeting: Vec<u8> },
    /// It crashed; another one will be opened.
    Crashed,
    /// It can't be opened again for want of space on the disk; that is tried until there is some.
    NoSpace,
    /// It ended in order, as it was asked to: the last event.
    Closed,
    /// It can't be opened, or crashes too often: the last event.
    Failed(Error),
}

/// Events that may wait for the relay.
const EVENTS_MAX: usize = 16;

pub fn events() -> (mpsc::Sender<Event>, mpsc::Receiver<Event>) {
    mpsc::channel(EVENTS_MAX)
}
