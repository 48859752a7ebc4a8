//! How a connection ends: why, its last words, and what it leaves in the shared session.

use super::outgoing::Outgoing;
use crate::{
    hub::{Hub, TurnError},
    schedule::Priority,
    session::{Lock, Session, SessionError},
    turn::Turn,
    wire,
};
use bytes::BytesMut;
use std::{io, sync::Arc, time::Duration};
use tokio::{net::UnixStream, time::timeout};

/// For the last words to a client.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a connection ends.
#[derive(Debug)]
pub enum End {
    /// It is gone.
    Gone,
    /// It said good-bye, and all it asked for is done.
    Done,
    Fatal {
        code: &'static str,
        message: String,
    },
    /// As `Fatal`, but in place of what it hasn't read.
    Cut {
        code: &'static str,
        message: String,
    },
}

impl End {
    pub fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self::Fatal { code, message: message.into() }
    }

    pub fn dead() -> Self {
        Self::fatal("57P01", "terminating connection because the embedded database restarts")
    }
}

impl From<SessionError> for End {
    fn from(error: SessionError) -> Self {
        let code = match error {
            SessionError::Frame(_) | SessionError::Unexpected(_) => "08P01",
            SessionError::Statements(_) => "53400",
        };
        Self::fatal(code, error.to_string())
    }
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// Sends the last words, in so far as the client takes them.
pub async fn farewell(stream: UnixStream, mut outgoing: Outgoing, end: &End) {
    if matches!(end, End::Gone) {
        return;
    }
    let write = async {
        while !outgoing.is_empty() {
            stream.writable().await?;
            match stream.try_write(outgoing.bytes()) {
                Ok(count) => outgoing.sent(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    if !matches!(timeout(FAREWELL, write).await, Ok(Ok(()))) {
        tracing::debug!("a client did not take its last message");
    }
}

/// Ends the client's transaction and closes its statements.
pub async fn tidy(hub: &Arc<Hub>, held: Option<Turn>, session: &mut Session) -> Result<(), TurnError> {
    let mut turn = match held {
        Some(turn) => turn,
        None if session.has_statements() && !hub.closing.is_cancelled() => {
            hub.own_turn(Priority::Own).await?
        }
        None => return Ok(()),
    };
    hub.settle(&mut turn).await?;
    if std::mem::take(&mut session.changes_settings) {
        turn.applied.changed(0);
    }
    if std::mem::take(&mut session.lock) != Lock::None {
        turn.run("SELECT pg_advisory_unlock_all()").await?;
    }
    let mut request = BytesMut::new();
    session.close_all(&mut request);
    if !request.is_empty() {
        wire::put_sync(&mut request);
        turn.request(request).await?;
    }
    Ok(())
}
