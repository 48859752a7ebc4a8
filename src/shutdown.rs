//! SIGINT and SIGTERM: the first asks for a clean end, the second ends at once.

use std::{io, process};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// The exit code of a process that was interrupted, as shells have it (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

#[derive(Debug, thiserror::Error)]
#[error("listening to signals")]
pub struct Error(#[source] io::Error);

/// Listens until dropped.
pub struct Signals {
    token: CancellationToken,
    _listener: JoinSet<()>,
}

impl Signals {
    pub fn listen() -> Result<Self, Error> {
        let interrupts = signal(SignalKind::interrupt()).map_err(Error)?;
        let terminations = signal(SignalKind::terminate()).map_err(Error)?;
        let token = CancellationToken::new();
        let mut listener = JoinSet::new();
        listener.spawn(watch(interrupts, terminations, token.clone()));
        Ok(Self { token, _listener: listener })
    }

    /// Cancelled by the first signal.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}

async fn watch(mut interrupts: Signal, mut terminations: Signal, token: CancellationToken) {
    loop {
        tokio::select! {
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
        }
        if token.is_cancelled() {
            tracing::warn!("a second signal: ending at once");
            process::exit(INTERRUPTED.into());
        }
        tracing::info!("a signal: ending; a second one ends at once");
        token.cancel();
    }
}
